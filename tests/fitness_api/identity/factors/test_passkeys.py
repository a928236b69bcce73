import hashlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import cbor2
import msgspec
import pytest

from fitness_api.identity.errors import PasskeyRefused
from fitness_api.identity.factors import passkeys
from fitness_api.identity.factors.passkeys import Assertion, NewCredential, Party, Passkey
from tests.fitness_api.identity.factors.authenticator import (
    IS_SYNCED,
    MAY_BE_SYNCED,
    PRESENT,
    VERIFIED,
    Authenticator,
    Json,
    decoded,
    encoded,
)

PARTY = Party(rp_id="api.test", name="Fitness", origins=("https://api.test", "android:apk-key-hash:abc"))
USER_ID = str(uuid4())
CHALLENGE = encoded(b"c" * 32)
OTHER_CHALLENGE = encoded(b"d" * 32)
NOW_MS = 4_000_000_000_000


def creation() -> Json:
    options = passkeys.creation_options(
        PARTY, challenge=CHALLENGE, user_id=USER_ID, email="ada@example.org", display_name=None, known=()
    )
    told: Json = msgspec.json.decode(msgspec.json.encode(options))
    return told


def request() -> Json:
    options = passkeys.request_options(PARTY, challenge=CHALLENGE)
    told: Json = msgspec.json.decode(msgspec.json.encode(options))
    return told


def registered(answer: Json) -> Passkey:
    credential = msgspec.convert(answer, NewCredential)
    assert passkeys.challenge_of(credential)
    return passkeys.register(
        credential, PARTY, challenge=CHALLENGE, passkey_id=str(uuid4()), name="Phone", now_ms=NOW_MS
    )


def used(answer: Json, passkey: Passkey) -> Passkey:
    assertion = msgspec.convert(answer, Assertion)
    assert passkeys.challenge_of(assertion)
    return passkeys.authenticate(assertion, passkey, PARTY, challenge=CHALLENGE, now_ms=NOW_MS + 1)


@pytest.mark.parametrize(
    ("public_url", "rp_id", "origins"),
    [
        ("https://api.test/", "api.test", ("https://api.test",)),
        ("https://API.test:8443/base", "api.test", ("https://api.test:8443",)),
        ("http://localhost:8080", "localhost", ("http://localhost:8080",)),
        ("http://127.0.0.1:8080", "localhost", ("http://127.0.0.1:8080", "http://localhost:8080")),
        ("http://[::1]:80", "localhost", ("http://[::1]", "http://localhost")),
    ],
)
def test_who_we_are_comes_from_the_public_url(public_url: str, rp_id: str, origins: tuple[str, ...]) -> None:
    found = passkeys.party(public_url, name="Fitness", rp_id="", origins=["android:apk-key-hash:abc"])
    assert found == Party(rp_id=rp_id, name="Fitness", origins=(*origins, "android:apk-key-hash:abc"))
    assert passkeys.party(public_url, name="F", rp_id="test", origins=[]).rp_id == "test"


def test_the_options_are_as_webauthn_writes_them() -> None:
    options = creation()
    assert options == {
        "rp": {"id": "api.test", "name": "Fitness"},
        "user": {"id": options["user"]["id"], "name": "ada@example.org", "displayName": "ada@example.org"},
        "challenge": CHALLENGE,
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in (-8, -7, -257)],
        "timeout": 300_000,
        "excludeCredentials": [],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }
    assert request() == {
        "challenge": CHALLENGE,
        "timeout": 300_000,
        "rpId": "api.test",
        "allowCredentials": [],
        "userVerification": "required",
    }
    passkey = registered(Authenticator().create(creation()))
    allowed = passkeys.request_options(PARTY, challenge=CHALLENGE, allowed=[passkey]).allow_credentials
    assert msgspec.json.decode(msgspec.json.encode(allowed)) == [
        {"type": "public-key", "id": encoded(passkey.credential_id), "transports": ["internal", "hybrid"]}
    ]


def test_a_passkey_is_made_and_used() -> None:
    authenticator = Authenticator(counts=True)
    passkey = registered(authenticator.create(creation()))
    assert (passkey.sign_count, passkey.synced, passkey.backed_up) == (0, False, False)
    assert passkey.transports == ("internal", "hybrid")
    answer = authenticator.get(request())
    assert passkeys.user_id_of(msgspec.convert(answer, Assertion)) == USER_ID
    after = used(answer, passkey)
    assert (after.sign_count, after.used_at_ms) == (1, NOW_MS + 1)
    assert used(authenticator.get(request()), after).sign_count == 2


def test_a_synced_passkey_counts_nothing() -> None:
    authenticator = Authenticator(flags=PRESENT | VERIFIED | MAY_BE_SYNCED)
    passkey = registered(authenticator.create(creation()))
    assert (passkey.synced, passkey.backed_up) == (True, False)
    authenticator.flags |= IS_SYNCED
    for _ in range(3):
        passkey = used(authenticator.get(request()), passkey)
        assert (passkey.sign_count, passkey.backed_up) == (0, True)


def test_a_count_that_did_not_grow_is_a_copy() -> None:
    authenticator = Authenticator(counts=True, sign_count=7)
    passkey = registered(authenticator.create(creation()))
    passkey = used(authenticator.get(request()), passkey)
    for told in (8, 7, 0):
        authenticator.counts, authenticator.sign_count = False, told
        with pytest.raises(PasskeyRefused):
            used(authenticator.get(request()), passkey)
    authenticator.sign_count = 9
    assert used(authenticator.get(request()), passkey).sign_count == 9


def test_it_may_be_used_in_every_origin_that_is_ours() -> None:
    authenticator = Authenticator(origin="android:apk-key-hash:abc")
    passkey = registered(authenticator.create(creation()))
    authenticator.origin = "https://api.test"
    assert used(authenticator.get(request()), passkey)


WRONG: list[Callable[[Authenticator], Any]] = [
    lambda one: setattr(one, "flags", PRESENT),
    lambda one: setattr(one, "flags", VERIFIED),
    lambda one: setattr(one, "flags", PRESENT | VERIFIED | IS_SYNCED),
    lambda one: setattr(one, "origin", "https://api.test.evil.example"),
    lambda one: setattr(one, "origin", "http://api.test"),
    lambda one: setattr(one, "origin", "https://api.test:8443"),
    lambda one: setattr(one, "origin", ""),
    lambda one: setattr(one, "rp_id", "test"),
    lambda one: one.client_data.update(challenge=OTHER_CHALLENGE),
    lambda one: one.client_data.update(type="webauthn.other"),
    lambda one: one.client_data.update(crossOrigin=True),
    lambda one: one.client_data.update(topOrigin="https://evil.example"),
    lambda one: one.client_data.update(origin=["https://api.test"]),
    lambda one: one.client_data.update(challenge=None),
    lambda one: setattr(one, "extensions", b"\x00" * 5000),
    lambda one: setattr(one, "extensions", b"\xd8\x1c\x80"),
    lambda one: setattr(one, "extensions", b"\xa0\xa0"),
]


@pytest.mark.parametrize("how", WRONG)
def test_an_answer_that_is_wrong_makes_no_passkey(how: Callable[[Authenticator], Any]) -> None:
    authenticator = Authenticator()
    how(authenticator)
    with pytest.raises(PasskeyRefused):
        registered(authenticator.create(creation()))


@pytest.mark.parametrize("how", WRONG)
def test_an_answer_that_is_wrong_proves_nothing(how: Callable[[Authenticator], Any]) -> None:
    authenticator = Authenticator()
    passkey = registered(authenticator.create(creation()))
    how(authenticator)
    with pytest.raises(PasskeyRefused):
        used(authenticator.get(request()), passkey)


def test_another_passkeys_answer_proves_nothing() -> None:
    mine, other = Authenticator(), Authenticator()
    passkey = registered(mine.create(creation()))
    other.user_handle = mine.user_handle
    with pytest.raises(PasskeyRefused):
        used(other.get(request()), passkey)
    other.credential_id = mine.credential_id
    with pytest.raises(PasskeyRefused):
        used(other.get(request()), passkey)
    other.key = mine.key
    assert used(other.get(request()), passkey)


def test_one_that_was_not_synced_does_not_become_so() -> None:
    authenticator = Authenticator()
    passkey = registered(authenticator.create(creation()))
    authenticator.flags |= MAY_BE_SYNCED
    with pytest.raises(PasskeyRefused):
        used(authenticator.get(request()), passkey)


@pytest.mark.parametrize("member", ["clientDataJSON", "authenticatorData", "signature", "userHandle"])
def test_a_changed_answer_proves_nothing_and_an_odd_one_breaks_nothing(member: str) -> None:
    authenticator = Authenticator()
    passkey = registered(authenticator.create(creation()))
    answer = authenticator.get(request())
    right = decoded(answer["response"][member])
    for wrong in (b"", b"\x00", right[:-1], right + b"\x00", bytes([right[0] ^ 1]) + right[1:], b"[" * 3000):
        answer["response"][member] = encoded(wrong)
        if member == "userHandle":
            assert passkeys.user_id_of(msgspec.convert(answer, Assertion)) != USER_ID
        else:
            with pytest.raises(PasskeyRefused):
                used(answer, passkey)


@pytest.mark.parametrize(
    ("fmt", "statement"),
    [
        ("none", {"sig": b"x"}),
        ("packed", {"alg": -7, "sig": b"x"}),
        ("packed", {"alg": -7, "sig": b"x", "x5c": [b"x"]}),
        ("tpm", {}),
        ("android-safetynet", {"ver": "1", "response": b"x"}),
        (7, {}),
        (None, {}),
    ],
)
def test_no_attestation_is_taken_but_none_and_the_keys_own(fmt: Any, statement: Json) -> None:
    with pytest.raises(PasskeyRefused):
        registered(Authenticator().create(creation(), fmt=fmt, statement=statement))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xa0",
        b"\x80",
        cbor2.dumps({"fmt": "none", "attStmt": {}}),
        cbor2.dumps({"fmt": "none", "authData": bytes(37)}),
        cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": bytes(36) + b"\x04"}),
        cbor2.dumps(
            {"fmt": "none", "attStmt": {}, "authData": hashlib.sha256(b"api.test").digest() + b"\x05" + bytes(4)}
        ),
        cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": bytes(32) + b"\x45" + bytes(4) + b"\xff" * 18}),
    ],
)
def test_an_attestation_that_is_none_makes_no_passkey(raw: bytes) -> None:
    answer = Authenticator().create(creation())
    answer["response"]["attestationObject"] = encoded(raw)
    with pytest.raises(PasskeyRefused):
        registered(answer)


def test_a_key_that_is_on_no_curve_makes_no_passkey() -> None:
    authenticator = Authenticator()
    point = {1: 2, 3: -7, -1: 1, -2: b"\x01" * 32, -3: b"\x01" * 32}
    authenticator._cose = lambda: point  # type: ignore[method-assign]
    with pytest.raises(PasskeyRefused):
        registered(authenticator.create(creation()))


def test_shared_references_are_refused_before_the_library_multiplies_them() -> None:
    """231 bytes that it would read for eleven seconds."""
    authenticator = Authenticator()
    passkey = registered(authenticator.create(creation()))
    references = b"".join(b"\xd8\x1c\x82" + (b"\xd8\x1d" + bytes([n])) * 2 for n in range(21))
    authenticator.extensions = b"\x96\xd8\x1c\x80" + references
    with pytest.raises(PasskeyRefused) as refused:
        used(authenticator.get(request()), passkey)
    assert type(refused.value.__cause__).__name__ == "CborRefused"
