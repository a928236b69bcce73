"""Completing a login by a second factor, and logging in by a passkey."""

from typing import Annotated, Final

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody
from fitness_api.identity.factors.completion import RecoveryCode, Shown, TotpCode
from fitness_api.identity.factors.passkeys import Assertion, RequestOptions
from fitness_api.identity.sessions import TokenPair
from fitness_api.operation import Operation
from fitness_api.origins import origin_of
from fitness_api.proofs import key_thumbprint_of
from fitness_api.remembering import remembered
from fitness_api.resources import Resources

# The largest answer of an authenticator: an RSA key and a long credential id, in base64url.
PASSKEY_LIMIT_BYTES: Final = 32 * 1024

Token = Annotated[str, Meta(min_length=1, max_length=200)]
Code = Annotated[str, Meta(min_length=1, max_length=64)]


class MfaAnswer(Struct, frozen=True, kw_only=True):
    """`mfa_token` of the answer mfa_required, and one of the three."""

    mfa_token: Token
    totp: Annotated[Code, Meta(description="Six figures; spaces do not matter.")] | None = None
    recovery_code: Annotated[Code, Meta(description="Case and dashes do not matter.")] | None = None
    passkey: Assertion | None = None


class MfaToken(Struct, frozen=True, kw_only=True):
    mfa_token: Token


class PasskeyLogin(Struct, frozen=True, kw_only=True):
    credential: Assertion


async def complete(request: Request[Resources]) -> Response:
    body = await bodies.read(request, MfaAnswer, limit_bytes=PASSKEY_LIMIT_BYTES)
    completed = await request.state["completion"].complete(
        body.mfa_token, _shown(body), origin=origin_of(request), key_thumbprint=await key_thumbprint_of(request)
    )
    return bodies.respond(request, completed.pair, headers=await remembered(request, completed.user_id))


async def mfa_options(request: Request[Resources]) -> Response:
    body = await bodies.read(request, MfaToken, limit_bytes=PASSKEY_LIMIT_BYTES)
    return bodies.respond(request, await request.state["completion"].passkey_options(body.mfa_token))


async def passkey_login_options(request: Request[Resources]) -> Response:
    return bodies.respond(request, await request.state["proofs"].login_options())


async def passkey_login(request: Request[Resources]) -> Response:
    body = await bodies.read(request, PasskeyLogin, limit_bytes=PASSKEY_LIMIT_BYTES)
    completed = await request.state["completion"].passkey_login(
        body.credential, origin=origin_of(request), key_thumbprint=await key_thumbprint_of(request)
    )
    return bodies.respond(request, completed.pair, headers=await remembered(request, completed.user_id))


def _shown(body: MfaAnswer) -> Shown:
    ways: list[Shown] = []
    if body.totp is not None:
        ways.append(TotpCode(body.totp))
    if body.recovery_code is not None:
        ways.append(RecoveryCode(body.recovery_code))
    if body.passkey is not None:
        ways.append(body.passkey)
    if len(ways) != 1:
        raise InvalidBody(Invalid("", "Send one of totp, recovery_code and passkey."))
    return ways[0]


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/auth/mfa",
        handler=complete,
        tag="Second factors",
        summary="Complete a login by a second factor",
        limits=("mfa",),
        description=(
            "With the `mfa_token` of an answer `mfa_required`, which holds for five minutes and one login. The fifth answer that does "
            "not hold ends it. A passkey's options come from `/v1/auth/mfa/options`. A login that was begun with a proof in the DPoP header "
            "(RFC 9449) is completed with a new one of the same key."
        ),
        body=MfaAnswer,
        answers={200: TokenPair},
        problems=(
            "invalid_grant",
            "second_factor_refused",
            "passkey_refused",
            "invalid_dpop_proof",
            "use_dpop_nonce",
            "unavailable",
        ),
    ),
    Operation(
        method="POST",
        path="/v1/auth/mfa/options",
        handler=mfa_options,
        tag="Second factors",
        summary="Ask what to ask a passkey, to complete a login",
        limits=("nonce",),
        description="For `navigator.credentials.get()` and its like. They are answered once, within five minutes.",
        body=MfaToken,
        answers={200: RequestOptions},
        problems=("invalid_grant", "no_second_factor", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/auth/passkeys/login/options",
        handler=passkey_login_options,
        tag="Second factors",
        summary="Ask what to ask a passkey, to log in by it",
        limits=("nonce",),
        description="For `navigator.credentials.get()` and its like. They are answered once, within five minutes.",
        answers={200: RequestOptions},
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/passkeys/login",
        handler=passkey_login,
        tag="Second factors",
        summary="Log in by a passkey",
        limits=("code",),
        description="It verified its user, by finger, face or code, so that no second factor is asked for. With a proof in the DPoP "
        "header the tokens are bound to its key.",
        body=PasskeyLogin,
        answers={200: TokenPair},
        problems=("passkey_refused", "invalid_dpop_proof", "use_dpop_nonce", "unavailable"),
    ),
)
