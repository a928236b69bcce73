"""Composes what signs people in by other issuers, and what ends when an account turns out to be another person's."""

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.devices import Devices
from fitness_api.identity.factors.second_factors import SecondFactors
from fitness_api.identity.factors.store import FactorStore
from fitness_api.identity.federation import providers
from fitness_api.identity.federation.fetcher_httpx2 import BoundedTransport, Httpx2Fetcher
from fitness_api.identity.federation.issuers import Issuer
from fitness_api.identity.federation.redirects import Redirects
from fitness_api.identity.federation.relying_party_authlib import AuthlibRelyingParty
from fitness_api.identity.federation.sign_ins import End, SignIns
from fitness_api.identity.federation.store_mongo import MongoIdentityStore
from fitness_api.identity.logins import Logins
from fitness_api.identity.sessions import Sessions
from fitness_api.identity.single_use import SingleUse
from fitness_api.settings import Settings


class SetUp:
    """What somebody may have set up in an account, by which they would still be in it after its password is gone."""

    def __init__(self, devices: Devices, factors: FactorStore) -> None:
        self._devices = devices
        self._factors = factors

    async def end(self, user_id: str) -> None:
        """What else of this kind comes joins here."""
        await self._factors.change(user_id, lambda _: (SecondFactors(user_id=user_id), None))
        for device in await self._devices.of(user_id):
            await self._devices.remove(user_id, device.device_id)

    async def has_passkey(self, user_id: str) -> bool:
        return bool((await self._factors.held(user_id)).passkeys)


class Federated:
    """To be closed. issuers: by the provider's name."""

    def __init__(
        self,
        settings: Settings,
        database: AsyncDatabase[dict[str, Any]],
        logins: Logins,
        sessions: Sessions,
        artefacts: SingleUse,
        audit: AuditLog,
        set_up: SetUp,
        *,
        ends: Sequence[End],
    ) -> None:
        self._transport = BoundedTransport()
        issuers: Mapping[str, Issuer] = {
            name: Issuer(provider, Httpx2Fetcher(self._transport))
            for name, provider in providers.all_of(settings.oidc_providers).items()
        }
        self.sign_ins = SignIns(
            issuers,
            MongoIdentityStore(database),
            logins,
            sessions,
            artefacts,
            audit,
            ends=(*ends, set_up.end),
            has_passkey=set_up.has_passkey,
        )
        public_url = settings.public_url.rstrip("/")
        self.redirects = Redirects(
            issuers,
            AuthlibRelyingParty(self._transport),
            self.sign_ins,
            artefacts,
            callback=lambda name: f"{public_url}/v1/auth/oidc/{name}/callback",
        )

    async def close(self) -> None:
        await self._transport.close()
