"""Who is calling: accounts, passwords, sessions, access and refresh tokens, signing keys, devices."""
