"""Exceptions to RFC 9457 problem details: one total table.

Domain errors know nothing of HTTP; this is the only file that gives them a status. To add an error: a Problem (or one that
is there), a row in PROBLEMS, and the section that a test then asks of docs/protocols/problems.md. Long, because it is one table.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from msgspec import json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import errors as api
from fitness_api.identity import errors as identity
from fitness_api.identity.dpop import ALGORITHMS
from fitness_api.limits import errors as limits
from fitness_api.workouts import errors as workouts
from sync import errors as sync

MEDIA_TYPE: Final = "application/problem+json"
REALM: Final = "fitness-api"

_log = logging.getLogger("fitness_api.problems")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`code` is for programs and never changes; `meaning` and `remedy` are the page that `type` points to.

    `members` is the allow-list of extension members: the member's name → the error's attribute, or attributes that become
    an object. `constants` are members that say the same each time. Nothing else of an error leaves the house but its message,
    and at 500 and above not even that.
    """

    status: int
    code: str
    title: str
    meaning: str
    remedy: str
    members: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    retry_after_s: int | None = None

    @property
    def slug(self) -> str:
        return self.code.replace("_", "-")


MALFORMED_BODY: Final = Problem(
    status=400,
    code="malformed_body",
    title="The body cannot be read",
    meaning="The body is not the JSON, msgpack or form that Content-Type says, not compressed as Content-Encoding says, nested too deep, or cut off.",
    remedy="Mend the encoder; the same bytes will be refused again.",
)
INVALID_BODY: Final = Problem(
    status=422,
    code="invalid_body",
    title="The body is not what this operation takes",
    meaning="The body was read and something in it is of the wrong type, out of its range, missing, or unknown.",
    remedy="`errors` names each place by a JSON Pointer and says what was expected there.",
)
BODY_TOO_LARGE: Final = Problem(
    status=413,
    code="body_too_large",
    title="The body is too large",
    meaning="The body, after decompression, is over what this operation takes. Reading stopped there.",
    remedy="Send less at a time; `limit_bytes` says how much.",
    members={"limit_bytes": "limit_bytes"},
)
UNSUPPORTED_MEDIA_TYPE: Final = Problem(
    status=415,
    code="unsupported_media_type",
    title="The media type or content coding is not supported",
    meaning="Content-Type or Content-Encoding names something that this operation does not read.",
    remedy="Send one of the types that the detail names, compressed with gzip, zstd or br, or not at all.",
)
NOT_ACCEPTABLE: Final = Problem(
    status=406,
    code="not_acceptable",
    title="No acceptable media type",
    meaning="Accept leaves nothing that this operation can answer in.",
    remedy="Accept `application/json` or `application/msgpack`, or leave the header out.",
)
UNAUTHENTICATED: Final = Problem(
    status=401,
    code="unauthenticated",
    title="A valid access token is needed",
    meaning="No access token came, or one that is expired, revoked, or not ours.",
    remedy="Refresh the token pair and send the request again; if the refresh is refused too, sign in.",
)
INSUFFICIENT_SCOPE: Final = Problem(
    status=403,
    code="insufficient_scope",
    title="The access token lacks a scope",
    meaning="The token is valid and was not granted the scope that this operation needs.",
    remedy="Ask the user for the scope that `scope` names.",
    members={"scope": "scope"},
)
FORGED_FORM: Final = Problem(
    status=403,
    code="forged_form",
    title="The page is out of date",
    meaning="The form is not of a page that was shown in this browser under this login, or the browser keeps no cookies.",
    remedy="Load the page again, with cookies allowed, and send the form once more.",
)
NO_WAY_BACK: Final = Problem(
    status=400,
    code="no_way_back",
    title="This link is not whole",
    meaning="A login page was opened without the page of ours to go on to, or with another place.",
    remedy="Go back to the app and begin again.",
)
NOT_FOUND: Final = Problem(
    status=404,
    code="not_found",
    title="Not found",
    meaning="There is no such path, or no such thing for this caller. What belongs to others is not told apart from what does not exist.",
    remedy="Check the path and the id. Ids are lower-case UUIDs.",
)
METHOD_NOT_ALLOWED: Final = Problem(
    status=405,
    code="method_not_allowed",
    title="The path does not take this method",
    meaning="The path exists and this method does not.",
    remedy="Use one of the methods in the Allow header.",
)
UPGRADE_REQUIRED: Final = Problem(
    status=426,
    code="upgrade_required",
    title="The path is a WebSocket",
    meaning="The request did not ask for a WebSocket, or was more than a handshake, and this path is nothing else.",
    remedy="Open it with a WebSocket client: a GET over HTTP/1.1 with `Connection: upgrade` and `Upgrade: websocket`.",
)
TOO_MANY_CONNECTIONS: Final = Problem(
    status=503,
    code="too_many_connections",
    title="No more connections here",
    meaning="This gateway holds as many WebSockets as it may.",
    remedy="Connect again after Retry-After, with growing pauses and jitter; you may meet another gateway.",
)
EMAIL_TAKEN: Final = Problem(
    status=409,
    code="email_taken",
    title="The address is taken",
    meaning="Another account holds this address.",
    remedy="Log in with it, or register another.",
)
INVALID_ID_TOKEN: Final = Problem(
    status=422,
    code="invalid_id_token",
    title="The ID token does not hold",
    meaning="It is not a configured provider's, was made for another app, expired, or its nonce was not ours or was used before.",
    remedy="Take a new nonce from `/v1/auth/nonce` and sign in with the provider again.",
)
ISSUER_UNAVAILABLE: Final = Problem(
    status=503,
    code="issuer_unavailable",
    title="The identity provider does not answer",
    meaning="Its keys, or the answer to a sign-in, could not be fetched in good time.",
    remedy="Wait for Retry-After, then begin the sign-in again with a new nonce; or log in by other means.",
)
LINK_REQUIRED: Final = Problem(
    status=409,
    code="link_required",
    title="The identity has to be linked first",
    meaning="No account has the identity, and its address alone does not say enough to give it one.",
    remedy="Log in to the account by other means, or register one, then link the identity with `POST /v1/auth/identities`.",
)
IDENTITY_TAKEN: Final = Problem(
    status=409,
    code="identity_taken",
    title="The identity is another account's",
    meaning="An identity opens one account, and this one opens another than the caller's.",
    remedy="Log in with it and remove it there, or link another one here.",
)
TOO_MANY_IDENTITIES: Final = Problem(
    status=409,
    code="too_many_identities",
    title="The account has as many identities as it may",
    meaning="Their number is bounded.",
    remedy="Remove one that is no longer used. `limit` is the bound.",
    members={"limit": "limit"},
)
IDEMPOTENCY_KEY_INVALID: Final = Problem(
    status=400,
    code="idempotency_key_invalid",
    title="The Idempotency-Key is none",
    meaning="The header is empty, too long, given twice, or holds what is not printable ASCII.",
    remedy="Send a UUID, a new one for each thing that is to be done once.",
)
IDEMPOTENCY_KEY_REUSED: Final = Problem(
    status=422,
    code="idempotency_key_reused",
    title="The Idempotency-Key came with another body",
    meaning="In the last 24 hours the same operation got the same key with another body. Nothing was done.",
    remedy="Send it under a new key.",
)
REQUEST_IN_PROGRESS: Final = Problem(
    status=409,
    code="request_in_progress",
    title="The first request with this key is not answered yet",
    meaning="The same request is being served on another connection. It is not done twice.",
    remedy="Send the same again after Retry-After, to get its answer.",
    retry_after_s=1,
)
IDEMPOTENCY_ANSWER_LOST: Final = Problem(
    status=409,
    code="idempotency_answer_lost",
    title="The request was done, and its answer is not kept",
    meaning="A request with this Idempotency-Key succeeded. Its answer was too large to be kept, or can no longer be read.",
    remedy="Read what has become of it; send it again under a new key only if it is to be done twice.",
)
INVALID_CREDENTIALS: Final = Problem(
    status=401,
    code="invalid_credentials",
    title="The address or the password is wrong",
    meaning="They do not belong together, or nobody has that address; which of the two is not told.",
    remedy="Let the user type them again, or reset the password.",
)
MFA_REQUIRED: Final = Problem(
    status=401,
    code="mfa_required",
    title="A second factor is needed",
    meaning="What was sent holds, and the account has a second factor, which is to be shown as well.",
    remedy="Let the user choose one of `ways`, and send it with `mfa_token` to `/v1/auth/mfa` within five minutes. What to ask a passkey, "
    "`/v1/auth/mfa/options` says.",
    members={"mfa_token": "mfa_token", "ways": "ways"},
)
SECOND_FACTOR_REFUSED: Final = Problem(
    status=401,
    code="second_factor_refused",
    title="The second factor does not hold",
    meaning="The code is wrong or was used before, and it counts as a guess: of five wrong ones of one `mfa_token` the last ends it.",
    remedy="Let the user type the next code, or choose another of the `ways`.",
)
PASSKEY_REFUSED: Final = Problem(
    status=401,
    code="passkey_refused",
    title="The passkey's answer does not hold",
    meaning="It is not known here, is not an answer to options of the last five minutes that nobody used, did not verify its user, "
    "or was made for another site; which of these is not told.",
    remedy="Ask for new options and try again, or let the user log in another way.",
)
EMAIL_UNVERIFIED: Final = Problem(
    status=403,
    code="email_unverified",
    title="The e-mail address is not verified",
    meaning="What was asked for lets others into the account, and nobody has shown yet that its address is the owner's.",
    remedy="Let the user follow the link in the mail that was sent at registration, then send the request again.",
)
FIRST_PARTY_ONLY: Final = Problem(
    status=403,
    code="first_party_only",
    title="Only our own apps may do this",
    meaning="The token was given to another app. What is asked for is for the user to decide.",
    remedy="Send the user to the page at `/v1/oauth/authorize` or `/v1/oauth/device`.",
)
AUTHORIZATION_REQUEST_INVALID: Final = Problem(
    status=400,
    code="authorization_request_invalid",
    title="The authorization request cannot be answered",
    meaning="The client is not known, or the redirect URI is none of its own, so that nothing may be sent there.",
    remedy="Check client_id and redirect_uri against what was registered; they are compared letter by letter.",
)
TOO_MANY_CLIENTS: Final = Problem(
    status=409,
    code="too_many_clients",
    title="There are as many clients as there may be",
    meaning="Clients are registered by hand, and their number is bounded.",
    remedy="Remove a client that is no longer used, then register again. `limit` is the bound.",
    members={"limit": "limit"},
)
WEAK_PASSWORD: Final = Problem(
    status=422,
    code="weak_password",
    title="The password is guessed first",
    meaning="The password is long enough and among those that anybody tries first: a common one, a run, or the account's own address or name.",
    remedy="Let the user choose another; a few random words are good. `detail` says what is wrong.",
)
LINK_INVALID: Final = Problem(
    status=400,
    code="link_invalid",
    title="The link does not hold",
    meaning="The token of a link from a mail was used before, has expired, was cancelled, or is none of ours.",
    remedy="Ask for another mail.",
)
TOO_MANY_REQUESTS: Final = Problem(
    status=429,
    code="too_many_requests",
    title="Too many requests",
    meaning="More came than may be served in good time. Nothing was done.",
    remedy="Wait for Retry-After, then send the same request again with jitter.",
    retry_after_s=1,
)
INVALID_DPOP_PROOF: Final = Problem(
    status=401,
    code="invalid_dpop_proof",
    title="The DPoP proof does not hold",
    meaning="The token is bound to a key, or was to be, and the proof that its holder has it is missing, wrong, or was used before.",
    remedy="Make a proof for this very request (RFC 9449 section 4.2), signed by the token's key, with a new `jti` each time.",
)
USE_DPOP_NONCE: Final = Problem(
    status=401,
    code="use_dpop_nonce",
    title="The DPoP proof needs a nonce",
    meaning="The proof has no nonce where one is needed, or an old one, or its time is too far from the server's.",
    remedy="Make a new proof with the nonce from the DPoP-Nonce header, and send the request again.",
)
REAUTHENTICATION_REQUIRED: Final = Problem(
    status=401,
    code="reauthentication_required",
    title="A recent login is needed",
    meaning="The token is valid, and its login is too long ago for what cannot be taken back, or did not show the second factor that the "
    "account has. Refreshing changes neither.",
    remedy="Let the user log in again and send the request with the new token. `max_age_s` is how old a login may be.",
    members={"max_age_s": "max_age_s"},
)
ACCOUNT_DELETED: Final = Problem(
    status=410,
    code="account_deleted",
    title="The account was deleted",
    meaning="The account that the token was given for was erased, here and everywhere, and does not come back.",
    remedy="`wipe` is true: remove what the device holds of the account, the unsent changes too, and begin anew at the login.",
    constants={"wipe": True},
)
INVALID_GRANT: Final = Problem(
    status=400,
    code="invalid_grant",
    title="The grant does not hold",
    meaning="A refresh token that is expired, revoked, or was replaced by a later one; an `mfa_token` that is expired or spent.",
    remedy="Sign in again.",
)
INVALID_SCOPE: Final = Problem(
    status=400,
    code="invalid_scope",
    title="A scope was not granted",
    meaning="The request asks for more than the user granted.",
    remedy="Ask for fewer scopes, or leave them out.",
)
TOTP_NOT_BEGUN: Final = Problem(
    status=409,
    code="totp_not_begun",
    title="No authenticator app waits to be confirmed",
    meaning="A code came to confirm an authenticator app, and none was begun in the last 15 minutes.",
    remedy="Begin with `POST /v1/auth/totp`, show its secret, and confirm with the first code.",
)
NO_SECOND_FACTOR: Final = Problem(
    status=409,
    code="no_second_factor",
    title="The account has no second factor",
    meaning="Recovery codes stand in for an authenticator app or a passkey, and the account has neither.",
    remedy="Add one of them; recovery codes come with the first.",
)
TOO_MANY_PASSKEYS: Final = Problem(
    status=409,
    code="too_many_passkeys",
    title="The account has as many passkeys as it may",
    meaning="Each login may ask about all of them, so their number is bounded.",
    remedy="Remove one that is no longer used. `limit` is the bound.",
    members={"limit": "limit"},
)
LAST_WAY_IN: Final = Problem(
    status=409,
    code="last_way_in",
    title="It is the only way in",
    meaning="Without what was to be removed, nobody could log in to the account any more.",
    remedy="Add another way first: a password, a passkey, or another provider's identity.",
)
BATCH_TOO_LARGE: Final = Problem(
    status=413,
    code="batch_too_large",
    title="Too many changes in one request",
    meaning="The upload holds more changes, or more decoded bytes, than one request may carry, "
    "or would be answered by more of what is stored than one answer may hold.",
    remedy="Halve the batch; `limits` says how much fits.",
    members={"limits": ("max_changes", "max_bytes")},
)
DOCUMENT_PURGED: Final = Problem(
    status=409,
    code="document_purged",
    title="The document was deleted for good",
    meaning="The document was deleted, every device has learned of it, and 30 days have passed: its content is gone and its id is not given again.",
    remedy="Drop the document; make a new one under a new id.",
)
UNKNOWN_DEVICE: Final = Problem(
    status=409,
    code="unknown_device",
    title="The device is not registered",
    meaning="The account has no device of this id: it was deleted, or never registered here.",
    remedy="Register the device and send the request again. Queue and cursor stay good.",
)
TOO_MANY_DEVICES: Final = Problem(
    status=409,
    code="too_many_devices",
    title="The account has as many devices as it may",
    meaning="Every device takes part in deciding what may be purged, so their number is bounded.",
    remedy="Delete a device that is no longer used, then register again. `limit` is the bound.",
    members={"limit": "limit"},
)
EXPORT_IN_PROGRESS: Final = Problem(
    status=409,
    code="export_in_progress",
    title="An export of the account is under way",
    meaning="An export reads everything, so that an account has one at a time. One that was broken off may count for some minutes.",
    remedy="Wait for the other one to end, then ask again.",
)
DOCUMENT_EXISTS: Final = Problem(
    status=409,
    code="document_exists",
    title="There is a document of this id",
    meaning="A document of the id that was sent is there, and it is not what was sent.",
    remedy="Change it instead, or make another under a new id.",
)
DOCUMENT_FULL: Final = Problem(
    status=409,
    code="document_full",
    title="The document has no room for more",
    meaning="What the server was to write would take the document over its bound of paths or bytes. Nothing was written.",
    remedy="Remove what the document no longer needs, then send the same again.",
)
REPLICAS_EXHAUSTED: Final = Problem(
    status=409,
    code="replicas_exhausted",
    title="The account has no replica numbers left",
    meaning="A replica number is never given twice, and all 4,095 of this account were given out.",
    remedy="Nothing that a client can do; write to support.",
)
TRACK_CONFLICT: Final = Problem(
    status=409,
    code="track_conflict",
    title="The chunk exists with other content",
    meaning="Chunks are immutable: this id was used for other samples before.",
    remedy="Send these samples under a new chunk id.",
)
TRACKS_FULL: Final = Problem(
    status=409,
    code="tracks_full",
    title="The workout has no room for more chunks",
    meaning="The workout holds as many chunks or samples as one may, or its document as many paths.",
    remedy="Send fewer and larger chunks, or begin another workout. `limits` says how much fits.",
    members={"limits": ("max_chunks", "max_samples")},
)
FORMAT_UNKNOWN: Final = Problem(
    status=422,
    code="format_unknown",
    title="The file is of no format that is read here",
    meaning="The body does not begin like any of the formats that can be imported.",
    remedy="Send a FIT, GPX or TCX file, as it is, in gzip or alone in a zip.",
)
LOG_UNREADABLE: Final = Problem(
    status=422,
    code="log_unreadable",
    title="The training log cannot be read",
    meaning="The text is not an export of an app that is read here, or does not tell its units and nobody else did.",
    remedy="Send the CSV export of Strong or Hevy as it is; the detail says what is missing.",
)
FILE_UNREADABLE: Final = Problem(
    status=422,
    code="file_unreadable",
    title="There is no activity in the file",
    meaning="The file is of a known format and holds no recorded activity: a course, a planned workout, settings, or nothing.",
    remedy="Send the file of an activity; the same bytes will be refused again.",
)
FILE_DAMAGED: Final = Problem(
    status=422,
    code="file_damaged",
    title="The file is damaged",
    meaning="The file is cut off or corrupt, and no part of it can be read. Of one that is damaged less, the readable part is imported.",
    remedy="Copy the file from the device again.",
)
FILE_TOO_COMPLEX: Final = Problem(
    status=422,
    code="file_too_complex",
    title="The file takes too much to read",
    meaning="The file has more records, sessions or computing than one import may take.",
    remedy="Split the recording; the same bytes will be refused again.",
)
NOT_EXPORTABLE: Final = Problem(
    status=409,
    code="not_exportable",
    title="The workout has nothing for this format",
    meaning="The format is made of something that this workout does not have: positions, or a time.",
    remedy="Take another format, or add what is missing; the detail says what.",
)
DECODER_BUSY: Final = Problem(
    status=503,
    code="decoder_busy",
    title="Too many files are being read",
    meaning="Files are read a few at a time, and as many wait as may. Nothing of this one was kept.",
    remedy="Send the same request again after Retry-After, with growing pauses and jitter.",
)
UNAVAILABLE: Final = Problem(
    status=503,
    code="unavailable",
    title="Unavailable for the moment",
    meaning="A part that this request needs did not answer in time. Whether a write took effect is not known; every write here may be sent again.",
    remedy="Send the same request again after Retry-After, with growing pauses and jitter.",
    members={"dependencies": "dependencies"},
    retry_after_s=1,
)
INTERNAL_ERROR: Final = Problem(
    status=500,
    code="internal_error",
    title="Something went wrong on our side",
    meaning="A fault that we did not foresee. It was logged under `request_id`.",
    remedy="Send the same request again once; if it fails again, tell support the `request_id`.",
)

PROBLEMS: Final[Mapping[type[Exception], Problem]] = {
    api.MalformedBody: MALFORMED_BODY,
    api.InvalidBody: INVALID_BODY,
    api.BodyTooLarge: BODY_TOO_LARGE,
    api.UnsupportedMediaType: UNSUPPORTED_MEDIA_TYPE,
    api.NotAcceptable: NOT_ACCEPTABLE,
    api.NotAuthenticated: UNAUTHENTICATED,
    api.InsufficientScope: INSUFFICIENT_SCOPE,
    api.ForgedForm: FORGED_FORM,
    api.NoWayBack: NO_WAY_BACK,
    api.NotFound: NOT_FOUND,
    api.ExportInProgress: EXPORT_IN_PROGRESS,
    api.UpgradeRequired: UPGRADE_REQUIRED,
    api.TooManyConnections: TOO_MANY_CONNECTIONS,
    api.NotReady: UNAVAILABLE,
    api.IdempotencyKeyInvalid: IDEMPOTENCY_KEY_INVALID,
    api.IdempotencyKeyReused: IDEMPOTENCY_KEY_REUSED,
    api.RequestInProgress: REQUEST_IN_PROGRESS,
    api.IdempotencyAnswerLost: IDEMPOTENCY_ANSWER_LOST,
    api.IdempotencyUnavailable: UNAVAILABLE,
    identity.EmailTaken: EMAIL_TAKEN,
    identity.IdTokenInvalid: INVALID_ID_TOKEN,
    identity.IssuerUnavailable: ISSUER_UNAVAILABLE,
    identity.LinkRequired: LINK_REQUIRED,
    identity.IdentityTaken: IDENTITY_TAKEN,
    identity.TooManyIdentities: TOO_MANY_IDENTITIES,
    identity.InvalidCredentials: INVALID_CREDENTIALS,
    identity.WeakPassword: WEAK_PASSWORD,
    identity.LinkInvalid: LINK_INVALID,
    identity.PasswordHashersBusy: TOO_MANY_REQUESTS,
    identity.AccountDeleted: ACCOUNT_DELETED,
    identity.ReauthenticationRequired: REAUTHENTICATION_REQUIRED,
    identity.MfaRequired: MFA_REQUIRED,
    identity.SecondFactorRefused: SECOND_FACTOR_REFUSED,
    identity.PasskeyRefused: PASSKEY_REFUSED,
    identity.TooManyGuesses: TOO_MANY_REQUESTS,
    identity.TotpNotBegun: TOTP_NOT_BEGUN,
    identity.NoSecondFactor: NO_SECOND_FACTOR,
    identity.TooManyPasskeys: TOO_MANY_PASSKEYS,
    identity.LastWayIn: LAST_WAY_IN,
    identity.EmailUnverified: EMAIL_UNVERIFIED,
    identity.FirstPartyOnly: FIRST_PARTY_ONLY,
    identity.AuthorizationRequestInvalid: AUTHORIZATION_REQUEST_INVALID,
    identity.TooManyClients: TOO_MANY_CLIENTS,
    identity.OAuthRefused: INVALID_GRANT,  # never shown: what raises it is answered in OAuth's own form
    identity.GrantInvalid: INVALID_GRANT,
    identity.ScopeExceeded: INVALID_SCOPE,
    identity.AccessTokenInvalid: UNAUTHENTICATED,
    identity.DpopProofInvalid: INVALID_DPOP_PROOF,
    identity.DpopNonceNeeded: USE_DPOP_NONCE,
    identity.SigningKeysUnreadable: INTERNAL_ERROR,  # an operator's fault, never the caller's
    identity.SecretsUnreadable: INTERNAL_ERROR,  # the same
    identity.StoreUnavailable: UNAVAILABLE,
    sync.BatchTooLarge: BATCH_TOO_LARGE,
    sync.AccountDeleted: ACCOUNT_DELETED,
    sync.UnknownDevice: UNKNOWN_DEVICE,
    sync.NoDocument: NOT_FOUND,
    sync.DocumentExists: DOCUMENT_EXISTS,
    sync.DocumentFull: DOCUMENT_FULL,
    sync.DocumentPurged: DOCUMENT_PURGED,
    sync.TooManyDevices: TOO_MANY_DEVICES,
    sync.ReplicasExhausted: REPLICAS_EXHAUSTED,
    sync.TrackConflict: TRACK_CONFLICT,
    sync.WorkoutTracksFull: TRACKS_FULL,
    sync.StoreUnavailable: UNAVAILABLE,
    limits.RateLimited: TOO_MANY_REQUESTS,
    limits.LimitsUnavailable: UNAVAILABLE,
    workouts.FormatUnknown: FORMAT_UNKNOWN,
    workouts.LogUnreadable: LOG_UNREADABLE,
    workouts.FileUnreadable: FILE_UNREADABLE,
    workouts.FileDamaged: FILE_DAMAGED,
    workouts.FileTooComplex: FILE_TOO_COMPLEX,
    workouts.NotExportable: NOT_EXPORTABLE,
    workouts.DecoderBusy: DECODER_BUSY,
}

# One handler serves a family: Starlette looks along the error's MRO.
BASES: Final[tuple[type[Exception], ...]] = (
    api.ApiError,
    api.IdempotencyRefusal,
    identity.IdentityError,
    limits.LimitsError,
    sync.SyncError,
    workouts.WorkoutsError,
)

_ROUTING: Final[Mapping[int, Problem]] = {404: NOT_FOUND, 405: METHOD_NOT_ALLOWED}

CATALOGUE: Final[Mapping[str, Problem]] = {
    problem.code: problem for problem in (*PROBLEMS.values(), *_ROUTING.values(), MALFORMED_BODY, INTERNAL_ERROR)
}


def problem_of(error: Exception) -> Problem:
    """Return the error's row; a class without one is a fault of ours, which a test keeps from happening."""
    if isinstance(error, HTTPException):
        return _ROUTING.get(error.status_code) or _by_status(error.status_code)
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind]
    return INTERNAL_ERROR


def _by_status(status: int) -> Problem:
    phrase = HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    return Problem(status=status, code=code, title=phrase, meaning=phrase, remedy="")


def details(problem: Problem, error: Exception, *, public_url: str, request_id: str | None) -> dict[str, Any]:
    """Return the problem document's members."""
    body: dict[str, Any] = {
        "type": f"{public_url.rstrip('/')}/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        # Clients show it, so it is always there. A routing error's own text is only its status's phrase.
        "detail": problem.meaning,
    }
    if problem.status < 500 and not isinstance(error, HTTPException) and str(error):
        body["detail"] = str(error)
    if isinstance(error, api.InvalidBody):
        body["errors"] = [{"pointer": wrong.pointer, "detail": wrong.detail} for wrong in error.errors]
    body |= problem.constants
    for member, source in problem.members.items():
        if isinstance(source, tuple):
            body[member] = {name: getattr(error, name) for name in source}
        elif hasattr(error, source):
            body[member] = getattr(error, source)
    if request_id is not None:
        body["request_id"] = request_id
    return body


def headers(problem: Problem, error: Exception) -> dict[str, str]:
    out = {"Cache-Control": "no-store"}
    if isinstance(error, HTTPException):
        out |= dict(error.headers or {})
    if problem.status in {429, 503} or problem is REQUEST_IN_PROGRESS:
        out["Retry-After"] = str(max(1, int(getattr(error, "retry_after_s", None) or problem.retry_after_s or 1)))
    if problem is UPGRADE_REQUIRED:
        out["Upgrade"] = "websocket"
    if isinstance(error, identity.DpopNonceNeeded):
        out["DPoP-Nonce"] = error.nonce
    if challenge := _challenge(problem, error):
        out["WWW-Authenticate"] = challenge
    return out


def _challenge(problem: Problem, error: Exception) -> str | None:
    """RFC 6750 section 3: without a token no error code, so that a client that sent none is not told it was wrong.

    RFC 9470 section 3: how old a login may be. RFC 9449 section 7.1: what is wrong with a proof.
    """
    if isinstance(error, api.InsufficientScope):
        return f'Bearer realm="{REALM}", error="insufficient_scope", scope="{error.scope}"'
    if problem.status != 401:
        return None
    if isinstance(error, identity.DpopProofInvalid):
        return f'DPoP realm="{REALM}", error="{error.error}", algs="{" ".join(ALGORITHMS)}"'
    if isinstance(error, identity.ReauthenticationRequired):
        return f'Bearer realm="{REALM}", error="{error.error}", max_age="{error.max_age_s}"'
    code = "invalid_token" if isinstance(error, identity.AccessTokenInvalid) else getattr(error, "error", None)
    return f'Bearer realm="{REALM}"' + (f', error="{code}"' if code else "")


def response(problem: Problem, error: Exception, *, public_url: str, request_id: str | None) -> Response:
    body = json.encode(details(problem, error, public_url=public_url, request_id=request_id))
    return Response(body, status_code=problem.status, headers=headers(problem, error), media_type=MEDIA_TYPE)


Handler = Callable[[Request[Any], Exception], Awaitable[Response]]


def handlers(public_url: str) -> dict[type[Exception], Handler]:
    """Return what Starlette calls for each base class, for its own routing errors, and for everything else."""

    async def answer(request: Request[Any], error: Exception) -> Response:
        problem = problem_of(error)
        if problem is INTERNAL_ERROR:
            _log.error("%s %s failed", request.method, _route(request), exc_info=error)
        elif problem.status >= 500:
            # The cause's class and code say which driver call failed. Its text stays out: it may quote what a user stored.
            cause = error.__cause__
            code = getattr(cause, "code", None)
            _log.warning("%s %s: %s (%s, code %s)", request.method, _route(request), error, type(cause).__name__, code)
        return response(problem, error, public_url=public_url, request_id=request.scope.get("request_id"))

    return dict.fromkeys((*BASES, HTTPException, Exception), answer)


def _route(request: Request[Any]) -> str:
    return str(getattr(request.scope.get("route"), "path", "an unknown path"))
