"""Opens what a process needs, in order, and closes it in reverse. Handlers read it typed: `Request[Resources]`."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NotRequired, TypedDict

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from fitness_api.erase import Stores
from fitness_api.export.exports import Exports
from fitness_api.export.holdings import Sources
from fitness_api.export.rows_mongo import MongoRows
from fitness_api.federated import Federated, SetUp
from fitness_api.idempotency import KEPT_MS, RUNNING_MS, Idempotency
from fitness_api.idempotency_records_redis import RedisRecords
from fitness_api.identity import gravestones, weak_passwords
from fitness_api.identity.audit import AuditEvent
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.authorization import clients
from fitness_api.identity.authorization.client_store_mongo import MongoClientStore
from fitness_api.identity.authorization.clients import Client
from fitness_api.identity.authorization.codes import Codes
from fitness_api.identity.authorization.device_store_mongo import MongoDeviceStore
from fitness_api.identity.authorization.devices import Devices as DeviceGrants
from fitness_api.identity.authorization.introspection import Introspection
from fitness_api.identity.authorization.registrations import Registrations
from fitness_api.identity.correspondence import Correspondence
from fitness_api.identity.devices import Devices
from fitness_api.identity.dpop_replays_redis import RedisReplays
from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.factors import passkeys
from fitness_api.identity.factors.completion import Completion
from fitness_api.identity.factors.enrolment import Enrolment
from fitness_api.identity.factors.proofs import Proofs
from fitness_api.identity.factors.store_mongo import MongoFactorStore
from fitness_api.identity.federation import providers
from fitness_api.identity.federation.redirects import Redirects
from fitness_api.identity.federation.sign_ins import SignIns
from fitness_api.identity.key_ring import KeyRing
from fitness_api.identity.logins import Logins
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.possession import Possession
from fitness_api.identity.recovery import Recovery
from fitness_api.identity.recovery_store_mongo import MongoRecoveryStore
from fitness_api.identity.revocations import Heard, Revocations
from fitness_api.identity.revocations_redis import RedisRevocations
from fitness_api.identity.sessions import Sessions
from fitness_api.identity.single_use import SingleUse
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.identity.store import Store as Accounts
from fitness_api.identity.store_mongo import MongoStore as MongoAccounts
from fitness_api.leases import Leases
from fitness_api.leases_mongo import MongoLeases
from fitness_api.limits.addresses import networks
from fitness_api.limits.buckets_local import LocalBuckets
from fitness_api.limits.buckets_redis import RedisBuckets
from fitness_api.limits.limiter import Limiter, Limits
from fitness_api.live_sockets import LiveSockets
from fitness_api.mail.deliver import Delivery
from fitness_api.mail.outbox import Outbox
from fitness_api.mail.outbox_mongo import MongoOutbox
from fitness_api.mail.sender_smtp import SmtpSender
from fitness_api.pacing import Pacing
from fitness_api.pages import browser
from fitness_api.profiles import Profiles
from fitness_api.redis_guarded import GuardedRedis
from fitness_api.settings import PREFIX, Settings, SettingsInvalid
from fitness_api.statistics.fact_store_mongo import MongoFactStore
from fitness_api.statistics.follow import FactSources
from fitness_api.workouts.decoder import Decoder
from fitness_api.workouts.import_store_mongo import MongoImportStore
from fitness_api.workouts.imports import Importer
from sync import cursor
from sync.hints_redis import RedisHints
from sync.listing import Listing
from sync.listing_mongo import MongoListing
from sync.log import Log
from sync.log_mongo import MongoLog
from sync.store import Store
from sync.store_mongo import MongoStore
from sync.store_tidying import TidyingStore
from sync.track_store import TrackStore
from sync.track_store_mongo import MongoTrackStore

# Tracks that are put together at once. The largest, of 2,000,000 samples, take some 200 MB while they are; the rest wait.
TRACK_READS: Final = 2
# After these an account is what it was before; after any other its profile may show something else.
KINDS_WITHOUT_CHANGE: Final = frozenset({"registered", "logged_in", "login_failed", "session_ended"})
# Repairs that read at once: each goes through a whole collection, and is rare.
REPAIRS: Final = 2


class Resources(TypedDict):
    settings: Settings
    mongo: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    sync_store: Store
    sync_log: Log
    listing: Listing
    statistics: FactSources
    guarded_redis: GuardedRedis
    sync_repairs: asyncio.Semaphore
    pacing: Pacing
    cursor_key: bytes
    form_key: bytes
    accounts: Accounts
    sessions: Sessions
    possession: Possession
    revocations: Revocations
    logins: Logins
    single_use: SingleUse
    audit: AuditLog
    registrations: Registrations
    codes: Codes
    introspection: Introspection
    device_grants: DeviceGrants
    proofs: Proofs
    completion: Completion
    enrolment: Enrolment
    outbox: Outbox
    recovery: Recovery
    sign_ins: SignIns
    redirects: Redirects
    devices: Devices
    tracks: TrackStore
    track_reads: asyncio.Semaphore
    importer: Importer
    erased: Stores
    exports: Exports
    leases: Leases
    live_sockets: LiveSockets
    profiles: Profiles
    limiter: Limiter
    idempotency: Idempotency
    limits: NotRequired[Limits]  # the request's own, there before its handler is called


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        settings.mongo_url,
        w="majority",
        journal=True,
        readConcernLevel="majority",
        maxPoolSize=settings.mongo_pool_size,
        serverSelectionTimeoutMS=5_000,
        timeoutMS=10_000,
        appname="fitness-api",
        tz_aware=True,
    )
    database = mongo[settings.mongo_database]
    master_key = b64decode(settings.master_key)
    redis = Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5)
    hints = RedisHints(settings.redis_url)
    tracks, imports, facts = MongoTrackStore(database), MongoImportStore(database), MongoFactStore(database)
    sync_store = TidyingStore(MongoStore(database), hints.announce, tracks)
    accounts = MongoAccounts(database)
    passwords = Passwords(hashers=settings.password_hashers)
    single_use, audited, recovery_store = (
        MongoSingleUse(database),
        MongoAuditStore(database),
        MongoRecoveryStore(database),
    )
    outbox = MongoOutbox(database)
    correspondence = Correspondence(
        accounts,
        recovery_store,
        single_use,
        audited,
        outbox,
        public_url=settings.public_url,
        service=settings.service_name,
    )
    revocations = RedisRevocations(settings.redis_url)
    profiles = Profiles(accounts, announce=revocations.announce, hears=lambda: revocations.hears)
    audit = AuditLog(audited, on_event=_told(correspondence, profiles))
    guarded_redis = GuardedRedis(settings.redis_url)
    possession = Possession(RedisReplays(guarded_redis), master_key=master_key)

    def on_end(user_id: str, session_id: str) -> None:
        revocations.announce(user_id, session_id)
        # Its connections ask again whether it goes on, in whichever process they are.
        hints.announce(user_id)

    sessions = Sessions(
        accounts,
        KeyRing(accounts, master_key),
        audit,
        issuer=settings.public_url.rstrip("/"),
        master_key=master_key,
        possession=possession,
        on_end=on_end,
    )
    factors = MongoFactorStore(database)
    party = passkeys.party(
        settings.public_url,
        name=settings.service_name,
        rp_id=settings.passkey_rp_id,
        origins=settings.passkey_origins.split(),
    )
    proofs = Proofs(factors, single_use, party, master_key=master_key)
    logins = Logins(accounts, passwords, sessions, single_use, audit, second_factors=proofs.ways)
    devices = Devices(accounts, sync_store)
    set_up = SetUp(devices, factors)
    recovery = Recovery(
        accounts,
        recovery_store,
        passwords,
        sessions,
        single_use,
        audit,
        correspondence,
        on_first_proof=set_up.end,
    )
    # All that was begun under an account by whoever made it ends when its address's owner comes.
    ends = (sessions.revoke_all, recovery.cancel_pending)
    federated = Federated(settings, database, logins, sessions, single_use, audit, set_up, ends=ends)
    enrolment = Enrolment(
        factors, single_use, audit, party, master_key=master_key, has_other_way_in=accounts.has_way_in
    )
    live_sockets = LiveSockets(hints, sessions)
    log, leases, listing = MongoLog(database), MongoLeases(database), MongoListing(database)
    decoder = Decoder(workers=settings.import_workers)
    importer = Importer(decoder, sync_store, listing, tracks, imports, leases)
    running = AsyncExitStack()
    try:
        await running.enter_async_context(hints.running())
        await running.enter_async_context(revocations.running(_both(sessions.forget, profiles.heard)))
        await running.enter_async_context(live_sockets.running())
        await running.enter_async_context(audit.running())
        if settings.smtp_url is not None:
            delivery = Delivery(outbox, _sender(settings.smtp_url, settings.mail_from), correspondence.compose)
            correspondence.wake = delivery.wake
            await running.enter_async_context(delivery.running())
        # Read from a file once; a request would hold up the others for it.
        await asyncio.to_thread(weak_passwords.common)
        yield {
            "settings": settings,
            "mongo": mongo,
            "redis": redis,
            "sync_store": sync_store,
            "sync_log": log,
            "listing": listing,
            "statistics": FactSources(sync_store, tracks, facts),
            "guarded_redis": guarded_redis,
            "sync_repairs": asyncio.Semaphore(REPAIRS),
            "pacing": Pacing(),
            "cursor_key": cursor.derive_key(master_key),
            "form_key": browser.derive_key(master_key),
            "accounts": accounts,
            "sessions": sessions,
            "possession": possession,
            "revocations": revocations,
            "logins": logins,
            "single_use": single_use,
            "audit": audit,
            "registrations": Registrations(MongoClientStore(database), sessions, _first_party(settings)),
            "introspection": Introspection(sessions, accounts, master_key=master_key),
            "codes": Codes(single_use, sessions, accounts, audit),
            "device_grants": DeviceGrants(MongoDeviceStore(database), sessions, accounts, audit, master_key=master_key),
            "proofs": proofs,
            "completion": Completion(logins, proofs, single_use, audit),
            "enrolment": enrolment,
            "outbox": outbox,
            "recovery": recovery,
            "sign_ins": federated.sign_ins,
            "redirects": federated.redirects,
            "devices": devices,
            "tracks": tracks,
            "track_reads": asyncio.Semaphore(TRACK_READS),
            "importer": importer,
            "erased": Stores(
                MongoErasureStore(database, address_key=gravestones.derive_key(master_key)),
                sync_store,
                tracks,
                imports,
                facts,
            ),
            "exports": Exports(Sources(MongoRows(database), sync_store, log, tracks, imports), leases),
            "leases": leases,
            "live_sockets": live_sockets,
            "profiles": profiles,
            "limiter": Limiter(
                RedisBuckets(guarded_redis),
                LocalBuckets(),
                master_key=master_key,
                shared_by_many=networks(settings.shared_networks),
                unlimited=networks(settings.unlimited_networks),
            ),
            "idempotency": Idempotency(
                RedisRecords(guarded_redis, running_ms=RUNNING_MS, kept_ms=KEPT_MS), master_key=master_key
            ),
        }
    finally:
        await running.aclose()
        passwords.close()
        await federated.close()
        await guarded_redis.aclose()
        await redis.aclose()
        await mongo.close()


def check(settings: Settings) -> None:
    """Raises SettingsInvalid if a setting has its shape and means nothing, before anything is opened."""
    if settings.smtp_url is not None:
        _sender(settings.smtp_url, settings.mail_from)
    _first_party(settings)
    try:
        providers.all_of(settings.oidc_providers)
    except ValueError as error:
        raise SettingsInvalid(f"{PREFIX}OIDC_PROVIDERS: {error}") from None


def _sender(url: str, mail_from: str) -> SmtpSender:
    try:
        return SmtpSender(url, sender=mail_from)
    except ValueError as error:
        raise SettingsInvalid(f"{PREFIX}SMTP_URL or {PREFIX}MAIL_FROM: {error}") from None


def _both(one: Heard, other: Heard) -> Heard:
    def heard(user_id: str, session_id: str | None) -> None:
        one(user_id, session_id)
        other(user_id, session_id)

    return heard


def _told(correspondence: Correspondence, profiles: Profiles) -> Callable[[AuditEvent], Awaitable[None]]:
    async def told(event: AuditEvent) -> None:
        if event.kind not in KINDS_WITHOUT_CHANGE:
            profiles.changed(event.user_id)
        await correspondence.announce(event)

    return told


def _first_party(settings: Settings) -> Client:
    try:
        return clients.first_party(settings.app_redirect_uris.split())
    except ValueError as error:
        raise SettingsInvalid(f"{PREFIX}APP_REDIRECT_URIS: {error}") from None
