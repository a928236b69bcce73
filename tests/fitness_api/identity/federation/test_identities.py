from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fitness_api.identity.federation import identities
from fitness_api.identity.federation.id_tokens import Claims
from fitness_api.identity.federation.identities import (
    Decision,
    Holder,
    Identity,
    Join,
    LogIn,
    Make,
    Refuse,
    TakeOver,
    decide,
    vouched_address,
)
from fitness_api.identity.federation.providers import GOOGLE, Provider, of
from fitness_api.settings import OidcProvider

PROVIDER = of(OidcProvider(name="google", issuer=GOOGLE, client_id="web"))
STRANGER = of(OidcProvider(name="corp", issuer="https://corp.test", client_id="web"))
CLAIMS = Claims(
    issuer=GOOGLE,
    subject="1",
    nonce="n",
    email="ada@example.org",
    email_verified=True,
    hosted_domain=None,
    name=None,
)
GMAIL = replace(CLAIMS, email="ada@gmail.com")


def identity(subject: str = "1", issuer: str = GOOGLE) -> Identity:
    return Identity(identity_id=f"{issuer}/{subject}", issuer=issuer, subject=subject, email=None, linked_at_ms=0)


def holder(user_id: str = "ada", *linked: Identity, verified: bool = True) -> Holder:
    return Holder(user_id=user_id, email_verified=verified, has_password=True, identities=linked, version=0)


def test_an_identity_is_an_issuers_subject() -> None:
    assert identity().key != identity("2").key != identity(issuer="https://corp.test").key
    assert identities.key_of("a", "bc") != identities.key_of("ab", "c")


@pytest.mark.parametrize(
    ("claims", "owner", "holds", "decision"),
    [
        # Known: whatever address it has by now, and whoever else has that.
        (CLAIMS, holder("ada", identity()), None, LogIn("ada")),
        (CLAIMS, holder("ada", identity()), holder("ada", identity()), LogIn("ada")),
        (CLAIMS, holder("ada", identity()), holder("bob"), LogIn("ada")),
        (CLAIMS, holder("ada", identity()), holder("bob", verified=False), LogIn("ada")),
        (replace(CLAIMS, email=None), holder("ada", identity()), None, LogIn("ada")),
        # New, and its address too.
        (CLAIMS, None, None, Make("ada@example.org")),
        (replace(CLAIMS, email="Ada@Example.ORG"), None, None, Make("ada@example.org")),
        # An address that nobody vouches for is nobody's.
        (replace(CLAIMS, email_verified=False), None, None, Refuse()),
        (replace(CLAIMS, email=None), None, None, Refuse()),
        (replace(CLAIMS, email="not an address"), None, None, Refuse()),
        (replace(CLAIMS, email_verified=False), None, holder(verified=False), Refuse()),
        # Made by whoever typed the address.
        (CLAIMS, None, holder(verified=False), TakeOver("ada")),
        (CLAIMS, None, holder("ada", identity("2"), verified=False), TakeOver("ada")),
        (CLAIMS, holder("ada", identity(), verified=False), holder("ada", identity(), verified=False), TakeOver("ada")),
        # Verified: only who runs the mailbox says whose it is now.
        (CLAIMS, None, holder(), Refuse()),
        (GMAIL, None, holder(), Join("ada")),
        (replace(CLAIMS, hosted_domain="example.org"), None, holder(), Join("ada")),
        (replace(CLAIMS, hosted_domain="example.com"), None, holder(), Refuse()),
        # An address that was given to another person.
        (GMAIL, None, holder("ada", identity("2")), Refuse()),
        (GMAIL, None, holder("ada", identity("1", "https://corp.test")), Join("ada")),
        # Cut off after its account listed it.
        (CLAIMS, None, holder("ada", identity()), Join("ada")),
    ],
)
def test_whose_account_it_is(claims: Claims, owner: Holder | None, holds: Holder | None, decision: Decision) -> None:
    assert decide(claims, PROVIDER, owner=owner, holder=holds) == decision


def test_what_a_provider_says_that_verifies_nothing_is_no_address() -> None:
    claims = replace(CLAIMS, issuer=STRANGER.issuer)
    assert vouched_address(claims, STRANGER) is None
    for holds in (None, holder(), holder(verified=False)):
        assert decide(claims, STRANGER, owner=None, holder=holds) == Refuse()


@given(
    email=st.sampled_from(["ada@gmail.com", "ada@example.org", None]),
    verified=st.booleans(),
    hosted=st.sampled_from([None, "example.org", "gmail.com"]),
    provider=st.sampled_from([PROVIDER, STRANGER]),
    owner=st.sampled_from([None, holder("ada", identity()), holder("ada", identity(), verified=False)]),
    holds=st.sampled_from(
        [None, *(holder(user, *linked, verified=is_verified)
                 for user in ("ada", "bob")
                 for linked in ((), (identity("2"),))
                 for is_verified in (True, False))]
    ),
)  # fmt: skip
def test_nobody_gets_into_an_account_that_is_not_theirs(
    email: str | None,
    verified: bool,
    hosted: str | None,
    provider: Provider,
    owner: Holder | None,
    holds: Holder | None,
) -> None:
    claims = replace(CLAIMS, issuer=provider.issuer, email=email, email_verified=verified, hosted_domain=hosted)
    decision: Any = decide(claims, provider, owner=owner, holder=holds)
    vouched = provider is PROVIDER and verified and email is not None
    if owner is None and not vouched:
        assert decision == Refuse()
    if isinstance(decision, Join):
        assert holds is not None
        assert holds.email_verified
        assert email == "ada@gmail.com" or hosted == "example.org"
        assert not holds.has_of(provider.issuer)
    if isinstance(decision, TakeOver):
        assert holds is not None
        assert not holds.email_verified
        assert vouched
    if isinstance(decision, LogIn):
        assert owner is not None
        assert decision.user_id == owner.user_id
