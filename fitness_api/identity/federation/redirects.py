"""Signing in through a browser: to the issuer and back, and on to one of our own pages."""

import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct, json

from fitness_api.identity import single_use
from fitness_api.identity.audit import Origin
from fitness_api.identity.errors import IdTokenInvalid
from fitness_api.identity.federation.issuers import Issuer
from fitness_api.identity.federation.relying_party import RelyingParty
from fitness_api.identity.federation.sign_ins import SignIns
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.single_use import Artefact, SingleUse

STATE_KIND: Final = "oidc_state"
STATE_MS: Final = 600_000  # a password is looked up, and a second factor found, at the issuer meanwhile
_VERIFIER_BYTES: Final = 48  # RFC 7636 section 4.1: 43 to 128 characters

_REFUSAL: Final = "The sign-in was not begun in this browser, took too long, or is over; begin it again."


class Begun(Struct, frozen=True, kw_only=True):
    """browser: digest of what the browser's cookie says, so that nobody is led into another's sign-in."""

    provider: str
    nonce: str
    verifier: str
    way_back: str
    browser: bytes


class Returned(Struct, frozen=True, kw_only=True):
    """What the issuer sent the browser back with; "" where it sent nothing. name: as the issuer tells it beside the token."""

    state: str
    code: str = ""
    error: str = ""
    issuer: str = ""
    name: str | None = None


class Settled(Struct, frozen=True):
    """user_id: None where the person turned back at the issuer."""

    user_id: str | None
    way_back: str


class Redirects:
    """callback: makes the address that an issuer of this name sends browsers back to."""

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        relying_party: RelyingParty,
        sign_ins: SignIns,
        artefacts: SingleUse,
        *,
        callback: Callable[[str], str],
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._issuers = issuers
        self._relying_party = relying_party
        self._sign_ins = sign_ins
        self._artefacts = artefacts
        self._callback = callback
        self._now_ms = now_ms

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._issuers)

    def answers_by_form(self, name: str) -> bool:
        """Whether the issuer has the browser post its answer, from a page of its own."""
        return self._issuers[name].provider.response_mode == "form_post"

    async def begin(self, name: str, *, way_back: str, browser: str) -> str:
        """Return where to send the browser. Raises KeyError if there is no such provider, IssuerUnavailable."""
        issuer = self._issuers[name]
        endpoints = await issuer.endpoints()
        state = single_use.secret()
        begun = Begun(
            provider=name,
            nonce=single_use.secret(),
            verifier=secrets.token_urlsafe(_VERIFIER_BYTES),
            way_back=way_back,
            browser=single_use.digest_of(browser),
        )
        await self._artefacts.add(
            Artefact(
                kind=STATE_KIND,
                digest=single_use.digest_of(state),
                content=json.encode(begun),
                expires_at_ms=self._now_ms() + STATE_MS,
            )
        )
        return await self._relying_party.authorization_url(
            issuer.provider,
            endpoints,
            redirect_uri=self._callback(name),
            state=state,
            nonce=begun.nonce,
            verifier=begun.verifier,
        )

    async def finish(self, name: str, returned: Returned, *, browser: str, origin: Origin) -> Settled:
        """Say who came back, and where they go on to.

        Raises KeyError if there is no such provider, IdTokenInvalid, IssuerUnavailable, LinkRequired.
        """
        issuer = self._issuers[name]
        digest = single_use.digest_of(returned.state)
        standing = await self._artefacts.read(STATE_KIND, digest, now_ms=self._now_ms())
        begun = None if standing is None else json.decode(standing.content, type=Begun)
        # Nobody's state is spent from another browser. An answer at another issuer's address is a mix-up (RFC 9700 section 4.4).
        if (
            begun is None
            or begun.provider != name
            or not hmac.compare_digest(begun.browser, single_use.digest_of(browser))
            or not isinstance(await self._artefacts.use(STATE_KIND, digest, now_ms=self._now_ms()), Artefact)
        ):
            raise IdTokenInvalid(_REFUSAL)
        if returned.issuer and not issuer.provider.is_issuer(returned.issuer):
            raise IdTokenInvalid("The answer is another issuer's.")  # RFC 9207
        if not returned.code or returned.error:
            return Settled(None, begun.way_back)
        id_token = await self._relying_party.id_token(
            issuer.provider,
            await issuer.endpoints(),
            code=returned.code,
            redirect_uri=self._callback(name),
            verifier=begun.verifier,
        )
        claims = await issuer.verify(id_token)
        if not hmac.compare_digest(claims.nonce.encode(), begun.nonce.encode()):
            raise IdTokenInvalid("The ID token was made for another sign-in.")
        user_id = await self._sign_ins.settle(claims, issuer.provider, name=returned.name, origin=origin)
        return Settled(user_id, begun.way_back)
