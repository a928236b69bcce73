"""Devices that talk to an API from outside, as apps do: one over HTTP, and a fleet of them under faults with a verdict."""
