"""Tells which key a request's sender holds: its DPoP proof is checked, and accepted once in all processes."""

from collections.abc import Callable
from typing import Final

from fitness_api.identity import dpop
from fitness_api.identity.dpop import Asked
from fitness_api.identity.dpop_replays import Replays
from fitness_api.identity.errors import DpopProofInvalid
from fitness_api.identity.key_ring import wall_clock_ms

SCHEME: Final = "DPoP"


class Possession:
    def __init__(self, replays: Replays, *, master_key: bytes, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._replays = replays
        self._key = dpop.derive_key(master_key)
        self._now_ms = now_ms

    def nonce(self) -> str:
        """Return the nonce to send along, so that the client's next proof can have it."""
        return dpop.nonce(self._key, self._now_ms() // 1000)

    async def of_login(self, asked: Asked) -> str | None:
        """Return the thumbprint of the key that new tokens are to be bound to; None where the client offers no proof.

        A nonce is asked for here and not beside an access token: without a token's hash in it, a proof could be made long
        before it is used, by whoever held the key for a moment. Raises DpopProofInvalid, or StoreUnavailable.
        """
        if not asked.proofs:
            return None
        return await self._thumbprint(asked, access_token=None, needs_nonce=True)

    async def of_request(self, asked: Asked, access_token: str) -> str:
        """Return the thumbprint of the key by which this request, with this token, was proved.

        Raises DpopProofInvalid, or StoreUnavailable.
        """
        return await self._thumbprint(asked, access_token=access_token, needs_nonce=False)

    async def _thumbprint(self, asked: Asked, *, access_token: str | None, needs_nonce: bool) -> str:
        now_s = self._now_ms() // 1000
        proof = dpop.check(asked, self._key, now_s, access_token=access_token, needs_nonce=needs_nonce)
        if not await self._replays.first(proof.mark, for_s=dpop.REMEMBERED_S):
            raise DpopProofInvalid("The proof was used before.")
        return proof.thumbprint
