"""What a client with a key of its own does: proofs, honest and otherwise."""

import base64
import json
from hashlib import sha256
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Json = dict[str, Any]


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def hashed(access_token: str) -> str:
    return encoded(sha256(access_token.encode()).digest())


class Key:
    """A P-256 key, or an Ed25519 one."""

    def __init__(self, alg: str = "ES256") -> None:
        self.alg = alg
        self.private: Any = ec.generate_private_key(ec.SECP256R1()) if alg == "ES256" else Ed25519PrivateKey.generate()
        public: Any = self.private.public_key()
        self.jwk: Json
        if alg == "ES256":
            numbers = public.public_numbers()
            x, y = (encoded(number.to_bytes(32)) for number in (numbers.x, numbers.y))
            self.jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        else:
            self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(public.public_bytes_raw())}

    @property
    def thumbprint(self) -> str:
        return encoded(sha256(json.dumps(self.jwk, sort_keys=True, separators=(",", ":")).encode()).digest())

    def sign(self, message: bytes) -> bytes:
        return jwt.get_algorithm_by_name(self.alg).sign(message, self.private)

    def proof(
        self,
        method: str,
        url: str,
        *,
        at_s: float,
        access_token: str | None = None,
        nonce: str | None = None,
        header: Json | None = None,
        claims: Json | None = None,
    ) -> str:
        """`header` and `claims` replace what an honest one has; None there leaves a member out."""
        honest: Json = {"jti": str(uuid4()), "htm": method, "htu": url, "iat": at_s}
        honest |= {} if access_token is None else {"ath": hashed(access_token)}
        honest |= {} if nonce is None else {"nonce": nonce}
        made = {"typ": "dpop+jwt", "alg": self.alg, "jwk": self.jwk, **(header or {})}
        said = {**honest, **(claims or {})}
        head, body = (
            encoded(json.dumps({name: value for name, value in part.items() if value is not None}).encode())
            for part in (made, said)
        )
        return f"{head}.{body}.{encoded(self.sign(f'{head}.{body}'.encode()))}"
