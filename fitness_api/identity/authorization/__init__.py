"""Our own authorization server: who may ask for tokens, by which grants, and what a user allows."""
