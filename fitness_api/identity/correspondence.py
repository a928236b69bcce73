"""What we write to an account's owner, and when: links that were asked for, and notices of what happened to its security.

A letter's occasion waits in the outbox; here it becomes a letter when it leaves. A link's secret is made then, so that none rests
anywhere but in the mail. Delivered twice, a letter holds another secret each time; the first that is redeemed ends the others.
"""

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Final, cast

from msgspec import Struct, json

from fitness_api.identity import accounts, single_use
from fitness_api.identity.accounts import Account
from fitness_api.identity.audit import AuditEvent
from fitness_api.identity.audit_store import AuditStore
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.recovery_store import EmailChange, RecoveryStore, Side
from fitness_api.identity.single_use import Artefact, SingleUse
from fitness_api.identity.store import Store
from fitness_api.mail import templates
from fitness_api.mail.errors import MailDeferred, OutboxUnavailable
from fitness_api.mail.letter import Letter
from fitness_api.mail.outbox import Outbox, Outgoing
from fitness_api.mail.templates import Seen
from fitness_api.mail.wording import LetterKind

# Kinds of letters, and of the artefacts that their links redeem.
VERIFY: Final = "verify_email"
RESET: Final = "reset_password"
CHANGE_KINDS: Final[Mapping[str, Side]] = {"change_email_here": "here", "change_email_there": "there"}

VERIFY_MS: Final = 24 * 3600 * 1000  # a mail is read in the evening; a new one is quickly asked for
RESET_MS: Final = 3600 * 1000  # whoever asked is waiting for it (ASVS 5.0 6.4.1: short)
CHANGE_MS: Final = 24 * 3600 * 1000  # two mailboxes, perhaps at two desks

# What its owner is written of, and by which letter. Everything else is in the log for whoever looks.
NOTICES: Final[Mapping[str, LetterKind]] = {
    "logged_in": "new_login",
    "refresh_token_replayed": "session_stolen",
    "email_changed": "email_changed",
    "password_changed": "password_changed",
    "password_reset": "password_reset",
    "mfa_guessed": "codes_guessed",
    "totp_added": "factor_added",
    "totp_removed": "factor_removed",
    "recovery_codes_renewed": "recovery_codes_renewed",
    "recovery_code_used": "recovery_code_used",
    "passkey_added": "passkey_added",
    "passkey_removed": "passkey_removed",
    "identity_linked": "identity_linked",
    "identity_unlinked": "identity_unlinked",
    "account_taken_over": "account_taken_over",
    "client_authorized": "client_authorised",
    "device_authorized": "client_authorised",
    "exported": "exported",
}

# What is in the log alone, and why.
UNTOLD: Final[Mapping[str, str]] = {
    "registered": "it sends the link that proves the address instead",
    "login_failed": "strangers cause it, as often as they like",
    "mfa_failed": "the same; that somebody knows the password is told by no mail, as the owner's own slips would be",
    "session_ended": "by its own hand, or told as what ended it",
    "code_replayed": "the app's login ended, and begins anew",
    "service_scopes_granted": "by an operator",
    "service_scopes_withdrawn": "by an operator",
    "email_verified": "whoever did it had the mail",
    "email_change_asked": "both addresses get its links",
}

# How far back a device is looked for among the logins. More than a person's devices log in within months.
LOOK_BACK: Final = 200
# An address that nobody proved may be a stranger's, who is not to be flooded by what somebody does to an account of his own.
MAX_UNPROVED_A_DAY: Final = 3
_DAY_MS: Final = 24 * 3600 * 1000

_PAGES: Final = {VERIFY: "verify", RESET: "reset", **dict.fromkeys(CHANGE_KINDS, "verify")}


class Linked(Struct, frozen=True, kw_only=True):
    """What a link's artefact holds. address: the one that it proves, as addresses are compared."""

    address: str
    change_id: str = ""

    @classmethod
    def read(cls, artefact: Artefact) -> "Linked":
        return json.decode(artefact.content, type=cls)


class Correspondence:
    """public_url: where links lead. service: what we call ourselves. wake: called when there is something to send; it must neither wait nor raise."""

    def __init__(
        self,
        store: Store,
        recovery: RecoveryStore,
        artefacts: SingleUse,
        audit: AuditStore,
        outbox: Outbox,
        *,
        public_url: str,
        service: str,
        wake: Callable[[], None] = lambda: None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._store = store
        self._recovery = recovery
        self._artefacts = artefacts
        self._audit = audit
        self._outbox = outbox
        self._public_url = public_url.rstrip("/")
        self._service = service
        self.wake = wake
        self._now_ms = now_ms

    async def ask(self, kind: str, mail_id: str, *, user_id: str | None = None, address: str | None = None) -> None:
        """Have a link sent, to the account's address or, if it is an account's, to this one. Raises StoreUnavailable."""
        await self._put(
            Outgoing(mail_id=mail_id, kind=kind, user_id=user_id, address=address, created_at_ms=self._now_ms())
        )

    async def announce(self, event: AuditEvent) -> None:
        """Write to the owner of what was recorded, where he is to know. Raises StoreUnavailable."""
        if event.kind == "registered":
            await self.ask(VERIFY, f"{VERIFY}:{event.user_id}", user_id=event.user_id)
        if event.kind in NOTICES:
            await self._put(_notice(event))
        if event.kind == "email_changed" and "told" in event.details:
            await self._put(_notice(event, event.details["old_address"]))

    async def compose(self, outgoing: Outgoing) -> Letter | None:
        """Return the letter; None where there is nobody to write to, or nothing to say any more. Raises MailDeferred."""
        try:
            account = await self._account(outgoing)
            if account is None:
                return None
            if outgoing.kind in {VERIFY, RESET}:
                return await self._link_to(account, outgoing.kind)
            if outgoing.kind in CHANGE_KINDS:
                return await self._change_of(account, outgoing)
            return await self._notice_to(account, outgoing)
        except StoreUnavailable as error:
            raise MailDeferred(str(error)) from error

    async def _put(self, outgoing: Outgoing) -> None:
        try:
            await self._outbox.put(outgoing)
        except OutboxUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        self.wake()

    async def _account(self, outgoing: Outgoing) -> Account | None:
        user_id = outgoing.user_id
        if user_id is None:
            known = await self._store.credentials(outgoing.address or "")
            user_id = None if known is None else known.user_id
        return None if user_id is None else await self._store.account(user_id)

    async def _link_to(self, account: Account, kind: str) -> Letter | None:
        if kind == VERIFY and account.email_verified:
            return None
        # To the account's address as its owner typed it: another that only looks like it is another's.
        linked = Linked(address=accounts.normalised_address(account.email))
        span_ms = VERIFY_MS if kind == VERIFY else RESET_MS
        return await self._with_link(account, kind, linked, to=account.email, span_ms=span_ms)

    async def _change_of(self, account: Account, outgoing: Outgoing) -> Letter | None:
        change = await self._recovery.pending_change(account.user_id, now_ms=self._now_ms())
        if change is None or outgoing.mail_id != f"{outgoing.kind}:{change.change_id}":
            return None
        linked = Linked(address=change.address, change_id=change.change_id)
        is_there = CHANGE_KINDS[outgoing.kind] == "there"
        if is_there and await self._is_taken(change, account):
            return templates.letter(
                "address_in_use",
                to=change.email,
                language=templates.language_of(account.locale),
                service=self._service,
            )
        return await self._with_link(
            account,
            outgoing.kind,
            linked,
            to=change.email if is_there else account.email,
            span_ms=change.expires_at_ms - self._now_ms(),
            # A mailbox that was never proved to be the owner's need not learn where he is.
            new_address=change.email if account.email_verified else "…",
        )

    async def _is_taken(self, change: EmailChange, account: Account) -> bool:
        owner = await self._store.credentials(change.address)
        return owner is not None and owner.user_id != account.user_id

    async def _with_link(
        self, account: Account, kind: str, linked: Linked, *, to: str, span_ms: int, new_address: str = ""
    ) -> Letter:
        secret = single_use.secret()
        await self._artefacts.add(
            Artefact(
                kind=kind,
                digest=single_use.digest_of(secret),
                user_id=account.user_id,
                content=json.encode(linked),
                expires_at_ms=self._now_ms() + span_ms,
            )
        )
        language = templates.language_of(account.locale)
        return templates.letter(
            cast("LetterKind", kind),
            to=to,
            language=language,
            service=self._service,
            link=f"{self._public_url}/account/{_PAGES[kind]}?token={secret}",
            details={"within": templates.within(span_ms // 1000, language), "new_address": new_address},
        )

    async def _notice_to(self, account: Account, outgoing: Outgoing) -> Letter | None:
        said = outgoing.details
        kind, at_ms = said["event"], int(said["at_ms"])
        before = [
            event for event in await self._audit.of(account.user_id, limit=LOOK_BACK) if event.event_id != said["id"]
        ]
        if kind == "logged_in" and not _is_new_device(before, said, at_ms):
            return None
        if not account.email_verified:
            same = [event for event in before if event.kind == kind and at_ms - _DAY_MS < event.at_ms <= at_ms]
            if len(same) >= MAX_UNPROVED_A_DAY:
                return None
        return templates.letter(
            cast("LetterKind", outgoing.kind),
            to=outgoing.address or account.email,
            language=templates.language_of(account.locale),
            service=self._service,
            link=f"{self._public_url}/account/forgot",
            details={name: said.get(name, "") for name in ("old_address", "new_address")},
            seen=Seen(
                at_ms=at_ms, timezone=account.timezone, user_agent=said["user_agent"], address=said["client_address"]
            ),
        )


def _notice(event: AuditEvent, address: str | None = None) -> Outgoing:
    return Outgoing(
        mail_id=f"{event.event_id}{'' if address is None else ':before'}",
        kind=NOTICES[event.kind],
        user_id=event.user_id,
        address=address,
        details={
            **event.details,
            "event": event.kind,
            "id": event.event_id,
            "at_ms": str(event.at_ms),
            "user_agent": event.origin.user_agent,
            "client_address": event.origin.address,
        },
        created_at_ms=event.at_ms,
    )


def _is_new_device(before: list[AuditEvent], said: Mapping[str, str], at_ms: int) -> bool:
    """Whether it neither showed that it was here before, nor logs in as one that was: the like of it, from where that was.

    Versions of apps and addresses within a network change; what it is and where it is at home stay.
    """
    if "known_device" in said:
        return False
    seen = {
        (templates.described(event.origin.user_agent), _network(event.origin.address))
        for event in before
        if event.kind == "logged_in" and event.at_ms <= at_ms
    }
    if not seen:
        # The first login of all, unless so much happened since the last one that it is no more in sight.
        return len(before) >= LOOK_BACK - 1
    return (templates.described(said["user_agent"]), _network(said["client_address"])) not in seen


def _network(address: str) -> str:
    """What an internet provider gives to one place: an IPv4 /16 or an IPv6 /32; what is no address is its own."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((address, 16 if parsed.version == 4 else 32), strict=False))
