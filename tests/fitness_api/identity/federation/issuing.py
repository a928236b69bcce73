"""An issuer of ours over real HTTP, which says whatever a test wants: honest ID tokens and hostile ones."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.fitness_api.gateway import gateway

AUDIENCE = "web-client"
Claims = dict[str, Any]


@cache
def rsa_key(name: str = "") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(name: str = "") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def number(value: int) -> str:
    return segment(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def segment(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwk(kid: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: str) -> dict[str, str]:
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        return {"kty": "RSA", "kid": kid, "n": number(public.n), "e": number(public.e), **more}
    point = key.public_key().public_numbers()
    coordinates = {"x": segment(point.x.to_bytes(32, "big")), "y": segment(point.y.to_bytes(32, "big"))}
    return {"kty": "EC", "crv": "P-256", "kid": kid, **coordinates, **more}


def claims_of(issuer: str, *, now_s: int, **changes: Any) -> Claims:
    """What an honest issuer says; a change to None leaves the claim out."""
    claims = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "subject-1",
        "iat": now_s,
        "exp": now_s + 600,
        "nonce": "a nonce",
        "email": "ada@example.org",
        "email_verified": True,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def signed(
    claims: Claims | bytes, *, algorithm: str = "RS256", kid: str | None = "rsa-1", key: Any = None, **header: Any
) -> str:
    if key is None:
        key = ec_key() if algorithm == "ES256" else rsa_key()
    payload = claims if isinstance(claims, bytes) else msgspec.json.encode(claims)
    headers = {"typ": "JWT", **({} if kid is None else {"kid": kid}), **header}
    return jwt.PyJWS().encode(payload, key, algorithm=algorithm, headers=headers)


def unsigned(header: Mapping[str, Any], claims: Claims, signature: str = "") -> str:
    return f"{segment(msgspec.json.encode(header))}.{segment(msgspec.json.encode(claims))}.{signature}"


@dataclass
class Issuing:
    """`answers` replaces what a path says; `asked` counts how often each was asked."""

    url: str = ""
    keys: list[dict[str, str]] = field(default_factory=lambda: [jwk("rsa-1", rsa_key()), jwk("ec-1", ec_key())])
    metadata: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Response] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    held: asyncio.Event | None = None
    forms: list[tuple[dict[str, str], str]] = field(default_factory=list)  # what came to /token, with its Authorization

    @property
    def fetches(self) -> int:
        return self.asked.get("/jwks", 0)

    async def token(self, request: Request[Any]) -> Response:
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        self.forms.append((form, request.headers.get("authorization", "")))
        return self.answers.get("/token") or json({"error": "invalid_grant"}, status=400)

    async def serve(self, request: Request[Any]) -> Response:
        path = request.url.path
        self.asked[path] = self.asked.get(path, 0) + 1
        if self.held is not None:
            await self.held.wait()
        if path in self.answers:
            return self.answers[path]
        if path == "/jwks":
            return json({"keys": self.keys})
        described = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            **self.metadata,
        }
        return json(described)


def json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuing]:
    issuer = Issuing()
    app = Starlette(
        routes=[
            Route("/token", issuer.token, methods=["POST"]),
            Route("/jwks", issuer.serve),
            Route("/.well-known/openid-configuration", issuer.serve),
        ],
    )
    async with gateway(app) as server:
        issuer.url = server.url
        yield issuer
