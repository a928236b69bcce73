"""Buckets that all processes share, in Redis or Valkey: one script a call, by the server's own clock.

A bucket is `limits:{h<partition>}:<name>:<subject>`, the instant at which it will be full, and goes ten seconds after that: a server's
clock may be set back a little. Redis may lose them: a lost bucket is a full one.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

from fitness_api.limits.buckets import BucketsUnavailable, Charge
from fitness_api.limits.gcra import Taken
from fitness_api.redis_guarded import Client, GuardedRedis, RedisUnavailable
from sync.nodes_redis import hash_tag, partition_of

# gcra.take, for all buckets of a call or for none. A number of Lua's is exact to 2^53, which microseconds reach in the year 2255.
SCRIPT: Final = """
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local out, used, refused = {}, {}, false
for i, key in ipairs(KEYS) do
  local quota, interval = tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1])
  local least, wanted = tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i + 1])
  local depth = quota * interval
  used[i] = math.min(depth, math.max(0, tonumber(redis.call('GET', key) or now) - now))
  local granted = math.min(wanted, math.floor((depth - used[i]) / interval))
  if granted < least then
    refused = true
    out[i] = {0, math.floor((depth - used[i]) / interval), used[i] + least * interval - depth, used[i]}
  else
    local after = used[i] + granted * interval
    out[i] = {granted, math.floor((depth - after) / interval), 0, after}
  end
end
for i, key in ipairs(KEYS) do
  if refused then
    out[i] = {0, out[i][2] + out[i][1], out[i][3], used[i]}
  else
    redis.call('SET', key, string.format('%.0f', now + out[i][4]), 'PX', math.ceil(out[i][4] / 1000) + 10000)
  end
end
return out
"""
_DIGEST: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisBuckets:
    """now_us: left out, the server's clock, which is one for all processes."""

    def __init__(self, redis: GuardedRedis, *, now_us: Callable[[], int] = lambda: 0) -> None:
        self._redis = redis
        self._now_us = now_us

    async def take(self, charges: Sequence[Charge]) -> list[Taken]:
        keys = [_key(charge) for charge in charges]
        arguments = [str(self._now_us())]
        for charge in charges:
            rate = charge.rate
            arguments += map(str, (rate.quota, rate.interval_us, charge.least, charge.wanted))

        def evaluate(client: Client, command: str, script: str) -> Awaitable[Any]:
            answer: Awaitable[Any] = client.execute_command(command, script, len(keys), *keys, *arguments)
            return answer

        async def run(client: Client) -> Any:
            try:
                return await evaluate(client, "EVALSHA", _DIGEST)
            except NoScriptError:
                return await evaluate(client, "EVAL", SCRIPT)

        try:
            answers = await self._redis.run(run)
        except RedisUnavailable as error:
            raise BucketsUnavailable from error
        return [Taken(*map(int, answer)) for answer in answers]


def _key(charge: Charge) -> str:
    return f"limits:{hash_tag(partition_of(charge.home))}:{charge.name}:{charge.subject}"
