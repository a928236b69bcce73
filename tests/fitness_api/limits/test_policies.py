import re

from fitness_api.app import OPERATIONS
from fitness_api.limits import policies
from fitness_api.limits.gcra import Taken
from fitness_api.limits.policies import FLOWS, POLICIES, TIGHTER_BY, TYPED, Outcome, Policy

# What has no limit, and why.
UNLIMITED = {"/healthz", "/readyz"}  # a load balancer asks, and takes a refusal for an outage


def test_every_operation_counts_against_flows_that_there_are() -> None:
    for operation in OPERATIONS:
        assert set(operation.flows) <= {*FLOWS, *POLICIES}, operation.path
        assert bool(operation.flows) != (operation.path in UNLIMITED), operation.path


def test_a_policy_is_named_once_and_by_its_flow() -> None:
    assert len(POLICIES) == sum(map(len, FLOWS.values()))
    for policy in POLICIES.values():
        assert re.fullmatch(r"[a-z_]+:[a-z]+", policy.name)
        assert 0 < policy.lease <= policy.quota / 10 or policy.lease == 1
        # Whole microseconds, so that what the header says is what is counted.
        assert policy.rate.interval_us * policy.quota - policy.rate.window_us < policy.quota


def test_what_may_be_guessed_is_counted_in_the_clear_by_nobody() -> None:
    for flow in ("login", "mfa", "user_code", "code", "reset", "register"):
        for policy in FLOWS[flow]:
            assert policy.lease == 1
            assert policy.by == "everyone" or policy.without_redis != "count_here"
            assert policy.rate_here.quota == (
                policy.quota if policy.without_redis == "count_here" else max(1, policy.quota // TIGHTER_BY)
            )


def test_whoever_has_many_addresses_has_more_but_not_as_many_times_more() -> None:
    for flow, rows in FLOWS.items():
        quotas = {policy.by: policy.quota / policy.window_s for policy in rows}
        if {"client", "network"} <= quotas.keys():
            assert quotas["client"] < quotas["network"] < 256 * quotas["client"], flow
        if {"network", "everyone"} <= quotas.keys():
            assert quotas["network"] <= quotas["everyone"], flow


def test_headers_are_structured_fields_and_tell_nobody_of_others() -> None:
    taken = Taken(granted=1, remaining=7, retry_after_us=0, full_after_us=61_000_001)
    outcomes = [Outcome(policy, taken) for policy in POLICIES.values()]
    headers = policies.headers(outcomes)
    item = r'"[a-z-]+";q=[1-9]\d*;w=[1-9]\d*'
    assert re.fullmatch(f"{item}(, {item})*", headers["RateLimit-Policy"])
    item = r'"[a-z-]+";r=7;t=62'
    assert re.fullmatch(f"{item}(, {item})*", headers["RateLimit"])
    names = re.findall(r'"([a-z-]+)"', headers["RateLimit"])
    assert names == re.findall(r'"([a-z-]+)"', headers["RateLimit-Policy"])
    assert "login-client" in names
    assert "sync-account" in names
    assert not any(name.endswith(("-everyone", "-network", "-device")) for name in names)
    assert not {f"{flow}-account" for flow in TYPED} & set(names)
    assert policies.headers([]) == {}


def test_one_comes_again_when_all_grant_it_and_never_at_once() -> None:
    def refused(retry_after_us: int) -> Outcome:
        return Outcome(Policy("x", "client", 1, 1), Taken(0, 0, retry_after_us, 0))

    assert policies.retry_after_s([refused(1)]) == 1
    assert policies.retry_after_s([refused(1_000_001), refused(500)]) == 2
