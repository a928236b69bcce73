"""`Idempotency-Key`: a POST that is sent again is not done again, and gets the answer that it had.

A key belongs to an account and the app that asks, or where nobody is logged in to the client's address block and what it
authenticates by, and to an operation on a path. What was answered with success is kept for KEPT_MS and given again byte for byte.
What was refused was not done, so that the same may be sent again under its key; another body never may. An operation that may be
repeated as it is (`Operation.is_repeatable`) is only held to its body.

Source: draft-ietf-httpapi-idempotency-key-header.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct, msgpack
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import problems
from fitness_api.bodies import ON_BODY
from fitness_api.errors import (
    IdempotencyAnswerLost,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotencyUnavailable,
    RequestInProgress,
)
from fitness_api.idempotency_records import Record, Records, RecordsUnavailable

HEADER: Final = "idempotency-key"
REPLAYED: Final = "Idempotency-Replayed"
MAX_KEY: Final = 255
KEPT_MS: Final = 24 * 3600 * 1000  # the protocol's number
# Longer than any request runs that is not repeatable: a key whose process died is free again after it.
RUNNING_MS: Final = 120_000
# Tokens, a registered client, ten recovery codes: none comes near. What is longer is not worth Redis's memory for a day.
MAX_ANSWER_BYTES: Final = 64 * 1024
# From here on hashing would hold up the event loop.
_LARGE_BYTES: Final = 256 * 1024
_NONCE_BYTES: Final = 12
_OWNER_BYTES: Final = 16

_log: Final = logging.getLogger("fitness_api.idempotency")


class _Answer(Struct, array_like=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _AnsweredBefore(Exception):
    """Ends a handler at the moment that it has read its body, before it has done anything."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


class Idempotency:
    def __init__(self, records: Records, *, master_key: bytes) -> None:
        self._records = records
        self._key = hmac.digest(master_key, b"fitness-api idempotency v1", "sha256")

    async def serve(
        self,
        request: Request[Any],
        handler: Callable[[], Awaitable[Response]],
        *,
        whose: str,
        reads_body: bool,
        is_repeatable: bool,
    ) -> Response:
        """Call the handler, unless the key's request was answered before; then return that answer.

        Raises IdempotencyKeyInvalid, IdempotencyKeyReused, RequestInProgress, IdempotencyAnswerLost, or IdempotencyUnavailable.
        """
        key = key_of(request.headers.getlist(HEADER))
        asked = (whose, request.method, request.url.path, request.url.query, key)
        attempt = _Attempt(self._records, self._key, "\0".join(asked), is_repeatable)

        async def on_body(body: bytes) -> None:
            if (answer := await attempt.begin(body)) is not None:
                raise _AnsweredBefore(answer)

        if reads_body:
            request.scope[ON_BODY] = on_body
        try:
            if not reads_body:
                await on_body(b"")
            answer = await handler()
        except _AnsweredBefore as before:
            return before.answer
        except Exception as error:
            await attempt.end(problems.problem_of(error).status)
            raise
        await attempt.end(answer.status_code, answer)
        return answer


class _Attempt:
    """One request under its key. name: the key, and all that it belongs to."""

    def __init__(self, records: Records, key: bytes, name: str, is_repeatable: bool) -> None:
        self._records = records
        self._key = key
        self._name = name.encode("utf-8", "surrogatepass")
        self._is_repeatable = is_repeatable
        self._slot = self._digest(b"slot", self._name).hex()
        self._owner = secrets.token_bytes(_OWNER_BYTES)
        self._body_digest: bytes | None = None  # None: it has not begun

    async def begin(self, body: bytes) -> Response | None:
        """Return the answer that the request had, None if it is to run."""
        if len(body) < _LARGE_BYTES:
            digest = hashlib.sha256(body).digest()
        else:
            digest = (await asyncio.to_thread(hashlib.sha256, body)).digest()
        # Keyed: a body may hold a password, at which somebody who reads Redis could guess by a bare digest.
        digest = self._digest(b"body", digest)
        try:
            if self._is_repeatable:
                found = await self._records.note(self._slot, digest)
            else:
                found = await self._records.begin(self._slot, digest, self._owner)
        except RecordsUnavailable as error:
            if self._is_repeatable:
                return None
            raise IdempotencyUnavailable from error
        if found is not None and not hmac.compare_digest(found.digest, digest):
            raise IdempotencyKeyReused
        if self._is_repeatable:
            return None
        if found is None:
            self._body_digest = digest
            return None
        match found.kind:
            case "answered":
                return self._opened(found)
            case "running":
                raise RequestInProgress
            case _:
                raise IdempotencyAnswerLost

    async def end(self, status: int, answer: Response | None = None) -> None:
        """Keep what became of it; of a fault nothing, so that it may be sent again."""
        if (digest := self._body_digest) is None:
            return
        record: Record | None = None
        if answer is not None and status < 400:
            record = self._sealed(answer, digest)
        elif status < 500:
            record = Record("seen", digest)
        try:
            await self._records.end(self._slot, digest, self._owner, record)
        except RecordsUnavailable:
            # Its key is free again when the record of its running goes; the client has its answer, and need not ask.
            _log.warning("The answer to a request with an Idempotency-Key could not be kept.")

    def _sealed(self, answer: Response, digest: bytes) -> Record:
        body = bytes(answer.body)
        if len(body) > MAX_ANSWER_BYTES:
            return Record("unanswered", digest)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = msgpack.encode(_Answer(answer.status_code, list(answer.raw_headers), body))
        return Record("answered", digest, nonce + self._cipher(digest).encrypt(nonce, plain, None))

    def _opened(self, record: Record) -> Response:
        nonce, sealed = record.content[:_NONCE_BYTES], record.content[_NONCE_BYTES:]
        try:
            plain = self._cipher(record.digest).decrypt(nonce, sealed, None)
        except InvalidTag as error:
            raise IdempotencyAnswerLost from error
        kept = msgpack.decode(plain, type=_Answer)
        answer = Response(kept.body, status_code=kept.status)
        answer.raw_headers[:] = kept.headers
        answer.headers[REPLAYED] = "true"
        return answer

    def _cipher(self, body_digest: bytes) -> AESGCM:
        """Nobody has this key who has not sent the request: what is kept may be a token pair."""
        return AESGCM(self._digest(b"answer", body_digest + self._name))

    def _digest(self, purpose: bytes, content: bytes) -> bytes:
        return hmac.digest(self._key, purpose + b"\0" + content, "sha256")


def key_of(sent: list[str]) -> str:
    """Read the header: a string as structured fields have it, or the same without quotes. Raises IdempotencyKeyInvalid."""
    key = sent[0].strip() if len(sent) == 1 else ""
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable() or '"' in key or "\\" in key:
        raise IdempotencyKeyInvalid(max_length=MAX_KEY)
    return key
