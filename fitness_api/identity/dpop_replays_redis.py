"""The memory of used DPoP proofs in Redis: a key each, set if it was not there, which expires by itself."""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from fitness_api.identity.errors import StoreUnavailable


class RedisReplays:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def first(self, mark: bytes, *, for_s: int) -> bool:
        try:
            return bool(await self._redis.set(f"dpop:{mark.hex()}", b"", nx=True, ex=for_s))
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable("Redis, which knows the DPoP proofs that were used, did not answer.") from error
