"""Hashes and checks passwords in a few threads, with a bounded queue before them.

Argon2id as ASVS 5.0 appendix C has it: 46 MiB, one pass, one lane; 61 ms a check. The number of threads bounds the
memory, the queue bounds the wait: beyond it callers are turned away at once instead of timing out later.
"""

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from fitness_api.identity.errors import PasswordHashersBusy

MEMORY_KIB: Final = 46 * 1024
# With 61 ms a check the last in line waits 2 s, which a person still takes for an answer.
MAX_WAITING_PER_HASHER: Final = 32
# Strangers fill half of the queue at most: a flood of wrong passwords leaves room for those who log in from where they did before.
STRANGERS_WAITING_PER_HASHER: Final = 16
RETRY_AFTER_S: Final = 2

_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


def _encoded(data: bytes) -> str:
    return b64encode(data).rstrip(b"=").decode("ascii")


# Nobody's: checked where there is no account, so that it takes as long. No password is known to hash to zeros.
_DUMMY: Final = f"$argon2id$v=19$m={MEMORY_KIB},t=1,p=1${_encoded(bytes(_SALT_BYTES))}${_encoded(bytes(_HASH_BYTES))}"

T = TypeVar("T")


class Passwords:
    def __init__(self, *, hashers: int) -> None:
        self._hasher = PasswordHasher(
            time_cost=1,
            memory_cost=MEMORY_KIB,
            parallelism=1,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
            type=Type.ID,
        )
        self._threads = ThreadPoolExecutor(max_workers=hashers, thread_name_prefix="password")
        self._free = hashers
        # Who waits for a thread: known devices, served first, and strangers.
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = (deque(), deque())
        self._admitted = 0
        self._under_way = 0
        self._max_admitted = hashers * (1 + MAX_WAITING_PER_HASHER)
        self._max_strangers = hashers * (1 + STRANGERS_WAITING_PER_HASHER)

    @contextmanager
    def admitted(self, *, is_known_device: bool) -> Iterator[None]:
        """Hold a place for all that a try takes: what is turned away costs neither a look into a store nor a place in its queue.

        Raises PasswordHashersBusy if as many as may wait are under way, for strangers sooner.
        """
        if self._under_way >= self._room(is_known_device):
            raise PasswordHashersBusy(retry_after_s=RETRY_AFTER_S)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def hash(self, password: str, *, is_known_device: bool = False) -> str:
        """Raises PasswordHashersBusy if too many wait, for strangers sooner."""
        return await self._run(lambda: self._hasher.hash(password), is_known_device=is_known_device)

    async def verify(self, password_hash: str | None, password: str, *, is_known_device: bool = False) -> bool:
        """Without a hash it takes as long and is false. Raises PasswordHashersBusy if too many wait, for strangers sooner."""
        job = partial(self._matches, password_hash or _DUMMY, password)
        matches = await self._run(job, is_known_device=is_known_device)
        return matches and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether it was made with other parameters than new ones are."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    def _room(self, is_known_device: bool) -> int:
        return self._max_admitted if is_known_device else self._max_strangers

    async def _run(self, job: Callable[[], T], *, is_known_device: bool) -> T:
        if self._admitted >= self._room(is_known_device):
            raise PasswordHashersBusy(retry_after_s=RETRY_AFTER_S)
        self._admitted += 1
        try:
            await self._turn(is_known_device=is_known_device)
            try:
                # Cancelled while it runs, a job holds its thread a moment longer.
                return await asyncio.wrap_future(self._threads.submit(job))
            finally:
                self._pass_on()
        finally:
            self._admitted -= 1

    async def _turn(self, *, is_known_device: bool) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[0 if is_known_device else 1].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it had come, and nobody took it
            raise

    def _pass_on(self) -> None:
        for waiting in self._waiting:
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
