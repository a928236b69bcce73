"""What of each collection goes into an export as rows, and what is withheld, with the reason.

Documents, tracks and imports, whose records say little as they are, have holdings of their own (`holdings`). A new collection
joins TABLES, a holding, or LEFT_OUT: until then a test fails. Nothing is shown that is not listed, so that a secret is not
exported by being forgotten.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Table(NamedTuple):
    """Rows of one collection that have the account's `user_id`.

    shown: names of fields, `outer.inner` within objects and lists, or where it reads badly `field as name`.
    withheld: the reason by the field's name.
    """

    collection: str
    entry: str
    shown: tuple[str, ...]
    withheld: Mapping[str, str] = {}


_IS_THE_KEY: Final = "It repeats other fields of the row."

TABLES: Final[tuple[Table, ...]] = (
    Table(
        "accounts",
        "account/profile.json",
        (
            "user_id",
            "email",
            "email_verified",
            "created_at",
            "version",
            "display_name",
            "timezone",
            "locale",
            "units",
            "hr_max_bpm",
            "hr_rest_bpm",
            "sex",
            "birth_year",
            "granted_scopes",
            "heart_rates",
            "email_change",
            "identities.identity_id",
            "identities.issuer",
            "identities.subject",
            "identities.email",
            "identities.linked_at",
        ),
        {"_id": _IS_THE_KEY, "password_hash": "Whoever has the hash of a password can try to guess it."},
    ),
    Table("emails", "account/addresses.ndjson", ("_id as address",)),
    Table(
        "identities",
        "account/identities.ndjson",
        ("claimed_at",),
        {"_id": "It is the hash of issuer and subject, which the account's row lists."},
    ),
    Table(
        "sessions",
        "account/sessions.ndjson",
        (
            "session_id",
            "client_id",
            "scopes",
            "user_agent",
            "authenticated_at",
            "used_at",
            "expires_at",
            "ends_at",
            "counter",
            "seen_generation",
            "methods",
            "key_thumbprint",
        ),
        {"_id": _IS_THE_KEY},
    ),
    Table(
        "devices",
        "account/devices.ndjson",
        ("device_id", "installation_id", "replica", "details", "push", "created_at", "updated_at"),
        {"_id": _IS_THE_KEY},
    ),
    Table(
        "push_addresses",
        "account/push_addresses.ndjson",
        ("device_id", "kind", "value", "updated_at"),
        {"_id": "It is the hash of the address, by which it is found."},
    ),
    Table(
        "audit",
        "account/audit.ndjson",
        ("at", "kind", "address", "user_agent", "session_id", "details"),
        {"_id": _IS_THE_KEY},
    ),
    Table(
        "mail_outbox",
        "account/mail.ndjson",
        ("kind", "address", "details", "created_at", "due_at", "expires_at", "tries"),
        {"_id": "It tells nothing that the other fields do not."},
    ),
    Table(
        "second_factors",
        "account/second_factors.json",
        (
            "version",
            "totp.since_ms",
            "totp.last_step",
            "begun.expires_at_ms",
            "wrong_codes",
            "wrong_at_ms",
            "recovery_made_at_ms",
            "passkeys.id",
            "passkeys.name",
            "passkeys.credential_id",
            "passkeys.public_key",
            "passkeys.sign_count",
            "passkeys.synced",
            "passkeys.backed_up",
            "passkeys.transports",
            "passkeys.aaguid",
            "passkeys.created_at_ms",
            "passkeys.used_at_ms",
        ),
        {
            "_id": _IS_THE_KEY,
            "totp.sealed": "Whoever has the secret of an authenticator app is a second factor.",
            "begun.sealed": "Whoever has the secret of an authenticator app is a second factor.",
            "recovery_digests": "Whoever has the hash of a code can try to guess it.",
        },
    ),
    Table(
        "single_use",
        "account/pending.ndjson",
        ("expires_at", "used_at"),
        {
            "_id": "It is what a link or a code is known by, which is worth something until it expires.",
            "content": "What a link or a code is for; it is gone when it expires.",
            "note": "What a link or a code was redeemed for; it is gone when it expires.",
        },
    ),
    Table(
        "workout_facts",
        "account/statistics.ndjson",
        ("_id as workout",),
        {
            "user_id": _IS_THE_KEY,
            "facts": "What statistics are reckoned from; it follows from the documents and samples of this export.",
            "epoch": "How far the facts follow the documents.",
            "seq": "How far the facts follow the documents.",
            "version": "How far the facts follow the documents.",
        },
    ),
)

# What is neither exported nor erased, and why: collections of which no row is about a person, or not for longer than a moment.
LEFT_OUT: Final[Mapping[str, str]] = {
    "device_grants": "What a device that asks to be let in waits for: gone within half an hour, and nobody's until it is approved.",
    "leases": "Who does a thing at this moment; gone within minutes.",
    "oauth_clients": "Other makers' apps, as an operator registered them.",
    "signing_keys": "The server's own keys.",
    "sync_epochs": "One number of the whole server.",
}
