"""What issuers say of themselves and the keys that they sign with: fetched when needed, kept, and never asked often.

An attacker may name any kid, so an unknown one asks the issuer once in COOL_DOWN_MS at most. Whoever comes while an answer
is under way waits for that one, or goes on with the keys that are there if its own is among them. Keys outlive a failing
issuer by STALE_MS: within that time sign-ins go on, and a key that the issuer withdrew meanwhile holds too.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import DecodeError, Struct, json

from fitness_api.identity.errors import IssuerKeyUnknown, IssuerUnavailable
from fitness_api.identity.federation import id_tokens
from fitness_api.identity.federation.fetcher import Fetcher, FetchFailed
from fitness_api.identity.federation.id_tokens import Claims, IssuerKey
from fitness_api.identity.federation.providers import Provider, is_allowed
from fitness_api.identity.federation.relying_party import Endpoints
from fitness_api.identity.key_ring import wall_clock_ms

FRESH_MS: Final = 600_000  # how long a withdrawn key may still hold while the issuer answers
STALE_MS: Final = 24 * 3600 * 1000  # and while it does not; outages of the large ones lasted hours, none a day
COOL_DOWN_MS: Final = 30_000
# Without any key nobody signs in, so the issuer is asked sooner.
RETRY_MS: Final = 5_000

_log = logging.getLogger("fitness_api.identity.federation")


class _Known(Struct):
    """endpoints, keys: the last that came. fetched_at_ms: when. tried_at_ms: when it was asked last, whatever came of it."""

    endpoints: Endpoints | None = None
    keys: Mapping[str, IssuerKey] = {}
    fetched_at_ms: int | None = None
    tried_at_ms: int | None = None


class Issuer:
    """One provider as this process knows it."""

    def __init__(self, provider: Provider, fetcher: Fetcher, *, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.provider = provider
        self._fetcher = fetcher
        self._now_ms = now_ms
        self._fetching = asyncio.Lock()
        self._known = _Known()

    async def verify(self, id_token: str) -> Claims:
        """Raises IdTokenInvalid, or IssuerUnavailable if its keys are not to be had."""
        kid = id_tokens.read(id_token).kid
        now_s = self._now_ms() // 1000
        try:
            return id_tokens.verify(id_token, await self._keys_for(kid), self.provider, now_s=now_s)
        except IssuerKeyUnknown:
            await self._fetch_if_older_than(COOL_DOWN_MS)
            return id_tokens.verify(id_token, self._usable_keys(), self.provider, now_s=now_s)

    async def endpoints(self) -> Endpoints:
        """Raises IssuerUnavailable."""
        if not self._is_younger_than(FRESH_MS) and not self._fetching.locked():
            await self._fetch_if_older_than(FRESH_MS)
        if self._known.endpoints is None:
            await self._fetch_if_older_than(RETRY_MS)
        if self._known.endpoints is None:
            raise IssuerUnavailable(self.provider.name)
        return self._known.endpoints

    async def _keys_for(self, kid: str | None) -> Mapping[str, IssuerKey]:
        known = id_tokens.key_for(kid, self._known.keys) is not None and not self._is_too_old()
        # Whose key is there need not wait for somebody else's fetch.
        if not self._is_younger_than(FRESH_MS) and not (known and self._fetching.locked()):
            await self._fetch_if_older_than(FRESH_MS)
        return self._usable_keys()

    def _usable_keys(self) -> Mapping[str, IssuerKey]:
        if self._is_too_old():
            raise IssuerUnavailable(self.provider.name)
        return self._known.keys

    def _is_too_old(self) -> bool:
        fetched_at_ms = self._known.fetched_at_ms
        return fetched_at_ms is None or self._now_ms() - fetched_at_ms >= STALE_MS

    def _is_younger_than(self, age_ms: int) -> bool:
        fetched_at_ms = self._known.fetched_at_ms
        return fetched_at_ms is not None and 0 <= self._now_ms() - fetched_at_ms < age_ms

    def _was_just_tried(self) -> bool:
        tried_at_ms = self._known.tried_at_ms
        pause_ms = RETRY_MS if self._is_too_old() else COOL_DOWN_MS
        return tried_at_ms is not None and 0 <= self._now_ms() - tried_at_ms < pause_ms

    async def _fetch_if_older_than(self, age_ms: int) -> None:
        async with self._fetching:
            if self._is_younger_than(age_ms) or self._was_just_tried():
                return
            self._known.tried_at_ms = self._now_ms()
            try:
                await self._fetch()
            except (FetchFailed, ValueError) as error:
                _log.warning("%s: %s", self.provider.name, error)

    async def _fetch(self) -> None:
        """Raises FetchFailed, or ValueError if what came makes no sense."""
        metadata = await self._fetcher.get(f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration")
        endpoints = _endpoints(metadata, self.provider)
        keys = id_tokens.read_keys(await self._fetcher.get(endpoints.jwks_uri))
        if not keys:
            raise ValueError("There is no key among its keys that we could use.")
        self._known.endpoints, self._known.keys = endpoints, keys
        self._known.fetched_at_ms = self._now_ms()


def _endpoints(document: bytes, provider: Provider) -> Endpoints:
    try:
        endpoints = json.decode(document, type=Endpoints)
    except (DecodeError, UnicodeError, RecursionError):
        raise ValueError("Its metadata cannot be read.") from None
    # OpenID Connect Discovery section 4.3: exactly the same, or one issuer could speak for another.
    if endpoints.issuer != provider.issuer:
        raise ValueError("Its metadata names another issuer.")
    for url in (endpoints.authorization_endpoint, endpoints.token_endpoint, endpoints.jwks_uri):
        if not is_allowed(url, provider):
            raise ValueError("Its metadata names a place that is not https.")
    return endpoints
