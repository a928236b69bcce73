"""An authenticator in software: makes passkeys and signs with them, as it should or in any other way."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

Json = dict[str, Any]

PRESENT, VERIFIED, MAY_BE_SYNCED, IS_SYNCED, HAS_CREDENTIAL, HAS_EXTENSIONS = 1, 4, 8, 16, 64, 128


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One passkey on one device. What is set here is what it tells next."""

    origin: str = "https://api.test"
    rp_id: str | None = None  # as the options say
    flags: int = PRESENT | VERIFIED
    sign_count: int = 0
    counts: bool = False
    extensions: bytes = b""
    client_data: Json = field(default_factory=dict)
    user_handle: bytes | None = None
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: uuid4().bytes)

    def create(self, options: Json, *, fmt: str = "none", statement: Json | None = None) -> Json:
        """What create() gives for these options, as toJSON() writes it."""
        self.user_handle = decoded(options["user"]["id"])
        attested = bytes(16) + len(self.credential_id).to_bytes(2) + self.credential_id + cbor2.dumps(self._cose())
        data = self._data(options["rp"]["id"], attested)
        attestation = cbor2.dumps({"fmt": fmt, "attStmt": statement or {}, "authData": data})
        response = {
            "clientDataJSON": self._client_data("webauthn.create", options),
            "attestationObject": encoded(attestation),
            "transports": ["internal", "hybrid", "telepathy"],
        }
        return self._credential(response)

    def get(self, options: Json) -> Json:
        """What get() gives for these options, as toJSON() writes it."""
        self.sign_count += self.counts
        data = self._data(options["rpId"])
        client_data = self._client_data("webauthn.get", options)
        signed = data + hashlib.sha256(decoded(client_data)).digest()
        response = {
            "clientDataJSON": client_data,
            "authenticatorData": encoded(data),
            "signature": encoded(self.key.sign(signed, ec.ECDSA(SHA256()))),
            "userHandle": None if self.user_handle is None else encoded(self.user_handle),
        }
        return self._credential(response)

    def _data(self, rp_id: str, attested: bytes = b"") -> bytes:
        flags = self.flags | (HAS_CREDENTIAL if attested else 0) | (HAS_EXTENSIONS if self.extensions else 0)
        head = hashlib.sha256((self.rp_id or rp_id).encode()).digest()
        return head + bytes([flags]) + self.sign_count.to_bytes(4) + attested + self.extensions

    def _client_data(self, kind: str, options: Json) -> str:
        told = {"type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        return encoded(json.dumps(told | self.client_data).encode())

    def _cose(self) -> dict[int, Any]:
        numbers = self.key.public_key().public_numbers()
        return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}

    def _credential(self, response: Json) -> Json:
        return {
            "id": encoded(self.credential_id),
            "rawId": encoded(self.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }
