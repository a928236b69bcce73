"""Mail to people: what is written, where it waits, and how it leaves."""
