"""Files with compressed timestamp headers, made by hand: the library at hand writes none."""

import pytest
from garmin_fit_sdk import CrcCalculator
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.workouts import compressed_timestamps, fit, fit_file
from fitness_api.workouts.compressed_timestamps import TooMany, write_out
from fitness_api.workouts.decoder_process import decode
from fitness_api.workouts.recording import TooComplex
from tests.fitness_api.workouts.recordings import RIDE_WITH_PAUSE, START_MS, header, recorded

# So that five bits run over between the second and the third second.
BASE = (START_MS // 1000 - fit.FIT_EPOCH_S) // 32 * 32 + 29


def file(data: bytes) -> bytes:
    whole = header(data_bytes=len(data)) + data
    return whole + CrcCalculator.calculate_crc(whole, 0, len(whole)).to_bytes(2, "little")


def definition(local: int, *fields: tuple[int, int, int], order: int = 0, message: int = 20) -> bytes:
    number = message.to_bytes(2, "big" if order else "little")
    return bytes([0x40 | local, 0, order]) + number + bytes([len(fields)]) + bytes(sum(fields, ()))


TIMESTAMP, HEART_RATE = (253, 4, 0x86), (3, 1, 2)


def timed(local: int, second: int, heart_rate: int, order: str = "little") -> bytes:
    return bytes([local]) + (BASE + second).to_bytes(4, "big" if order == "big" else "little") + bytes([heart_rate])


def compressed(local: int, second: int, heart_rate: int) -> bytes:
    return bytes([0x80 | local << 5 | (BASE + second) & 0x1F, heart_rate])


def heart_rates(data: bytes) -> list[tuple[int, object]]:
    (session,) = decode(data).sessions
    samples = session.streams["heart_rate"]
    times = [time_ms // 1000 - fit.FIT_EPOCH_S - BASE for time_ms in samples.times_ms]
    return list(zip(times, samples.values, strict=True))


@pytest.mark.parametrize("order", ["little", "big"])
def test_times_go_on_from_the_latest_also_over_five_bits(order: str) -> None:
    at = int(order == "big")
    data = (
        definition(0, TIMESTAMP, HEART_RATE, order=at) + definition(1, HEART_RATE, order=at) + timed(0, 0, 100, order)
    )
    for second in (0, 1, 2, 3, 30, 61, 90):
        data += compressed(1, second, 100 + second)
    assert heart_rates(file(data)) == [(0, 100), *((second, 100 + second) for second in (0, 1, 2, 3, 30, 61, 90))]


def test_one_local_number_may_be_both() -> None:
    data = definition(0, TIMESTAMP, HEART_RATE) + timed(0, 0, 100) + definition(1, HEART_RATE)
    data += compressed(1, 1, 101) + bytes([1, 99]) + compressed(1, 2, 102) + timed(0, 40, 140) + compressed(1, 41, 141)
    # The message without a time of its own is left out, as any record without one.
    assert heart_rates(file(data)) == [(0, 100), (1, 101), (2, 102), (40, 140), (41, 141)]
    assert decode(file(data)).warnings[0] == "1 records without a time were left out."


def test_a_file_without_them_stays_the_same() -> None:
    whole = recorded(RIDE_WITH_PAUSE)
    assert write_out(whole, most_messages=10_000) == whole


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 7])
def test_a_damaged_file_stays_damaged(cut: int) -> None:
    data = definition(0, TIMESTAMP, HEART_RATE) + timed(0, 0, 100) + definition(1, HEART_RATE)
    data += b"".join(compressed(1, second, 100 + second) for second in range(1, 8))
    assert not decode(file(data)).is_damaged
    damaged = decode(file(data)[:-cut])
    assert damaged.is_damaged
    assert len(damaged.sessions) == 1


def test_what_stands_before_a_corrupt_message_is_kept() -> None:
    data = definition(0, TIMESTAMP, HEART_RATE) + timed(0, 0, 100) + definition(1, HEART_RATE) + compressed(1, 1, 101)
    recording = decode(file(data + compressed(3, 2, 102) + compressed(1, 3, 103)))
    assert recording.is_damaged
    assert recording.sessions[0].streams["heart_rate"].values == [100, 101]


def test_too_many_messages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (
        definition(0, TIMESTAMP, HEART_RATE) + timed(0, 0, 100) + definition(1, HEART_RATE) + compressed(1, 1, 101) * 50
    )
    with pytest.raises(TooMany):
        write_out(file(data), most_messages=20)
    monkeypatch.setattr(fit_file, "MAX_POINTS", 20)
    with pytest.raises(TooComplex):
        decode(file(data))


@given(st.binary(max_size=200))
def test_anything_is_written_out_to_something(noise: bytes) -> None:
    for data in (file(noise), header(data_bytes=2**31) + noise, file(definition(0, HEART_RATE) + b"\x80" + noise)):
        try:
            compressed_timestamps.write_out(data, most_messages=1000)
        except TooMany:
            pytest.fail("200 bytes hold no 1000 messages")
        decode(data)
