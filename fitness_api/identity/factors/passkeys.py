"""Passkeys: what a browser or an app is asked, and what its answer proves. Source: W3C Web Authentication Level 3.

A passkey is asked to verify its user, by finger, face or code, each time: so it is two factors at once, and logs in by itself.
The `webauthn` library checks signatures; what it does not look at is checked here before it reads anything.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

import webauthn
from msgspec import DecodeError, Meta, Struct, json, to_builtins
from msgspec.structs import replace
from webauthn.helpers import decode_credential_public_key, decoded_public_key_to_cryptography
from webauthn.helpers.cose import COSEAlgorithmIdentifier

from fitness_api.identity.errors import PasskeyRefused
from fitness_api.identity.factors.ctap_cbor import CborRefused, decode

# What every authenticator has one of: Ed25519, ES256, RS256 (older Windows).
ALGORITHMS: Final = (
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
)
TIMEOUT_MS: Final = 300_000  # a hint to the browser; as long as the challenge is kept

MAX_NAME: Final = 64
# WebAuthn section 4: a credential id has at most 1023 bytes.
MAX_CREDENTIAL_ID_BYTES: Final = 1023
# An RSA key and a credential id of full length need some 2 KB.
MAX_AUTHENTICATOR_DATA_BYTES: Final = 4 * 1024

_PORTS: Final = {"http": 80, "https": 443}

_HEAD_BYTES: Final = 37  # hash of the rp id, flags, signature count: WebAuthn section 6.1
_HAS_CREDENTIAL: Final = 1 << 6
_HAS_EXTENSIONS: Final = 1 << 7
_AAGUID_BYTES: Final = 16

Base64url = Annotated[str, Meta(max_length=MAX_AUTHENTICATOR_DATA_BYTES * 2, pattern="^[A-Za-z0-9_-]*$")]
CredentialId = Annotated[str, Meta(min_length=1, max_length=1364, pattern="^[A-Za-z0-9_-]+$")]
Transport = Literal["usb", "nfc", "ble", "smart-card", "internal", "hybrid"]
_TRANSPORTS: Final[Sequence[Transport]] = ("usb", "nfc", "ble", "smart-card", "internal", "hybrid")


class Party(Struct, frozen=True, kw_only=True):
    """Us, as passkeys know us. A passkey is bound to the `rp_id`, a domain: changing it makes all of them useless.

    origins: where an answer may have been given: web origins, and apps as `android:apk-key-hash:…`.
    """

    rp_id: str
    name: str
    origins: tuple[str, ...]


class Passkey(Struct, frozen=True, kw_only=True):
    """sign_count: as its authenticator last told; 0 for ever where the passkey is synced among devices.
    synced: it may be. backed_up: it is.
    """

    id: str
    credential_id: bytes
    public_key: bytes
    sign_count: int
    synced: bool
    backed_up: bool
    transports: tuple[str, ...] = ()
    aaguid: str
    name: str
    created_at_ms: int
    used_at_ms: int | None = None


class RelyingParty(Struct, frozen=True, kw_only=True):
    id: str
    name: str


class User(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    name: str
    display_name: str


class Parameters(Struct, frozen=True, kw_only=True):
    type: Literal["public-key"] = "public-key"
    alg: int


class Descriptor(Struct, frozen=True, kw_only=True):
    type: Literal["public-key"] = "public-key"
    id: str
    transports: tuple[str, ...]


class Selection(Struct, frozen=True, kw_only=True, rename="camel"):
    resident_key: Literal["required"] = "required"
    require_resident_key: bool = True
    user_verification: Literal["required"] = "required"


class CreationOptions(Struct, frozen=True, kw_only=True, rename="camel"):
    """WebAuthn's PublicKeyCredentialCreationOptionsJSON: for PublicKeyCredential.parseCreationOptionsFromJSON."""

    rp: RelyingParty
    user: User
    challenge: str
    pub_key_cred_params: tuple[Parameters, ...]
    timeout: int = TIMEOUT_MS
    exclude_credentials: tuple[Descriptor, ...]
    authenticator_selection: Selection
    attestation: Literal["none"] = "none"


class RequestOptions(Struct, frozen=True, kw_only=True, rename="camel"):
    """WebAuthn's PublicKeyCredentialRequestOptionsJSON: for PublicKeyCredential.parseRequestOptionsFromJSON."""

    challenge: str
    timeout: int = TIMEOUT_MS
    rp_id: str
    allow_credentials: tuple[Descriptor, ...]
    user_verification: Literal["required"] = "required"


class AttestationResponse(Struct, frozen=True, kw_only=True):
    clientDataJSON: Base64url  # noqa: N815  WebAuthn's own names
    attestationObject: Base64url  # noqa: N815
    transports: Annotated[tuple[str, ...], Meta(max_length=16)] | None = None


class AssertionResponse(Struct, frozen=True, kw_only=True):
    clientDataJSON: Base64url  # noqa: N815
    authenticatorData: Base64url  # noqa: N815
    signature: Base64url
    userHandle: Base64url | None = None  # noqa: N815


class NewCredential(Struct, frozen=True, kw_only=True):
    """WebAuthn's RegistrationResponseJSON: what PublicKeyCredential.toJSON() gives after create()."""

    id: CredentialId
    rawId: CredentialId  # noqa: N815
    type: Literal["public-key"]
    response: AttestationResponse


class Assertion(Struct, frozen=True, kw_only=True):
    """WebAuthn's AuthenticationResponseJSON: what PublicKeyCredential.toJSON() gives after get()."""

    id: CredentialId
    rawId: CredentialId  # noqa: N815
    type: Literal["public-key"]
    response: AssertionResponse


class _ClientData(Struct, rename="camel"):
    challenge: str
    cross_origin: bool = False
    top_origin: str | None = None


_client_data: Final = json.Decoder(_ClientData)


def party(public_url: str, *, name: str, rp_id: str, origins: Iterable[str]) -> Party:
    """Return us as the settings have it; without an `rp_id`, the host of the public URL.

    Browsers make no passkeys for an address, so that one stands for localhost, where a developer's browser then goes.
    """
    url = urlsplit(public_url)
    host = url.hostname or ""
    own = [_origin(url.scheme, host, url.port)]
    if _is_address(host):
        host = "localhost"
        own.append(_origin(url.scheme, host, url.port))
    return Party(rp_id=rp_id or host, name=name, origins=(*own, *origins))


def creation_options(
    party: Party, *, challenge: str, user_id: str, email: str, display_name: str | None, known: Iterable[Passkey]
) -> CreationOptions:
    """`known` are not made a second time on a device that holds one of them."""
    return CreationOptions(
        rp=RelyingParty(id=party.rp_id, name=party.name),
        # The handle comes back at a login and says whose it is; it must not tell who that is.
        user=User(id=encoded(UUID(user_id).bytes), name=email, display_name=display_name or email),
        challenge=challenge,
        pub_key_cred_params=tuple(Parameters(alg=int(alg)) for alg in ALGORITHMS),
        exclude_credentials=_descriptors(known),
        authenticator_selection=Selection(),
    )


def request_options(party: Party, *, challenge: str, allowed: Iterable[Passkey] = ()) -> RequestOptions:
    """Without `allowed` the device offers whatever it holds for us."""
    return RequestOptions(challenge=challenge, rp_id=party.rp_id, allow_credentials=_descriptors(allowed))


def challenge_of(credential: NewCredential | Assertion) -> str:
    """Return the challenge that the answer claims to be to. Raises PasskeyRefused if it was given within another site's page."""
    try:
        data = _client_data.decode(_decoded(credential.response.clientDataJSON))
    except (DecodeError, UnicodeError, RecursionError):
        raise PasskeyRefused from None
    if data.cross_origin or data.top_origin is not None:
        raise PasskeyRefused
    return data.challenge


def credential_id(credential: NewCredential | Assertion) -> bytes:
    return _decoded(credential.id)


def user_id_of(assertion: Assertion) -> str | None:
    """Return whose passkey it says it is, which nothing has proved yet. None: it does not say."""
    handle = assertion.response.userHandle
    raw = b"" if handle is None else _decoded(handle)
    return str(UUID(bytes=raw)) if len(raw) == 16 else None


def register(
    credential: NewCredential, party: Party, *, challenge: str, passkey_id: str, name: str, now_ms: int
) -> Passkey:
    """Raises PasskeyRefused if the answer is not one to this challenge, with its user verified, for us, of a kind that we take."""
    _require_plain_attestation(_decoded(credential.response.attestationObject))
    try:
        verified = webauthn.verify_registration_response(
            credential=to_builtins(credential),
            expected_challenge=_decoded(challenge),
            expected_rp_id=party.rp_id,
            expected_origin=list(party.origins),
            require_user_verification=True,
            supported_pub_key_algs=list(ALGORITHMS),
        )
        decoded_public_key_to_cryptography(decode_credential_public_key(verified.credential_public_key))
    except Exception as error:  # It lets through whatever its parsers raise, and the bytes are anybody's.
        raise PasskeyRefused from error
    if len(verified.credential_id) > MAX_CREDENTIAL_ID_BYTES or verified.credential_id != _decoded(credential.id):
        raise PasskeyRefused
    return Passkey(
        id=passkey_id,
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        synced=verified.credential_device_type.value == "multi_device",
        backed_up=verified.credential_backed_up,
        transports=tuple(transport for transport in _TRANSPORTS if transport in (credential.response.transports or ())),
        aaguid=verified.aaguid,
        name=name,
        created_at_ms=now_ms,
    )


def authenticate(assertion: Assertion, passkey: Passkey, party: Party, *, challenge: str, now_ms: int) -> Passkey:
    """Return the passkey as it is after this use.

    Raises PasskeyRefused if the answer is not one to this challenge, by this key, with its user verified, for us; or if its
    count of signatures did not grow, as that of a copied authenticator does not.
    """
    data = _decoded(assertion.response.authenticatorData)
    _require_plain_data(data)
    try:
        verified = webauthn.verify_authentication_response(
            credential=to_builtins(assertion),
            expected_challenge=_decoded(challenge),
            expected_rp_id=party.rp_id,
            expected_origin=list(party.origins),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except Exception as error:  # As above.
        raise PasskeyRefused from error
    # Section 7.2 step 19: whether it may be synced is settled at its making.
    synced = verified.credential_device_type.value == "multi_device"
    if verified.credential_id != passkey.credential_id or synced != passkey.synced:
        raise PasskeyRefused
    return replace(
        passkey, sign_count=verified.new_sign_count, backed_up=verified.credential_backed_up, used_at_ms=now_ms
    )


def _require_plain_attestation(raw: bytes) -> None:
    """Raises PasskeyRefused if it is more than was asked for, which is no attestation, or one by the key itself."""
    try:
        found, end = decode(raw)
    except CborRefused as error:
        raise PasskeyRefused from error
    if end != len(raw) or not isinstance(found, dict) or not isinstance(found.get("authData"), bytes):
        raise PasskeyRefused
    statement: Any = found.get("attStmt")
    if found.get("fmt") not in {"none", "packed"} or not isinstance(statement, dict) or "x5c" in statement:
        raise PasskeyRefused
    _require_plain_data(found["authData"])


def _require_plain_data(data: bytes) -> None:
    """Raises PasskeyRefused unless it is laid out as section 6.1 says."""
    if not _HEAD_BYTES <= len(data) <= MAX_AUTHENTICATOR_DATA_BYTES:
        raise PasskeyRefused
    flags, at = data[32], _HEAD_BYTES
    try:
        if flags & _HAS_CREDENTIAL:
            length_at = at + _AAGUID_BYTES
            at = length_at + 2 + int.from_bytes(data[length_at : length_at + 2])
            _, at = decode(data, at)
        if flags & _HAS_EXTENSIONS:
            _, at = decode(data, at)
    except CborRefused as error:
        raise PasskeyRefused from error
    if at != len(data):
        raise PasskeyRefused


def _origin(scheme: str, host: str, port: int | None) -> str:
    """As browsers write it: RFC 6454 section 6.2."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port in {None, _PORTS.get(scheme)} else f":{port}")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _descriptors(passkeys: Iterable[Passkey]) -> tuple[Descriptor, ...]:
    return tuple(Descriptor(id=encoded(known.credential_id), transports=known.transports) for known in passkeys)


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    """Raises PasskeyRefused if it is no base64url."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise PasskeyRefused from None
