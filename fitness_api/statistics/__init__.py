"""What recordings and logs add up to. Pure: samples, profiles and calendars come in as values."""
