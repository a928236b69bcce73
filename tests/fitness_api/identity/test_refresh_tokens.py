import base64
import uuid
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from fitness_api.identity import refresh_tokens
from fitness_api.identity.refresh_tokens import (
    ABSOLUTE_MS,
    RETRY_WINDOW_MS,
    SLIDING_MS,
    Advance,
    Expired,
    Repeat,
    Replay,
    Session,
    decide,
)

KEY = refresh_tokens.derive_key(b"m" * 32)
SESSION = refresh_tokens.begin(
    user_id=str(uuid.UUID(int=1)),
    session_id=str(uuid.UUID(int=2)),
    client_id="app",
    scopes=("sync",),
    user_agent="",
    now_ms=0,
)


def advanced(session: Session, presented: int, now_ms: int) -> Session:
    decision = decide(presented, session, now_ms)
    assert isinstance(decision, Advance)
    return decision.after


def test_the_present_token_advances_the_counter() -> None:
    after = advanced(SESSION, 1, 1000)
    assert (after.counter, after.used_at_ms) == (2, 1000)


def test_the_latest_used_token_repeats_within_the_window() -> None:
    after = replace(advanced(SESSION, 1, 1000), seen_generation=2)
    assert decide(1, after, 1000 + RETRY_WINDOW_MS) == Repeat()
    assert decide(1, after, 1001 + RETRY_WINDOW_MS) == Replay()


def test_it_repeats_for_as_long_as_the_successor_was_not_seen() -> None:
    after = advanced(SESSION, 1, 1000)
    seen_before = replace(after, seen_generation=1)
    for session in (after, seen_before):
        assert decide(1, session, SLIDING_MS - 1) == Repeat()


def test_an_older_token_is_a_replay_even_within_the_window() -> None:
    after = advanced(advanced(SESSION, 1, 1000), 2, 1001)
    assert decide(1, after, 1002) == Replay()


def test_a_token_that_was_never_given_out_is_a_replay() -> None:
    assert decide(0, SESSION, 0) == Replay()


def test_a_repeat_does_not_lengthen_its_own_window() -> None:
    after = replace(advanced(SESSION, 1, 1000), seen_generation=2)
    assert decide(1, after, 20_000) == Repeat()
    assert decide(1, after, 40_000) == Replay()


def test_a_token_from_before_a_restore_advances_past_itself() -> None:
    after = advanced(SESSION, 7, 1000)
    assert after.counter == 8
    assert decide(7, after, 2000) == Repeat()
    assert decide(3, after, 2000) == Replay()


def test_expiry_slides_and_ends_at_the_absolute_one() -> None:
    session, now_ms = SESSION, 0
    while now_ms + SLIDING_MS - 1 < ABSOLUTE_MS:
        now_ms += SLIDING_MS - 1
        session = advanced(session, session.counter, now_ms)
        assert session.expires_at_ms == min(now_ms + SLIDING_MS, ABSOLUTE_MS)
        assert session.authenticated_at_ms == 0
    assert session.expires_at_ms == ABSOLUTE_MS
    assert decide(session.counter, session, ABSOLUTE_MS) == Expired()
    assert decide(1, SESSION, SLIDING_MS) == Expired()


@dataclass
class Phone:
    """Keeps the newest tokens that reached it."""

    refresh: int = 1
    access: int | None = None
    stolen: set[int] = field(default_factory=set)


class AFamily(RuleBasedStateMachine):
    """A phone whose answers get lost, that restarts, retries and races, and nobody else: it is never logged out."""

    @initialize()
    def log_in(self) -> None:
        self.now_ms = 0
        self.session = SESSION
        self.phone = Phone(access=1)
        self.ended = False

    def present(self, counter: int) -> int | None:
        match decide(counter, self.session, self.now_ms):
            case Advance(after):
                self.session = after
                return after.counter
            case Repeat():
                return self.session.counter
            case _:
                self.ended = True
                return None

    @rule(pause_ms=st.integers(0, 10 * 24 * 3600 * 1000) | st.integers(0, 60_000))
    def time_passes(self, pause_ms: int) -> None:
        if self.now_ms + pause_ms < self.session.expires_at_ms:
            self.now_ms += pause_ms

    @rule(arrives=st.booleans(), racing=st.integers(1, 5))
    def refresh(self, *, arrives: bool, racing: int) -> None:
        # The same token, sent several times at once: whichever answer arrives, it is the same one.
        answers = {self.present(self.phone.refresh) for _ in range(racing)}
        assert len(answers) == 1
        answer = answers.pop()
        assert answer is not None
        if arrives:
            self.phone.refresh = self.phone.access = answer

    @rule()
    def call(self) -> None:
        if self.phone.access is not None:
            seen = max(self.session.seen_generation, self.phone.access)
            self.session = replace(self.session, seen_generation=seen)

    @invariant()
    def it_is_never_logged_out(self) -> None:
        assert not self.ended
        assert self.phone.refresh in {self.session.counter, self.session.counter - 1}


TestAFamily = AFamily.TestCase


@given(
    st.lists(st.tuples(st.sampled_from(["phone", "thief"]), st.integers(31_000, 10**9)), min_size=1, max_size=30),
    st.integers(0, 5),
)
@example([("thief", 31_000), ("phone", 31_000)], 0)
@example([("phone", 31_000), ("thief", 31_000)], 0)
def test_two_holders_of_one_family_that_both_go_on_end_it(uses: list[tuple[str, int]], head_start: int) -> None:
    """Whoever comes first, the second use of a token beyond the window, its successor having been used, ends the session."""
    session, now_ms = replace(SESSION, ends_at_ms=10**15, expires_at_ms=10**15), 0
    for _ in range(head_start):
        session = replace(advanced(session, session.counter, now_ms), ends_at_ms=10**15, expires_at_ms=10**15)
    holds = {"phone": session.counter, "thief": session.counter}
    ended = False
    for who, pause_ms in uses:
        now_ms += pause_ms
        match decide(holds[who], session, now_ms):
            case Advance(after):
                session = replace(after, expires_at_ms=10**15)
            case Repeat():
                pytest.fail("a successor that has been used was given again")
            case _:
                ended = True
                break
        holds[who] = session.counter
        session = replace(session, seen_generation=session.counter)  # whoever refreshed makes a call
    assert ended == (len({who for who, _ in uses}) == 2)


# ---------------------------------------------------------------------------------------------------------- the tokens


def test_a_token_is_read_as_it_was_minted() -> None:
    token = refresh_tokens.mint(replace(SESSION, counter=2**63), KEY)
    assert len(token) == refresh_tokens.TOKEN_CHARACTERS == 76
    read = refresh_tokens.read(token, KEY)
    assert read is not None
    assert (read.user_id, read.session_id, read.counter) == (SESSION.user_id, SESSION.session_id, 2**63)


@given(st.integers(0, 75), st.characters())
def test_no_character_of_it_can_be_another(place: int, character: str) -> None:
    token = refresh_tokens.mint(SESSION, KEY)
    altered = token[:place] + character + token[place + 1 :]
    assert (refresh_tokens.read(altered, KEY) is None) == (altered != token)


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_anything_else_is_none(text: str) -> None:
    assert refresh_tokens.read(text, KEY) is None


def test_another_key_version_or_spelling_is_none() -> None:
    token = refresh_tokens.mint(SESSION, KEY)
    assert refresh_tokens.read(token, refresh_tokens.derive_key(b"x" * 32)) is None
    for spelling in (
        token + "=",
        token + "\n",
        " " + token,
        token[:-1],
        token.replace("-", "+").replace("_", "/") + "A",
    ):
        assert refresh_tokens.read(spelling, KEY) is None
    body = b"\x02" + base64.urlsafe_b64decode(token)[1:-16]
    forged = base64.urlsafe_b64encode(body + refresh_tokens._mac(body, KEY)).decode()
    assert refresh_tokens.read(forged, KEY) is None
