"""Keys rotate while tokens are minted and verified everywhere, by verifiers whose key sets are as old as they may be."""

import random
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fitness_api.identity import access_tokens, signing_keys
from fitness_api.identity.errors import AccessTokenInvalid
from fitness_api.identity.key_ring import KeyRing
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.conftest import ISSUER, MASTER_KEY, Clock

CACHED_S = 300  # as /.well-known/jwks.json allows
STEP_S = 30
STEPS = 400  # three hours and more


class Verifier:
    """A service elsewhere: it fetches the key set when its copy is too old, and for nothing else."""

    def __init__(self, rings: list[KeyRing], clock: Clock, dice: random.Random) -> None:
        self._rings = rings
        self._clock = clock
        self._dice = dice
        self._keys: dict[str, ec.EllipticCurvePublicKey] = {}
        self._fetched_at_ms = 0

    async def accepts(self, token: str) -> bool:
        if self._clock() - self._fetched_at_ms >= CACHED_S * 1000:
            published = await self._dice.choice(self._rings).published()
            self._keys = {key.kid: signing_keys.public_key(key) for key in published}
            self._fetched_at_ms = self._clock()
        try:
            access_tokens.verify(token, self._keys, self._clock() // 1000, issuer=ISSUER, audience=ISSUER)
        except AccessTokenInvalid:
            return False
        return True


async def minted(ring: KeyRing, clock: Clock) -> str:
    return access_tokens.mint(
        await ring.current(),
        issuer=ISSUER,
        audience=ISSUER,
        user_id="user",
        session_id="session",
        client_id="app",
        scopes=["sync"],
        generation=1,
        authenticated_at_s=0,
        now_s=clock() // 1000,
        token_id=str(uuid4()),
    )


async def refused(store: MongoStore, clock: Clock, *, seed: int, enough: int = STEPS) -> tuple[int, int]:
    """Return how many tokens that hold were refused somewhere, and how often the keys rotated; it ends after `enough`."""
    dice = random.Random(seed)
    rings = [KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(4)]
    verifiers = [Verifier(rings, clock, dice) for _ in range(6)]
    alive: list[tuple[int, str]] = []
    failures = rotations = 0
    for _ in range(STEPS):
        clock.advance(s=STEP_S)
        alive = [(until_ms, token) for until_ms, token in alive if until_ms > clock()]
        token = await minted(dice.choice(rings), clock)
        alive.append((clock() + access_tokens.LIFETIME_S * 1000, token))
        for _, one in [alive[-1], *dice.choices(alive, k=2)]:
            failures += not await dice.choice(verifiers).accepts(one)
            kid = jwt.get_unverified_header(one)["kid"]
            failures += kid not in await dice.choice(rings).verifying()
        if dice.random() < 0.2:
            operator = KeyRing(store, MASTER_KEY, now_ms=clock)
            rotations += await operator.rotate() is None
        if failures >= enough:
            break
    return failures, rotations


async def test_nobody_s_token_is_refused_however_often_keys_rotate(store: MongoStore, clock: Clock) -> None:
    failures, rotations = await refused(store, clock, seed=1)
    assert rotations >= 10
    assert failures == 0


async def test_it_would_be_found_out_if_keys_signed_too_early(
    store: MongoStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "PUBLISH_BEFORE_MS", 0)
    failures, _ = await refused(store, clock, seed=1, enough=1)
    assert failures > 0
