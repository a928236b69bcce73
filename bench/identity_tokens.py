"""What it costs to tell who calls: a token that was seen before, one that comes for the first time, and a proof of its key.

All of it runs on the event loop, so that the longest call is what every other request waits. Beside it what a library takes for
a token's signature alone.
"""

import asyncio
import time
import uuid
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import jwt
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import json
from rich.console import Console

from bench import inside
from bench.tables import percentile, table
from fitness_api.identity import access_tokens, dpop
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.dpop import Asked
from fitness_api.identity.key_ring import KeyRing
from fitness_api.identity.signing_keys import SigningKey
from fitness_api.resources import Resources

USERS = 200
WARM_CALLS = 100_000
COLD_CALLS = 4_000
ROUNDS = 3
URL = "http://127.0.0.1:8080/v1/me"


@dataclass(frozen=True)
class Measured:
    cpu_us: float
    taken_us: Sequence[float]


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    rounds, warm, cold = (1, WARM_CALLS // 10, COLD_CALLS // 10) if quick else (ROUNDS, WARM_CALLS, COLD_CALLS)
    best: dict[str, Measured] = {}
    async with inside.opened() as resources:
        tokens = await _logged_in(resources)
        sessions = resources["sessions"]
        ring = KeyRing(resources["accounts"], b64decode(resources["settings"].master_key))
        signing, public = await ring.current(), dict(await ring.verifying())
        principal = await sessions.principal_of(tokens[0])
        client = ec.generate_private_key(ec.SECP256R1())
        nonces = dpop.derive_key(b"k" * 32)

        async def warm_call(token: str) -> None:
            await sessions.authenticate(f"Bearer {token}")

        async def decode(token: str) -> None:
            jwt.decode(token, public[signing.kid], algorithms=["ES256"], audience=_issuer(token))

        async def proof_call(proof: str) -> None:
            asked = Asked(method="GET", url=URL, proofs=[proof])
            dpop.check(asked, nonces, int(time.time()), access_token=tokens[0], needs_nonce=False)

        for _ in range(rounds):
            fresh = [_minted(key=signing, like=principal, issuer=_issuer(tokens[0])) for _ in range(cold)]
            proofs = [_proof(client, tokens[0]) for _ in range(cold)]
            calls: dict[str, tuple[Callable[[str], Awaitable[None]], Sequence[str]]] = {
                "jwt.decode": (decode, fresh),
                "a token seen before": (warm_call, tokens * (warm // USERS)),
                "a token's first sight": (warm_call, fresh),
                "a proof of its key": (proof_call, proofs),
            }
            for name, (call, given) in calls.items():
                measured = await _timed(call, given)
                if name not in best or measured.cpu_us < best[name].cpu_us:
                    best[name] = measured
    limit = best["jwt.decode"].cpu_us
    shown = table(
        f"Telling who calls, µs of CPU (best of {rounds} rounds)",
        "what",
        "mean",
        "÷ jwt.decode",
        "p50",
        "p99",
        "longest",
    )
    for name, measured in best.items():
        taken = measured.taken_us
        shown.add_row(
            name, f"{measured.cpu_us:.1f}", f"{measured.cpu_us / limit:.2f}",
            f"{percentile(taken, 50):.1f}", f"{percentile(taken, 99):.1f}", f"{max(taken):,.0f}",
        )  # fmt: skip
    console.print(shown)


async def _logged_in(resources: Resources) -> list[str]:
    """Return an access token of each user, which was seen once."""
    tokens = []
    for _ in range(USERS):
        # As after a login; how the user was recognised is another part's matter.
        pair = await resources["sessions"].begin(str(uuid.uuid4()), methods=("pwd",))
        await resources["sessions"].authenticate(f"Bearer {pair.access_token}")
        tokens.append(pair.access_token)
    return tokens


async def _timed(call: Callable[[str], Awaitable[None]], given: Sequence[str]) -> Measured:
    """By the thread's own clock, which stands while others have the processor."""
    taken_us = []
    for number, one in enumerate(given):
        if number % 100 == 0:
            await asyncio.sleep(0)  # as between requests: what else the loop has to do is not starved
        at_ns = time.thread_time_ns()
        await call(one)
        taken_us.append((time.thread_time_ns() - at_ns) / 1_000)
    return Measured(sum(taken_us) / len(taken_us), taken_us)


def _issuer(token: str) -> str:
    claims: dict[str, str] = jwt.decode(token, options={"verify_signature": False})
    return claims["iss"]


def _minted(*, key: SigningKey, like: Principal, issuer: str) -> str:
    return access_tokens.mint(
        key,
        issuer=issuer,
        audience=issuer,
        user_id=like.user_id,
        session_id=like.session_id,
        client_id=like.client_id,
        scopes=like.scopes,
        generation=like.generation,
        authenticated_at_s=like.authenticated_at_s,
        methods=like.methods,
        now_s=int(time.time()),
        token_id=str(uuid.uuid4()),
    )


def _proof(key: ec.EllipticCurvePrivateKey, token: str) -> str:
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": _encoded(numbers.x.to_bytes(32)), "y": _encoded(numbers.y.to_bytes(32))}
    claims = {"jti": str(uuid.uuid4()), "htm": "GET", "htu": URL, "iat": int(time.time()), "ath": _ath(token)}
    headers = {"typ": "dpop+jwt", "jwk": jwk}
    return jwt.PyJWS().encode(json.encode(claims), key, algorithm="ES256", headers=headers)


def _ath(token: str) -> str:
    return _encoded(sha256(token.encode()).digest())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
