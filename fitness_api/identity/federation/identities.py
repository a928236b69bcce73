"""Whose account an identity of another issuer is. An identity is (issuer, subject), never an address."""

from hashlib import sha256
from typing import Final

from msgspec import Struct

from fitness_api.errors import InvalidBody
from fitness_api.identity.accounts import normalised_address
from fitness_api.identity.federation.id_tokens import Claims
from fitness_api.identity.federation.providers import Provider

MAX_IDENTITIES: Final = 10  # of one account: more than anybody has, and few enough to stand in its row


class Identity(Struct, frozen=True, kw_only=True):
    """email: as the issuer said when it was linked, for its owner to know it by; it means nothing here."""

    identity_id: str
    issuer: str
    subject: str
    email: str | None
    linked_at_ms: int

    @property
    def key(self) -> str:
        return key_of(self.issuer, self.subject)


class Holder(Struct, frozen=True, kw_only=True):
    """What of an account decides who may log in to it. `version` counts the changes of all this."""

    user_id: str
    email_verified: bool
    has_password: bool
    identities: tuple[Identity, ...]
    version: int

    def has(self, key: str) -> bool:
        return any(identity.key == key for identity in self.identities)

    def has_of(self, issuer: str) -> bool:
        return any(identity.issuer == issuer for identity in self.identities)


class LogIn(Struct, frozen=True):
    """The identity is the account's."""

    user_id: str


class Make(Struct, frozen=True):
    """Nobody has the identity, nor its address."""

    address: str


class Join(Struct, frozen=True):
    """The account is this person's beyond doubt; make the identity its, then log in."""

    user_id: str


class TakeOver(Struct, frozen=True):
    """The address was never verified, so that anybody may have made the account: end every way into it but this one."""

    user_id: str


class Refuse(Struct, frozen=True):
    """Only who can log in to the account by other means may link the identity to it."""


Decision = LogIn | Make | Join | TakeOver | Refuse


def key_of(issuer: str, subject: str) -> str:
    """Return the identity's name over all accounts; neither part can hold the separator."""
    return sha256(f"{issuer}\0{subject}".encode()).hexdigest()


def vouched_address(claims: Claims, provider: Provider) -> str | None:
    """Return the address, normalised, if the issuer says and may be believed that it is this person's."""
    if not (provider.verifies_addresses and claims.email_verified and claims.email is not None):
        return None
    try:
        return normalised_address(claims.email)
    except InvalidBody:
        return None


def decide(claims: Claims, provider: Provider, *, owner: Holder | None, holder: Holder | None) -> Decision:
    """Say what a sign-in does. owner: whose the identity is; holder: whose its address is.

    The pre-hijacking attacks that this refuses are those of Sudhodanan and Paverd, "Pre-hijacked accounts" (USENIX
    Security 2022): an account that somebody else made under a person's address must never become that person's
    with the other one's ways in still open.
    """
    address = vouched_address(claims, provider)
    key = key_of(claims.issuer, claims.subject)
    # Also where the identity is the account's already: an earlier sign-in was cut off.
    is_free_or_theirs = owner is None or (holder is not None and owner.user_id == holder.user_id)
    if holder is not None and address is not None and not holder.email_verified and is_free_or_theirs:
        return TakeOver(holder.user_id)
    if owner is not None:
        return LogIn(owner.user_id)
    if address is None:
        return Refuse()
    if holder is None:
        return Make(address)
    if holder.has(key):
        return Join(holder.user_id)  # a login that was cut off in between
    # Another subject of the same issuer with the same address: the address was given to another person.
    if provider.is_authoritative(address, claims.hosted_domain) and not holder.has_of(claims.issuer):
        return Join(holder.user_id)
    return Refuse()
