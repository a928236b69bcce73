from hypothesis import given
from hypothesis import strategies as st

from fitness_api.limits import known_devices
from fitness_api.limits.known_devices import ID_BYTES, LIFETIME_S, MAX_TEXT

KEY = known_devices.derive_key(b"m" * 32)
NOW_S = 1_800_000_000
COOKIE = known_devices.mint("ada@example.org", b"i" * ID_BYTES, KEY, now_s=NOW_S)


def test_a_device_is_known_as_one_of_the_account_s() -> None:
    device = known_devices.read(COOKIE, KEY, now_s=NOW_S)
    assert device is not None
    assert device.device_id == b"i".hex() * ID_BYTES
    assert device.subject_digest == known_devices.subject_digest("ada@example.org", KEY)
    assert device.subject_digest != known_devices.subject_digest("bob@example.org", KEY)
    assert len(COOKIE) <= MAX_TEXT


def test_it_ends() -> None:
    assert known_devices.read(COOKIE, KEY, now_s=NOW_S + LIFETIME_S - 1)
    assert known_devices.read(COOKIE, KEY, now_s=NOW_S + LIFETIME_S) is None


@given(st.integers(0, len(COOKIE) - 1), st.text(min_size=1, max_size=3))
def test_nothing_in_it_can_be_changed(at: int, other: str) -> None:
    changed = COOKIE[:at] + other + COOKIE[at + 1 :]
    device = known_devices.read(changed, KEY, now_s=NOW_S)
    # Base64 has a few spellings of one text.
    assert device is None or device == known_devices.read(COOKIE, KEY, now_s=NOW_S)


@given(st.text() | st.binary().map(bytes.hex))
def test_what_is_none_is_none(text: str) -> None:
    assert known_devices.read(text, KEY, now_s=NOW_S) is None


def test_another_key_s_is_not_ours() -> None:
    assert known_devices.read(COOKIE, known_devices.derive_key(b"o" * 32), now_s=NOW_S) is None


def test_over_https_no_other_host_can_set_it() -> None:
    header = known_devices.set_cookie(COOKIE, https=True)
    assert header.startswith("__Host-fitness-device=")
    assert "; Path=/;" in header
    assert "; Secure" in header
    assert "Domain" not in header
    assert "HttpOnly" in header
    assert "Secure" not in known_devices.set_cookie(COOKIE, https=False)
