"""One process's view of the signing keys: loads them, has them rotated, and knows them by their kid."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec

from fitness_api.identity import signing_keys
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.signing_keys import Drop, Make, Move, PublicJWK, SigningKey, StoredKey
from fitness_api.identity.store import Store

RELOAD_MS: Final = 60_000  # a next key is published ten minutes before it signs: any process has it long before
# An attacker may name any kid: so often do unknown ones reach the database, from one process.
COOL_DOWN_MS: Final = 5_000
# A rotation has four steps, and each may be lost to another process once or twice.
MAX_STEPS: Final = 16


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class KeyRing:
    def __init__(self, store: Store, master_key: bytes, *, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._store = store
        self._sealing_key = signing_keys.derive_key(master_key)
        self._now_ms = now_ms
        self._loading = asyncio.Lock()
        self._tried_at_ms: int | None = None
        self._current: SigningKey | None = None
        self._published: tuple[PublicJWK, ...] = ()
        self._verifying: dict[str, ec.EllipticCurvePublicKey] = {}

    async def current(self) -> SigningKey:
        """Return the key to sign with; the first process ever makes it.

        Raises StoreUnavailable if none was loaded yet, SigningKeysUnreadable if the master key is another one.
        """
        await self._load_if_older_than(RELOAD_MS)
        if self._current is None:
            raise StoreUnavailable("No signing key was loaded yet.")
        return self._current

    async def verifying(self) -> Mapping[str, ec.EllipticCurvePublicKey]:
        """The same object as long as it holds the same keys."""
        await self._load_if_older_than(RELOAD_MS)
        return self._verifying

    async def verifying_unknown(self) -> Mapping[str, ec.EllipticCurvePublicKey]:
        """As `verifying`, loaded anew unless that was done just now."""
        await self._load_if_older_than(COOL_DOWN_MS)
        return self._verifying

    async def published(self) -> tuple[PublicJWK, ...]:
        """Return every key that a valid token may be signed with, the next one included."""
        await self._load_if_older_than(RELOAD_MS)
        return self._published

    async def listed(self) -> list[StoredKey]:
        """Return the keys as they are in the database now."""
        return await self._at_rest()

    async def rotate(self, *, compromised: bool = False) -> int | None:
        """Let the next key sign. None: it does; else the Unix ms from which it may, because verifiers may not know it yet.

        Other processes sign with the one before for RELOAD_MS more. `compromised`: without waiting, and what the one before signed
        holds no more, so that apps refresh; nobody has to log in.
        """
        keys = await self._at_rest()
        following = next(key for key in keys if key.state == "next")
        if not compromised and (from_ms := signing_keys.may_sign_from_ms(following)) > self._now_ms():
            return from_ms
        # Lost to another process, it has been done all the same.
        if (step := signing_keys.retirement(keys)) is not None:
            await self._take(step)
        if compromised:
            for key in keys:
                if key.state != "next":
                    await self._take(Drop(key.kid))
        await self._at_rest()
        return None

    async def _load_if_older_than(self, age_ms: int) -> None:
        if self._is_younger_than(age_ms):
            return
        async with self._loading:
            if self._is_younger_than(age_ms):
                return
            try:
                await self._load()
            except StoreUnavailable:
                if self._current is None:
                    raise
                # Keys outlive a failing database by far; only a new one would be missed.
            self._tried_at_ms = self._now_ms()

    def _is_younger_than(self, age_ms: int) -> bool:
        return self._tried_at_ms is not None and 0 <= self._now_ms() - self._tried_at_ms < age_ms

    async def _load(self) -> None:
        keys = await self._at_rest()
        current = next(key for key in keys if key.state == "current")
        if self._current is None or self._current.kid != current.kid:
            self._current = signing_keys.unseal(current, self._sealing_key)
        self._published = tuple(key.public for key in keys)
        if {key.kid for key in keys} != self._verifying.keys():
            known = self._verifying
            self._verifying = {key.kid: known.get(key.kid) or signing_keys.public_key(key.public) for key in keys}

    async def _at_rest(self) -> list[StoredKey]:
        """Take the steps of rotation that are due, and return the keys once none is."""
        for _ in range(MAX_STEPS):
            keys = await self._store.signing_keys()
            step = signing_keys.due(keys, self._now_ms())
            if step is None:
                return keys
            # A race is lost by doing nothing: the winner's step is there at the next reading.
            await self._take(step)
        raise StoreUnavailable("The signing keys do not come to rest.")

    async def _take(self, step: signing_keys.Step) -> None:
        match step:
            case Make(state):
                await self._store.add_signing_key(self._make(state))
            case Move(kid, before, after):
                await self._store.move_signing_key(kid, before, after, now_ms=self._now_ms())
            case Drop(kid):
                await self._store.drop_signing_key(kid)

    def _make(self, state: signing_keys.State) -> StoredKey:
        return signing_keys.make(
            kid=str(uuid4()),
            state=state,
            secret=secrets.token_bytes(signing_keys.SECRET_BYTES),
            nonce=secrets.token_bytes(signing_keys.NONCE_BYTES),
            sealing_key=self._sealing_key,
            now_ms=self._now_ms(),
        )
