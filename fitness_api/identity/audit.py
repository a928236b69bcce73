"""What an account's owner, and who answers for the service, may want to know later: the events of its security."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Kind = Literal[
    "registered",
    "identity_linked",
    "identity_unlinked",
    "account_taken_over",
    "logged_in",
    "login_failed",
    "session_ended",
    "refresh_token_replayed",
    "client_authorized",
    "device_authorized",
    "code_replayed",
    "service_scopes_granted",
    "service_scopes_withdrawn",
    "mfa_failed",
    "mfa_guessed",
    "totp_added",
    "totp_removed",
    "passkey_added",
    "passkey_removed",
    "recovery_codes_renewed",
    "recovery_code_used",
    "email_verified",
    "email_change_asked",
    "email_changed",
    "password_changed",
    "password_reset",
    "exported",
]


class Origin(Struct, frozen=True):
    """Where a request came from: the client's address, "" where there is none, and what its User-Agent header said."""

    address: str = ""
    user_agent: str = ""


class AuditEvent(Struct, frozen=True, kw_only=True):
    """`details` is for people to read, and holds no secret."""

    event_id: str
    user_id: str
    at_ms: int
    kind: Kind
    origin: Origin
    session_id: str | None = None
    details: Mapping[str, str] = {}
