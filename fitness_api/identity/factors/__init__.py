"""Second factors and passkeys: codes from an app, recovery codes, and keys that never leave their device."""
