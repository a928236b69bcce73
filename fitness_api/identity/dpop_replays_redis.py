"""The memory of used DPoP proofs in Redis or Valkey: a key each, set if it was not there, which expires by itself."""

from fitness_api.identity.errors import StoreUnavailable
from fitness_api.redis_guarded import GuardedRedis, RedisUnavailable


class RedisReplays:
    def __init__(self, redis: GuardedRedis) -> None:
        self._redis = redis

    async def first(self, mark: bytes, *, for_s: int) -> bool:
        key = f"dpop:{mark.hex()}"
        try:
            answer = await self._redis.run(lambda client: client.execute_command("SET", key, "", "NX", "EX", for_s))
        except RedisUnavailable as error:
            raise StoreUnavailable("Redis, which knows the DPoP proofs that were used, did not answer.") from error
        return answer is not None
