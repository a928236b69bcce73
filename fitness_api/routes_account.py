"""The account's profile, and its devices."""

import time
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies, erase
from fitness_api.errors import NotFound
from fitness_api.identity import accounts
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import (
    HR_MAX_BPM,
    HR_REST_BPM,
    MAX_DISPLAY_NAME,
    MIN_BIRTH_YEAR,
    Account,
    Sex,
    Units,
)
from fitness_api.identity.errors import AccountDeleted
from fitness_api.identity.store import Device, DeviceDetails, Platform, PushAddress, PushKind
from fitness_api.operation import Operation, Parameter
from fitness_api.resources import Resources

Timezone = Annotated[str, Meta(max_length=64, description="An IANA time zone.", examples=["Europe/Berlin"])]
Locale = Annotated[str, Meta(max_length=35, description="A BCP 47 language tag.", examples=["pt-BR"])]  # RFC 5646 4.4.1
AppVersion = Annotated[str, Meta(min_length=1, max_length=64)]
Model = Annotated[str, Meta(min_length=1, max_length=128)]


class Profile(Struct, frozen=True, kw_only=True):
    """The account as its owner sees it. What was not given is null."""

    user_id: str
    email: str
    email_verified: bool
    created_at: str
    display_name: str | None
    timezone: str | None
    locale: str | None
    units: Units | None
    hr_max_bpm: int | None
    hr_rest_bpm: int | None
    sex: Sex | None
    birth_year: int | None


class ProfileChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays; null clears."""

    display_name: Annotated[str, Meta(max_length=MAX_DISPLAY_NAME * 4)] | UnsetType | None = UNSET
    timezone: Timezone | UnsetType | None = UNSET
    locale: Locale | UnsetType | None = UNSET
    units: Units | UnsetType | None = UNSET
    hr_max_bpm: Annotated[int, Meta(ge=HR_MAX_BPM[0], le=HR_MAX_BPM[1])] | UnsetType | None = UNSET
    hr_rest_bpm: Annotated[int, Meta(ge=HR_REST_BPM[0], le=HR_REST_BPM[1])] | UnsetType | None = UNSET
    sex: Sex | UnsetType | None = UNSET
    birth_year: Annotated[int, Meta(ge=MIN_BIRTH_YEAR)] | UnsetType | None = UNSET


class Push(Struct, frozen=True, kw_only=True):
    """Where notifications for the device go: an FCM registration token or a Firebase installation id."""

    kind: PushKind
    value: Annotated[str, Meta(min_length=1, max_length=4096)]  # FCM promises no length; real ones have some 200


class DeviceRegistration(Struct, frozen=True, kw_only=True):
    """An installation of the app. One whose local store was lost or restored registers under a new installation_id."""

    installation_id: UUID
    platform: Platform
    app_version: AppVersion
    model: Model | None = None
    push: Push | None = None


class RegisteredDevice(Struct, frozen=True, kw_only=True):
    """`replica` is the number that the device's stamps carry; it is unique in the account and never given twice."""

    device_id: str
    replica: Annotated[int, Meta(ge=1, le=4095)]


class DeviceChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays; null clears."""

    app_version: AppVersion | UnsetType = UNSET
    model: Model | UnsetType | None = UNSET
    push: Push | UnsetType | None = UNSET


class ListedDevice(Struct, frozen=True, kw_only=True):
    """`push_kind` is null where the device has no push address, or where another registered the same one since."""

    device_id: str
    installation_id: str
    replica: int | None
    platform: Platform
    app_version: str
    model: str | None
    push_kind: PushKind | None
    created_at: str
    updated_at: str


class DeviceList(Struct, frozen=True, kw_only=True):
    """The first registered first."""

    devices: list[ListedDevice]


async def me(request: Request[Resources], principal: Principal) -> Response:
    known = await request.state["profiles"].of(principal.user_id)
    if known is None:
        raise await request.state["sessions"].refusal(principal.user_id, "The account is no more.")
    answered = bodies.answer_format(request)
    if answered not in known.bodies:
        body = bodies.encode(_profile(known.account), answered)
        known.bodies[answered] = body, bodies.entity_tag(body)
    body, tag = known.bodies[answered]
    return bodies.respond_bytes(request, body, media_type=bodies.MEDIA_TYPES[answered], tag=tag)


async def change_me(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, ProfileChange)
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    today = datetime.fromtimestamp(time.time(), UTC).date()
    account = await request.state["accounts"].update_account(
        principal.user_id, lambda account: accounts.changed(account, changes, today=today)
    )
    request.state["profiles"].changed(principal.user_id)
    if account is None:
        raise await request.state["sessions"].refusal(principal.user_id, "The account is no more.")
    return bodies.respond(request, _profile(account))


async def erase_me(request: Request[Resources], principal: Principal) -> Response:
    return await _erase(request, principal.user_id)


async def finish_erasure(request: Request[Resources], user_id: str) -> Response:
    """What was cut off is finished by sending it again, without a login: nobody can log in to the account any more."""
    gravestone = await request.state["erased"].identity.gravestone(user_id)
    if gravestone is None or gravestone.stage != "begun":
        raise AccountDeleted(user_id)
    return await _erase(request, user_id)


async def _erase(request: Request[Resources], user_id: str) -> Response:
    try:
        await erase.account(request.state["erased"], user_id, now_ms=time.time_ns() // 1_000_000)
    finally:
        request.state["sessions"].forget(user_id)
        request.state["profiles"].changed(user_id)
        request.state["revocations"].announce(user_id)
    return Response(status_code=204)


async def register_device(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, DeviceRegistration)
    registered = await request.state["devices"].register(
        principal.user_id,
        principal.session_id,
        str(body.installation_id),
        DeviceDetails(platform=body.platform, app_version=body.app_version, model=body.model),
        _address(body.push),
    )
    answer = RegisteredDevice(device_id=registered.device_id, replica=registered.replica)
    return bodies.respond(request, answer, status=201 if registered.first else 200)


async def list_devices(request: Request[Resources], principal: Principal) -> Response:
    devices = await request.state["devices"].of(principal.user_id)
    return bodies.respond(request, DeviceList(devices=[_listed(device) for device in devices]))


async def change_device(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, DeviceChange)
    device = await request.state["devices"].change(
        principal.user_id,
        principal.session_id,
        request.path_params["device_id"],
        {
            name: value
            for name, value in (("app_version", body.app_version), ("model", body.model))
            if not isinstance(value, UnsetType)
        },
        push=None if isinstance(body.push, UnsetType) else _address(body.push),
        drop_push=body.push is None,
    )
    if device is None:
        raise NotFound("device")
    return bodies.respond(request, _listed(device))


async def remove_device(request: Request[Resources], principal: Principal) -> Response:
    if not await request.state["devices"].remove(principal.user_id, request.path_params["device_id"]):
        raise NotFound("device")
    return Response(status_code=204)


def _profile(account: Account) -> Profile:
    return Profile(
        user_id=account.user_id,
        email=account.email,
        email_verified=account.email_verified,
        created_at=bodies.rfc3339(account.created_at_ms),
        display_name=account.display_name,
        timezone=account.timezone,
        locale=account.locale,
        units=account.units,
        hr_max_bpm=account.hr_max_bpm,
        hr_rest_bpm=account.hr_rest_bpm,
        sex=account.sex,
        birth_year=account.birth_year,
    )


def _address(push: Push | None) -> PushAddress | None:
    return None if push is None else PushAddress(push.kind, push.value)


def _listed(device: Device) -> ListedDevice:
    return ListedDevice(
        device_id=device.device_id,
        installation_id=device.installation_id,
        replica=device.replica,
        platform=device.details.platform,
        app_version=device.details.app_version,
        model=device.details.model,
        push_kind=device.push_kind,
        created_at=bodies.rfc3339(device.created_at_ms),
        updated_at=bodies.rfc3339(device.updated_at_ms),
    )


_DEVICE_ID: Final = Parameter(
    name="device_id", where="path", description="As answered at registration.", type=UUID, required=True
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/v1/me",
        handler=me,
        tag="Account",
        summary="Read the profile",
        login=True,
        scope="account",
        answers={200: Profile},
        problems=("unavailable",),
    ),
    Operation(
        method="PATCH",
        path="/v1/me",
        handler=change_me,
        tag="Account",
        summary="Change the profile",
        login=True,
        scope="account",
        body=ProfileChange,
        answers={200: Profile},
        problems=("unavailable",),
    ),
    Operation(
        method="DELETE",
        path="/v1/me",
        handler=erase_me,
        if_deleted=finish_erasure,
        tag="Account",
        summary="Erase the account",
        description=(
            "Everything that is held of it goes: profile, sessions, devices, documents, tracks and imported files. Its address "
            "may be registered anew at once, as another account. After a 503 or a lost response send the same request again, with "
            "the same token: it goes on, and answers 410 once the account is erased. There is no way back."
        ),
        login=True,
        scope="account",
        recent_login=True,
        answers={204: None},
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/devices",
        is_repeatable=True,
        handler=register_device,
        tag="Devices",
        summary="Register an installation of the app",
        description=(
            "201 the first time, 200 with the same answer after that. A push address belongs to whoever registered it "
            "last, and goes at logout; left out, the one that is there stays."
        ),
        login=True,
        scope="sync",
        body=DeviceRegistration,
        answers={200: RegisteredDevice, 201: RegisteredDevice},
        problems=("too_many_devices", "replicas_exhausted", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/devices",
        handler=list_devices,
        tag="Devices",
        summary="List the account's devices",
        login=True,
        scope="sync",
        answers={200: DeviceList},
        problems=("unavailable",),
    ),
    Operation(
        method="PATCH",
        path="/v1/devices/{device_id}",
        handler=change_device,
        tag="Devices",
        summary="Change a device's app version, model or push address",
        login=True,
        scope="sync",
        parameters=(_DEVICE_ID,),
        body=DeviceChange,
        answers={200: ListedDevice},
        problems=("unavailable",),
    ),
    Operation(
        method="DELETE",
        path="/v1/devices/{device_id}",
        handler=remove_device,
        tag="Devices",
        summary="Remove a device",
        description="It may not sync any more; its replica number stays taken.",
        login=True,
        scope="sync",
        parameters=(_DEVICE_ID,),
        answers={204: None},
        problems=("unavailable",),
    ),
)
