"""Signing in with Google, Apple, or any OpenID provider: we are the client."""
