"""Everything that we hold of an account, as one zip that is streamed."""
