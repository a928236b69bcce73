import base64

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec import convert

from fitness_api.identity.federation import providers
from fitness_api.settings import AppleKey, OidcProvider, SettingsInvalid, from_environment
from tests.fitness_api.identity.federation.issuing import ec_key, rsa_key

LEAST = {
    "FITNESS_MONGO_URL": "mongodb://127.0.0.1:27017",
    "FITNESS_REDIS_URL": "redis://127.0.0.1:6379/0",
    "FITNESS_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
}


def pem(key: ec.EllipticCurvePrivateKey | None = None) -> str:
    return (key or ec_key()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def google(**more: object) -> OidcProvider:
    return convert({"name": "google", "issuer": providers.GOOGLE, "client_id": "web", **more}, OidcProvider)


def apple(**more: object) -> OidcProvider:
    return convert({"name": "apple", "issuer": providers.APPLE, "client_id": "org.example.web", **more}, OidcProvider)


def other(**more: object) -> OidcProvider:
    return convert({"name": "corp", "issuer": "https://id.example.org", "client_id": "us", **more}, OidcProvider)


def test_settings_are_a_json_list() -> None:
    text = """[{"name": "google", "issuer": "https://accounts.google.com", "client_id": "web", "client_secret": "s3cret",
                "audiences": {"ios": "ios-client"}}]"""
    (setting,) = from_environment({**LEAST, "FITNESS_OIDC_PROVIDERS": text}).oidc_providers
    assert (setting.name, setting.client_secret, setting.audiences) == ("google", "s3cret", {"ios": "ios-client"})
    assert "s3cret" not in repr(setting)
    assert "s3cret" not in repr(providers.of(setting))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"name": "x"}',
        "[1]",
        '[{"name": "google"}]',
        '[{"name": "Google", "issuer": "https://a.test", "client_id": "x"}]',
        '[{"name": "a", "issuer": "http://a.test", "client_id": "x"}]',
        '[{"name": "a", "issuer": "http://127.0.0.1.a.test", "client_id": "x"}]',
        '[{"name": "a", "issuer": "file:///etc/passwd", "client_id": "x"}]',
        '[{"name": "a", "issuer": "https://a.test?x", "client_id": "x"}]',
        '[{"name": "a", "issuer": "https://a.test", "client_id": "x", "hunter2": 1}]',
    ],
)
def test_settings_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="FITNESS_OIDC_PROVIDERS"):
        from_environment({**LEAST, "FITNESS_OIDC_PROVIDERS": text})


def test_a_secret_is_not_repeated_in_a_refusal() -> None:
    text = '[{"name": "a", "issuer": "https://a.test", "client_id": "x", "client_secret": ["hunter2"]}]'
    with pytest.raises(SettingsInvalid) as refused:
        from_environment({**LEAST, "FITNESS_OIDC_PROVIDERS": text})
    assert "hunter2" not in str(refused.value)


def test_google_is_authoritative_where_it_runs_the_mailbox() -> None:
    provider = providers.of(google())
    assert provider.verifies_addresses
    assert provider.is_authoritative("ada@gmail.com", None)
    assert provider.is_authoritative("ada@example.org", "Example.org")
    assert not provider.is_authoritative("ada@example.org", None)
    assert not provider.is_authoritative("ada@example.org", "example.com")
    assert not provider.is_authoritative("ada@notgmail.com", None)
    assert not provider.is_authoritative("gmail.com@example.org", None)


def test_apple_is_authoritative_for_its_own_mail_and_its_relay_only() -> None:
    provider = providers.of(apple())
    assert provider.verifies_addresses
    for domain in ("icloud.com", "me.com", "mac.com", "privaterelay.appleid.com"):
        assert provider.is_authoritative(f"ada@{domain}", None)
    assert not provider.is_authoritative("ada@gmail.com", None)
    assert not provider.is_authoritative("ada@example.org", "example.org")
    assert provider.response_mode == "form_post"


def test_of_any_other_nothing_is_believed_that_was_not_said() -> None:
    provider = providers.of(other())
    assert not provider.verifies_addresses
    assert not provider.is_authoritative("ada@id.example.org", "id.example.org")
    told = providers.of(other(verifies_addresses=True, authoritative_domains=["Example.org"]))
    assert told.verifies_addresses
    assert told.is_authoritative("ada@example.org", None)
    assert not providers.of(google(verifies_addresses=False)).verifies_addresses
    assert not providers.of(google(authoritative_domains=[])).is_authoritative("ada@gmail.com", None)


def test_audiences_are_the_webs_and_each_platforms() -> None:
    provider = providers.of(google(audiences={"ios": "i", "android": "a"}))
    assert provider.audiences == {"web", "i", "a"}


def test_names_and_issuers_are_told_apart() -> None:
    assert list(providers.all_of((google(), apple()))) == ["google", "apple"]
    with pytest.raises(ValueError, match="name"):
        providers.all_of((google(), other(name="google")))
    with pytest.raises(ValueError, match="issuer"):
        providers.all_of((google(), google(name="again")))


def test_apples_secret_is_made_anew_each_time() -> None:
    key = ec_key("apple")
    provider = providers.of(apple(apple_key={"team_id": "TEAM", "key_id": "KEY", "private_key": pem(key)}))
    made = providers.client_secret(provider, now_s=4_000_000_000)
    assert made is not None
    assert jwt.get_unverified_header(made) == {"alg": "ES256", "kid": "KEY", "typ": "JWT"}
    claims = jwt.decode(
        made, key.public_key(), algorithms=["ES256"], audience=providers.APPLE, options={"verify_iat": False}
    )
    assert claims == {
        "iss": "TEAM",
        "sub": "org.example.web",
        "aud": providers.APPLE,
        "iat": 4_000_000_000,
        "exp": 4_000_000_000 + providers.APPLE_SECRET_S,
    }
    assert providers.client_secret(providers.of(google(client_secret="s")), now_s=0) == "s"
    assert providers.client_secret(providers.of(google()), now_s=0) is None


@pytest.mark.parametrize(
    "private_key", ["", "hunter2", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"]
)
def test_a_key_that_is_none_is_refused_and_not_repeated(private_key: str) -> None:
    with pytest.raises(ValueError, match="apple: ") as refused:
        providers.of(apple(apple_key={"team_id": "T", "key_id": "K", "private_key": private_key}))
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(AppleKey(team_id="T", key_id="K", private_key="hunter2"))


def test_a_key_of_another_kind_is_refused() -> None:
    rsa = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for private_key in (rsa, pem(ec.generate_private_key(ec.SECP384R1()))):
        with pytest.raises(ValueError, match="P-256"):
            providers.of(apple(apple_key={"team_id": "T", "key_id": "K", "private_key": private_key}))
    with pytest.raises(ValueError, match="one of the two"):
        providers.of(apple(client_secret="s", apple_key={"team_id": "T", "key_id": "K", "private_key": pem()}))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://id.example.org/jwks", True),
        ("https://elsewhere.test:8443/jwks?x=1", True),
        ("http://id.example.org/jwks", False),
        ("http://127.0.0.1/jwks", False),
        ("file:///etc/passwd", False),
        ("ftp://id.example.org/", False),
        ("https:///jwks", False),
        ("https://user:secret@id.example.org/", False),
        ("https://id.example.org:x/", False),
        ("https://id.example.org/#x", False),
        ("javascript:alert(1)", False),
        ("/jwks", False),
        ("https://[::1", False),
    ],
)
def test_where_a_provider_may_send_us(url: str, allowed: bool) -> None:
    assert providers.is_allowed(url, providers.of(other())) is allowed


def test_a_provider_on_this_machine_may_send_us_to_this_machine() -> None:
    provider = providers.of(other(issuer="http://127.0.0.1:9000"))
    assert providers.is_allowed("http://127.0.0.1:9001/jwks", provider)
    assert providers.is_allowed("http://[::1]/jwks", provider)
    assert not providers.is_allowed("http://id.example.org/jwks", provider)
    assert not providers.is_allowed("http://127.0.0.1.example.org/jwks", provider)
