"""What second factors and passkeys an account has: adding, listing and removing them."""

from typing import Annotated, Final
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import NotFound
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import Account
from fitness_api.identity.factors.enrolment import Caller
from fitness_api.identity.factors.passkeys import MAX_NAME, CreationOptions, NewCredential, Passkey, encoded
from fitness_api.operation import Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.resources import Resources

# An RSA key and a long credential id, in base64url.
ENROLMENT_LIMIT_BYTES: Final = 32 * 1024


class NewPasskey(Struct, frozen=True, kw_only=True):
    """`name` is for the owner to know it by, among others."""

    credential: NewCredential
    name: Annotated[str, Meta(max_length=MAX_NAME * 4)] | None = None


class PasskeyChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=MAX_NAME * 4, description=f"1 to {MAX_NAME} characters.")]


class ListedPasskey(Struct, frozen=True, kw_only=True):
    """`synced`: its provider copies it to the owner's other devices. `aaguid` tells who made what holds it, or is zeros."""

    id: str
    credential_id: str
    name: str
    synced: bool
    aaguid: str
    created_at: str
    last_used_at: str | None


class PasskeyList(Struct, frozen=True, kw_only=True):
    """The first made first."""

    passkeys: list[ListedPasskey]


class AddedPasskey(Struct, frozen=True, kw_only=True):
    """`recovery_codes` where it is the account's first second factor, this once; else null."""

    passkey: ListedPasskey
    recovery_codes: tuple[str, ...] | None


class BegunTotp(Struct, frozen=True, kw_only=True):
    """`secret` in base32, for typing; `uri` with all that an authenticator app reads, for a QR code."""

    secret: str
    uri: str


class TotpConfirmation(Struct, frozen=True, kw_only=True):
    code: Annotated[str, Meta(min_length=1, max_length=64)]


class TotpState(Struct, frozen=True, kw_only=True):
    active: bool
    since: str | None


class RecoveryCodes(Struct, frozen=True, kw_only=True):
    """Shown this once. Each works once."""

    recovery_codes: tuple[str, ...]


class RecoveryCodesLeft(Struct, frozen=True, kw_only=True):
    left: int
    made_at: str | None


async def passkey_options(request: Request[Resources], principal: Principal) -> Response:
    options = await request.state["enrolment"].passkey_options(await _account(request, principal))
    return bodies.respond(request, options)


async def add_passkey(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, NewPasskey, limit_bytes=ENROLMENT_LIMIT_BYTES)
    added = await request.state["enrolment"].add_passkey(_caller(request, principal), body.credential, name=body.name)
    answer = AddedPasskey(passkey=_listed(added.passkey), recovery_codes=added.recovery_codes)
    return bodies.respond(request, answer, status=201)


async def list_passkeys(request: Request[Resources], principal: Principal) -> Response:
    held = await request.state["enrolment"].held(principal.user_id)
    return bodies.respond(request, PasskeyList(passkeys=[_listed(passkey) for passkey in held.passkeys]))


async def rename_passkey(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, PasskeyChange)
    passkey = await request.state["enrolment"].rename_passkey(
        _caller(request, principal), request.path_params["id"], body.name
    )
    if passkey is None:
        raise NotFound("passkey")
    return bodies.respond(request, _listed(passkey))


async def remove_passkey(request: Request[Resources], principal: Principal) -> Response:
    if not await request.state["enrolment"].remove_passkey(_caller(request, principal), request.path_params["id"]):
        raise NotFound("passkey")
    return Response(status_code=204)


async def begin_totp(request: Request[Resources], principal: Principal) -> Response:
    begun = await request.state["enrolment"].begin_totp(await _account(request, principal))
    return bodies.respond(request, BegunTotp(secret=begun.secret, uri=begun.uri))


async def confirm_totp(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, TotpConfirmation)
    codes = await request.state["enrolment"].confirm_totp(_caller(request, principal), body.code)
    return bodies.respond(request, RecoveryCodes(recovery_codes=codes))


async def totp_state(request: Request[Resources], principal: Principal) -> Response:
    active = (await request.state["enrolment"].held(principal.user_id)).totp
    since = None if active is None else bodies.rfc3339(active.since_ms)
    return bodies.respond(request, TotpState(active=active is not None, since=since))


async def remove_totp(request: Request[Resources], principal: Principal) -> Response:
    if not await request.state["enrolment"].remove_totp(_caller(request, principal)):
        raise NotFound("authenticator app")
    return Response(status_code=204)


async def renew_codes(request: Request[Resources], principal: Principal) -> Response:
    codes = await request.state["enrolment"].renew_codes(_caller(request, principal))
    return bodies.respond(request, RecoveryCodes(recovery_codes=codes))


async def codes_left(request: Request[Resources], principal: Principal) -> Response:
    held = await request.state["enrolment"].held(principal.user_id)
    made_at_ms = held.recovery_made_at_ms
    left = RecoveryCodesLeft(
        left=len(held.recovery_digests), made_at=None if made_at_ms is None else bodies.rfc3339(made_at_ms)
    )
    return bodies.respond(request, left)


async def _account(request: Request[Resources], principal: Principal) -> Account:
    account = await request.state["accounts"].account(principal.user_id)
    if account is None:
        raise await request.state["sessions"].refusal(principal.user_id, "The account is no more.")
    return account


def _caller(request: Request[Resources], principal: Principal) -> Caller:
    return Caller(principal.user_id, principal.session_id, origin_of(request))


def _listed(passkey: Passkey) -> ListedPasskey:
    return ListedPasskey(
        id=passkey.id,
        credential_id=encoded(passkey.credential_id),
        name=passkey.name,
        synced=passkey.synced,
        aaguid=passkey.aaguid,
        created_at=bodies.rfc3339(passkey.created_at_ms),
        last_used_at=None if passkey.used_at_ms is None else bodies.rfc3339(passkey.used_at_ms),
    )


_PASSKEY_ID: Final = Parameter(name="id", where="path", description="The passkey's id.", type=UUID, required=True)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/auth/passkeys/options",
        handler=passkey_options,
        tag="Second factors",
        summary="Ask how to make a passkey",
        description="For `navigator.credentials.create()` and its like. They are answered once, within five minutes.",
        login=True,
        scope="account",
        recent_login=True,
        answers={200: CreationOptions},
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/passkeys",
        handler=add_passkey,
        tag="Second factors",
        summary="Add a passkey",
        description=(
            "From then on a login by password asks for a second factor. The account's first one brings ten recovery codes, which are "
            "shown this once."
        ),
        login=True,
        scope="account",
        recent_login=True,
        body=NewPasskey,
        answers={201: AddedPasskey},
        problems=("too_many_passkeys", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/auth/passkeys",
        handler=list_passkeys,
        tag="Second factors",
        summary="List the account's passkeys",
        login=True,
        scope="account",
        answers={200: PasskeyList},
        problems=("unavailable",),
    ),
    Operation(
        method="PATCH",
        path="/v1/auth/passkeys/{id}",
        handler=rename_passkey,
        tag="Second factors",
        summary="Rename a passkey",
        login=True,
        scope="account",
        recent_login=True,
        parameters=(_PASSKEY_ID,),
        body=PasskeyChange,
        answers={200: ListedPasskey},
        problems=("unavailable",),
    ),
    Operation(
        method="DELETE",
        path="/v1/auth/passkeys/{id}",
        handler=remove_passkey,
        tag="Second factors",
        summary="Remove a passkey",
        description="The last second factor takes the recovery codes with it. The last way to log in stays.",
        login=True,
        scope="account",
        recent_login=True,
        parameters=(_PASSKEY_ID,),
        answers={204: None},
        problems=("last_way_in", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/auth/totp",
        handler=begin_totp,
        tag="Second factors",
        summary="Begin with an authenticator app",
        description="It does nothing before it is confirmed, within 15 minutes; the app that is in use stays so until then.",
        login=True,
        scope="account",
        recent_login=True,
        answers={200: BegunTotp},
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/totp/confirm",
        handler=confirm_totp,
        tag="Second factors",
        summary="Confirm the authenticator app by its first code",
        description="From then on every login asks for a second factor. Answers ten new recovery codes, this once; older ones hold no more.",
        login=True,
        scope="account",
        recent_login=True,
        body=TotpConfirmation,
        answers={200: RecoveryCodes},
        problems=("totp_not_begun", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/auth/totp",
        handler=totp_state,
        tag="Second factors",
        summary="Tell whether an authenticator app is in use",
        login=True,
        scope="account",
        answers={200: TotpState},
        problems=("unavailable",),
    ),
    Operation(
        method="DELETE",
        path="/v1/auth/totp",
        handler=remove_totp,
        tag="Second factors",
        summary="Remove the authenticator app",
        description="The last second factor takes the recovery codes with it.",
        login=True,
        scope="account",
        recent_login=True,
        answers={204: None},
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/recovery-codes",
        handler=renew_codes,
        tag="Second factors",
        summary="Make ten new recovery codes",
        description="Shown this once; older ones hold no more.",
        login=True,
        scope="account",
        recent_login=True,
        answers={200: RecoveryCodes},
        problems=("no_second_factor", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/auth/recovery-codes",
        handler=codes_left,
        tag="Second factors",
        summary="Tell how many recovery codes are left",
        login=True,
        scope="account",
        answers={200: RecoveryCodesLeft},
        problems=("unavailable",),
    ),
)
