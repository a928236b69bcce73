"""Composition of the gateway: `build(settings, open_resources)` gives an ASGI application."""
