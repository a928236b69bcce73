"""An account's life by mail: proving an address, moving to another, and getting a new password.

What a stranger may ask for (a link for an address that he types) does the same for every address: one row in the outbox. Whether
there is such an account is looked up when the letter leaves.
"""

import hashlib
import unicodedata
from collections.abc import Awaitable, Callable
from uuid import uuid4

from fitness_api.errors import Invalid, InvalidBody
from fitness_api.identity import accounts, single_use
from fitness_api.identity.accounts import Account
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.correspondence import (
    CHANGE_KINDS,
    CHANGE_MS,
    RESET,
    VERIFY,
    Correspondence,
    Linked,
)
from fitness_api.identity.errors import AccountDeleted, InvalidCredentials, LinkInvalid
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.recovery_store import EmailChange, RecoveryStore, Side, is_confirmed
from fitness_api.identity.sessions import Sessions
from fitness_api.identity.single_use import Artefact, SingleUse, Used
from fitness_api.identity.store import Store
from fitness_api.identity.weak_passwords import require_strong

# What a mailbox's owner finds in an account whose address nobody had proved before.
FirstProof = Callable[[str], Awaitable[None]]


async def nothing_before(_: str) -> None:
    pass


class Recovery:
    """on_first_proof: ends what was set up in an account before its address was proved for the first time, by a reset; called twice."""

    def __init__(
        self,
        accounts: Store,
        store: RecoveryStore,
        passwords: Passwords,
        sessions: Sessions,
        artefacts: SingleUse,
        audit: AuditLog,
        correspondence: Correspondence,
        *,
        on_first_proof: FirstProof = nothing_before,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._artefacts = artefacts
        self._audit = audit
        self._correspondence = correspondence
        self._on_first_proof = on_first_proof
        self._now_ms = now_ms

    # ---------------------------------------------------------------------------------------------------------- address

    async def ask_to_verify(self, email: str) -> None:
        """Send the link once more, if the address is an account's and was not proved. Raises InvalidBody."""
        await self._ask(VERIFY, email)

    async def confirm(self, token: str, *, origin: Origin) -> None:
        """Redeem a link that proves an address: the account's own, or one of the two of a change.

        Raises LinkInvalid, or EmailTaken where the address that an account moves to is another's by now.
        """
        digest, now_ms = single_use.digest_of(token), self._now_ms()
        for kind in (VERIFY, *CHANGE_KINDS):
            found = await self._artefacts.read(kind, digest, now_ms=now_ms)
            if found is not None and found.user_id is not None:
                # Redeemed at last: each step before may be repeated, so that who is cut off presses the button again.
                side = CHANGE_KINDS.get(kind)
                await (self._verify(found) if side is None else self._confirm_change(found, side, origin))
                if not isinstance(await self._artefacts.use(kind, digest, now_ms=now_ms), Artefact):
                    raise LinkInvalid
                if side is None:
                    await self._audit.record(found.user_id, "email_verified", origin=origin)
                return
        raise LinkInvalid

    async def ask_to_move(self, user_id: str, email: str, *, origin: Origin) -> None:
        """Send a link to both addresses; the account moves when both were followed. Cancels what waited.

        Whether the new address is somebody's is told to its owner only. Raises InvalidBody or AccountDeleted.
        """
        address = accounts.normalised_address(email)
        account = await self._account(user_id)
        if address == accounts.normalised_address(account.email):
            raise InvalidBody(Invalid("/email", "This is the account's address."))
        await self._artefacts.cancel(user_id, CHANGE_KINDS)
        change = EmailChange(
            change_id=str(uuid4()),
            email=accounts.tidy(email),
            address=address,
            expires_at_ms=self._now_ms() + CHANGE_MS,
        )
        if not await self._store.begin_change(user_id, change):
            raise AccountDeleted(user_id)
        await self._audit.record(user_id, "email_change_asked", origin=origin)
        for kind in CHANGE_KINDS:
            await self._correspondence.ask(kind, f"{kind}:{change.change_id}", user_id=user_id)

    async def _verify(self, found: Artefact) -> None:
        assert found.user_id is not None, "looked at by its caller"
        if not await self._store.verify(found.user_id, Linked.read(found).address):
            raise LinkInvalid

    async def _confirm_change(self, found: Artefact, side: Side, origin: Origin) -> None:
        user_id, linked = found.user_id, Linked.read(found)
        assert user_id is not None, "looked at by its caller"
        account = await self._account(user_id)
        change = await self._store.confirm_change(user_id, linked.change_id, side, now_ms=self._now_ms())
        if change is None:
            # The other mailbox was enough, or this was cut off after the move.
            if accounts.normalised_address(account.email) != linked.address or not account.email_verified:
                raise LinkInvalid
            return
        if not is_confirmed(change.confirmed, verified=account.email_verified):
            return
        before = await self._store.move(user_id, change, verified=account.email_verified)
        if before is None:
            return
        # A link that went to the address of before resets the password no more.
        await self._artefacts.cancel(user_id, {RESET, VERIFY})
        # Where the account was is told where it went, but not where it went to a mailbox that was perhaps never its owner's.
        details = {"old_address": before, "new_address": change.email}
        details |= {"told": "both"} if account.email_verified else {}
        await self._audit.record(user_id, "email_changed", origin=origin, details=details)

    # --------------------------------------------------------------------------------------------------------- password

    async def ask_to_reset(self, email: str) -> None:
        """Send a link, if the address is an account's. Raises InvalidBody."""
        await self._ask(RESET, email)

    async def reset(self, token: str, password: str, *, origin: Origin) -> None:
        """Give the account a new password, end all its logins and whatever waits to be redeemed; a second factor stays.

        Raises InvalidBody, WeakPassword, LinkInvalid, or PasswordHashersBusy; the link is good still but after LinkInvalid.
        """
        password = accounts.normalised_password(password)
        digest, now_ms = single_use.digest_of(token), self._now_ms()
        found = await self._artefacts.read(RESET, digest, now_ms=now_ms)
        account = None if found is None or found.user_id is None else await self._accounts.account(found.user_id)
        if account is not None:
            require_strong(password, email=account.email, display_name=account.display_name)
            password_hash = await self._passwords.hash(password)
        used = await self._artefacts.use(RESET, digest, now_ms=now_ms)
        if isinstance(used, Used) and used.artefact.user_id is not None:
            # Whoever redeemed it may have been cut off between the password and this.
            await self._end_all(used.artefact.user_id)
        if not isinstance(used, Artefact) or account is None:
            raise LinkInvalid
        address = Linked.read(used).address
        if not account.email_verified:
            await self._on_first_proof(account.user_id)
        if not await self._store.reset_password_hash(account.user_id, password_hash, proven=address):
            raise LinkInvalid
        await self._end_all(account.user_id)
        if not account.email_verified:
            # Once more, for what a session of before set up until it ended.
            await self._on_first_proof(account.user_id)
        await self._audit.record(account.user_id, "password_reset", origin=origin)

    async def change_password(
        self, user_id: str, *, session_id: str, current: str | None, new: str, origin: Origin
    ) -> None:
        """End every session but this one, and whatever waits to be redeemed.

        `current` is None where the account has no password. Raises InvalidBody, InvalidCredentials, WeakPassword,
        AccountDeleted, or PasswordHashersBusy.
        """
        new = accounts.normalised_password(new)
        account = await self._account(user_id)
        known = await self._accounts.credentials(accounts.normalised_address(account.email))
        password_hash = None if known is None or known.user_id != user_id else known.password_hash
        if password_hash is not None and not await self._passwords.verify(
            password_hash, unicodedata.normalize("NFC", current or "")
        ):
            raise InvalidCredentials
        require_strong(new, email=account.email, display_name=account.display_name)
        renewed = await self._passwords.hash(new)
        if not await self._store.change_password_hash(user_id, before=password_hash, after=renewed):
            raise InvalidCredentials  # It was another meanwhile, which is what ends this one's session.
        if await self._sessions.one(user_id, session_id) is None:
            # What ended it while this was under way, and took the password away perhaps, was to end what it does as well.
            await self._store.change_password_hash(user_id, before=renewed, after=password_hash)
            raise InvalidCredentials
        await self.cancel_pending(user_id)
        await self._sessions.revoke_all(user_id, but=session_id)
        await self._audit.record(user_id, "password_changed", origin=origin, session_id=session_id)

    async def cancel_pending(self, user_id: str) -> None:
        """Nothing that was handed out before may be redeemed any more: links, codes, half a login, a change of address."""
        await self._store.cancel_change(user_id)
        await self._artefacts.cancel(user_id)

    async def _end_all(self, user_id: str) -> None:
        """The redeemed reset goes late: while it is there, this is done again by whoever presents it again."""
        await self._sessions.revoke_all(user_id)
        await self.cancel_pending(user_id)
        # What was redeemed in between began another.
        await self._sessions.revoke_all(user_id)

    async def _ask(self, kind: str, email: str) -> None:
        address = accounts.normalised_address(email)
        # One at a time waits for an address, whoever asks how often.
        name = hashlib.sha256(address.encode()).hexdigest()
        await self._correspondence.ask(kind, f"{kind}:{name}", address=address)

    async def _account(self, user_id: str) -> Account:
        account = await self._accounts.account(user_id)
        if account is None:
            raise AccountDeleted(user_id)
        return account
