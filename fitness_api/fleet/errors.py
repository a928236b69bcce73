"""What can go wrong before a device can sync.

FleetError
  └─ EnrolmentRefused  the API is not there, or refused an account, a login or a device
"""


class FleetError(Exception):
    """Base of these errors; never raised itself."""


class EnrolmentRefused(FleetError):
    """The message is for the terminal."""
