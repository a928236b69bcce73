"""Records in Redis or Valkey: `idempotency:<slot>`, a letter for the kind, then the digest, then the rest."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from fitness_api.idempotency_records import Kind, Record, RecordsUnavailable
from fitness_api.redis_guarded import GuardedRedis, RedisUnavailable

_LETTERS: Final[Mapping[Kind, bytes]] = {kind: kind[:1].encode() for kind in get_args(Kind)}
_KINDS: Final = {letter: kind for kind, letter in _LETTERS.items()}
_DIGEST_BYTES: Final = 32

_BEGIN: Final = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""
_NOTE: Final = """
local found = redis.call('GET', KEYS[1])
if not found then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return found
"""
_END: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""


class RedisRecords:
    def __init__(self, redis: GuardedRedis, *, running_ms: int, kept_ms: int) -> None:
        self._redis = redis
        self._running_ms = running_ms
        self._kept_ms = kept_ms

    async def begin(self, slot: str, digest: bytes, owner: bytes) -> Record | None:
        seen, running = _packed(Record("seen", digest)), _packed(Record("running", digest, owner))
        found = await self._run("EVAL", _BEGIN, 1, _key(slot), seen, running, self._running_ms)
        return None if found is None else _read(found)

    async def note(self, slot: str, digest: bytes) -> Record | None:
        # The driver makes a truth value of what SET with GET answers.
        found = await self._run("EVAL", _NOTE, 1, _key(slot), _packed(Record("seen", digest)), self._kept_ms)
        return None if found is None else _read(found)

    async def end(self, slot: str, digest: bytes, owner: bytes, record: Record | None) -> None:
        running = _packed(Record("running", digest, owner))
        after = b"" if record is None else _packed(record)
        await self._run("EVAL", _END, 1, _key(slot), running, after, self._kept_ms)

    async def _run(self, *command: str | bytes | int) -> Any:
        try:
            return await self._redis.run(lambda client: client.execute_command(*command))
        except RedisUnavailable as error:
            raise RecordsUnavailable from error


def _key(slot: str) -> str:
    return f"idempotency:{slot}"


def _packed(record: Record) -> bytes:
    return _LETTERS[record.kind] + record.digest + record.content


def _read(value: bytes) -> Record:
    digest_ends = 1 + _DIGEST_BYTES
    return Record(_KINDS[value[:1]], value[1:digest_ends], value[digest_ends:])
