"""Every rate limit there is: one table, and what of it clients are shown.

A flow (`login`, `sync`) is limited by the policies named `<flow>:<whom it counts>`. A policy counts by

- `account`: the account that is logged in, or the address that somebody typed where nobody is logged in yet;
- `device`: a device that this account was logged in to from before, instead of `account` and `client`: whoever floods an account with
  wrong passwords delays himself and other strangers, never the owner's own phone (ASVS 5.0, 6.1.1);
- `client`: one address block, an IPv4 address or an IPv6 /64;
- `network`: an IPv4 /24 or an IPv6 /48, for those who have many addresses;
- `everyone`: all strangers together, against those who have addresses everywhere. Known devices are not counted.

The quota may be used at once and comes back evenly over the window. To limit another flow: its rows here, then
`limits=("<flow>",)` in its Operation or `await request.state["limits"].require("<flow>", subject)` in its handler.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from fitness_api.limits.gcra import Rate, Taken

By = Literal["account", "device", "client", "network", "everyone"]

WithoutRedis = Literal["count_here", "count_here_tighter", "refuse"]
"""What becomes of a policy while Redis cannot be asked: each process counts for itself, as it is or a quarter of it, or 503."""

MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86400

# As many gateways as this may count for themselves before strangers get more tries than with Redis.
TIGHTER_BY: Final = 4


class Policy(NamedTuple):
    """lease: tokens that a process takes from Redis at once and then gives out by itself, for what is asked often and harms little."""

    flow: str
    by: By
    quota: int
    window_s: int
    without_redis: WithoutRedis = "count_here"
    lease: int = 1

    @property
    def name(self) -> str:
        return f"{self.flow}:{self.by}"

    @property
    def rate(self) -> Rate:
        return Rate(self.quota, self.window_s * 1_000_000)

    @property
    def rate_here(self) -> Rate:
        if self.without_redis == "count_here":
            return self.rate
        return Rate(max(1, self.quota // TIGHTER_BY), self.window_s * 1_000_000)

    @property
    def is_shown(self) -> bool:
        """Not where it would tell a stranger what others do: tries at an account, or how busy all are."""
        return self.by == "client" or (self.by == "account" and self.flow not in TYPED)


# Here the account is whatever address or code the caller typed, so that its quota is not the caller's to see.
TYPED: Final = frozenset({"login", "register", "reset"})

_TABLE: Final = (
    # Ten tries at once, then one a minute: 1,450 a day at one account from all of the world, of which the breached-password list
    # leaves nothing easy to guess. A person who forgot his password gives up before the tenth.
    Policy("login", "account", 10, 10 * MINUTE_S, "count_here_tighter"),
    Policy("login", "device", 10, 10 * MINUTE_S, "count_here_tighter"),
    # A gym's or a university's whole network may be one IPv4 address; it does not log in all at once every five minutes.
    Policy("login", "client", 60, 5 * MINUTE_S, "count_here_tighter"),
    Policy("login", "network", 600, 5 * MINUTE_S, "count_here_tighter"),
    # 100 a second: a few times what a busy evening has, and some 6 processors of Argon2.
    Policy("login", "everyone", 6_000, MINUTE_S),
    # Whether an address is registered is what this operation tells: five times an hour of one, thirty of all.
    Policy("register", "account", 5, HOUR_S, "count_here_tighter"),
    Policy("register", "client", 30, HOUR_S, "count_here_tighter"),
    Policy("register", "network", 300, HOUR_S, "count_here_tighter"),
    Policy("register", "everyone", 1_200, MINUTE_S),
    # Each sends a mail: three an hour to one mailbox is a nuisance at most.
    Policy("reset", "account", 3, HOUR_S, "count_here_tighter"),
    Policy("reset", "client", 20, HOUR_S, "count_here_tighter"),
    Policy("reset", "network", 200, HOUR_S, "count_here_tighter"),
    Policy("reset", "everyone", 600, MINUTE_S),
    # Links from mails and codes from redirects hold 256 bits; this bounds what redeeming made-up ones costs us, not what it finds.
    Policy("code", "client", 60, MINUTE_S, "count_here_tighter"),
    Policy("code", "network", 600, MINUTE_S, "count_here_tighter"),
    # Guesses at a second factor are counted with the account itself (`identity.factors.second_factors`): that holds without Redis, and
    # lets whoever types the right code in as often as he likes. Here only how often one address tries.
    Policy("mfa", "client", 30, 5 * MINUTE_S, "count_here_tighter"),
    Policy("mfa", "network", 300, 5 * MINUTE_S, "count_here_tighter"),
    # The eight letters on a watch: 20^8 codes. Five guesses an account and a minute an address block (RFC 8628 section 5.1).
    Policy("user_code", "account", 5, 10 * MINUTE_S, "refuse"),
    Policy("user_code", "client", 5, MINUTE_S, "refuse"),
    Policy("user_code", "network", 30, MINUTE_S, "refuse"),
    Policy("user_code", "everyone", 300, MINUTE_S, "refuse"),
    # Each is a row in the database until it expires.
    Policy("nonce", "client", 60, MINUTE_S),
    Policy("nonce", "network", 600, MINUTE_S),
    Policy("nonce", "everyone", 6_000, MINUTE_S),
    Policy("device_authorization", "client", 10, MINUTE_S),
    Policy("device_authorization", "network", 100, MINUTE_S),
    Policy("device_authorization", "everyone", 1_200, MINUTE_S),
    # Behind a carrier's NAT thousands of phones refresh every ten minutes from one address. A token that is none costs a MAC.
    Policy("token", "client", 1_200, MINUTE_S, lease=20),
    Policy("token", "network", 12_000, MINUTE_S, lease=100),
    # A phone syncs every few seconds at its busiest. A backfill of ten years is some hundred requests of 1,000 changes; and one
    # account has a handful of devices.
    Policy("sync", "account", 600, MINUTE_S, lease=20),
    # The same backfill has 30,000 chunks of tracks: 25 minutes.
    Policy("tracks", "account", 1_200, MINUTE_S, lease=40),
    # A decoder process each. A season's files at once, then one every two seconds.
    Policy("imports", "account", 300, 10 * MINUTE_S),
    # KiB of files and tracks, 4 GiB a day: ten years of daily recordings at 1 MB each.
    Policy("upload_kib", "account", 4 * 1024 * 1024, DAY_S, lease=4 * 1024),
    # All that is held, read from end to end.
    Policy("export", "account", 5, DAY_S, "refuse"),
    # What an Idempotency-Key has us remember for a day, some 2 KB each.
    Policy("idempotency", "account", 10_000, DAY_S, lease=100),
    Policy("idempotency", "client", 10_000, DAY_S, lease=100),
    Policy("idempotency", "network", 50_000, DAY_S, lease=500),
    # Everything else that is done logged in.
    Policy("requests", "account", 1_200, MINUTE_S, lease=40),
    # And without a login, where nothing narrower holds.
    Policy("anonymous", "client", 600, MINUTE_S, lease=20),
    Policy("anonymous", "network", 6_000, MINUTE_S, lease=100),
)

POLICIES: Final = {policy.name: policy for policy in _TABLE}
FLOWS: Final = {
    flow: tuple(policy for policy in _TABLE if policy.flow == flow)
    for flow in dict.fromkeys(policy.flow for policy in _TABLE)
}


class Outcome(NamedTuple):
    policy: Policy
    taken: Taken


def retry_after_s(outcomes: Iterable[Outcome]) -> int:
    """How long until all that refused would grant it, at least a second."""
    return max(1, *(-(-outcome.taken.retry_after_us // 1_000_000) for outcome in outcomes))


def headers(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit`, as structured fields: q of w seconds; r remain, t seconds until all are there again.

    Source: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
    """
    # A flow may be asked for twice; what it said last holds.
    shown = {outcome.policy.name: outcome for outcome in outcomes if outcome.policy.is_shown}
    if not shown:
        return {}
    return {
        "RateLimit-Policy": ", ".join(
            f'"{_token(policy)}";q={policy.quota};w={policy.window_s}' for policy, _ in shown.values()
        ),
        "RateLimit": ", ".join(
            f'"{_token(policy)}";r={taken.remaining};t={-(-taken.full_after_us // 1_000_000)}'
            for policy, taken in shown.values()
        ),
    }


def _token(policy: Policy) -> str:
    return policy.name.replace(":", "-").replace("_", "-")
