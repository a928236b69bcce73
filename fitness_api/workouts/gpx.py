"""GPX 1.1: a workout's positions as a track, each with what other sensors measured at that moment.

    text = head(name="Morning ride", sport="ride", at_ms=…) + "".join(segment(positions, others)) + … + TAIL

A position is a point only where it is known; what was measured without one has no place in GPX. Heart rate, cadence and
temperature are in Garmin's TrackPointExtension, which every reader of GPX knows, and power in its PowerExtension.
Source: https://www.topografix.com/GPX/1/1/, https://www8.garmin.com/xmlschemas/TrackPointExtensionv1.xsd
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from sync import tracks
from sync.tracks import Chunk, Number, Stream

# So long a measurement stands where its sensor gives no newer one: sensors send once a second, and some once in four.
STANDS_MS: Final = 5_000

# What stands beside a position, in the order that the schema of a point asks for.
BESIDE: Final[tuple[Stream, ...]] = ("altitude", "heart_rate", "cadence", "temperature", "power")

# XML 1.0 section 2.2 has no form for these, escaped or not.
_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

TAIL: Final = "</trk>\n</gpx>\n"


def head(*, name: str | None, sport: str | None, at_ms: int | None) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<gpx version="1.1" creator="fitness-api"',
        '  xmlns="http://www.topografix.com/GPX/1/1"',
        '  xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v1"',
        '  xmlns:pwr="http://www.garmin.com/xmlschemas/PowerExtension/v1">',
    ]
    if at_ms is not None:
        lines.append(f"<metadata><time>{_instant(at_ms)}</time></metadata>")
    lines.append("<trk>")
    if name is not None:
        lines.append(f"<name>{_text(name)}</name>")
    if sport is not None:
        lines.append(f"<type>{_text(sport)}</type>")
    return "\n".join(lines) + "\n"


def segment(positions: Chunk, others: Mapping[Stream, Sequence[Chunk]]) -> Iterator[str]:
    """Give the text of one track segment, point by point; nothing where no position is known."""
    beside = {stream: _Beside(chunks) for stream, chunks in others.items() if chunks}
    is_open = False
    for offset_ms, position in zip(positions.offsets_ms, positions.values, strict=True):
        if not isinstance(position, tuple):
            continue
        at_ms = positions.start_ms + offset_ms
        if not is_open:
            is_open = True
            yield "<trkseg>\n"
        measured = {stream: value for stream, one in beside.items() if (value := one.at(at_ms)) is not None}
        yield _point(at_ms, position, measured)
    if is_open:
        yield "</trkseg>\n"


def _point(at_ms: int, position: tuple[Number, Number], measured: Mapping[Stream, Number]) -> str:
    latitude, longitude = position
    parts = [f'<trkpt lat="{_decimal(latitude)}" lon="{_decimal(longitude)}">']
    if (altitude := measured.get("altitude")) is not None:
        parts.append(f"<ele>{_decimal(altitude)}</ele>")
    parts.append(f"<time>{_instant(at_ms)}</time>")
    inner = ""
    if (temperature := measured.get("temperature")) is not None:
        inner += f"<gpxtpx:atemp>{_decimal(temperature)}</gpxtpx:atemp>"
    # Whole numbers, and bounded, in that schema.
    if (heart_rate := measured.get("heart_rate")) is not None and 1 <= round(heart_rate) <= 255:
        inner += f"<gpxtpx:hr>{round(heart_rate)}</gpxtpx:hr>"
    if (cadence := measured.get("cadence")) is not None and 0 <= round(cadence) <= 254:
        inner += f"<gpxtpx:cad>{round(cadence)}</gpxtpx:cad>"
    extensions = f"<gpxtpx:TrackPointExtension>{inner}</gpxtpx:TrackPointExtension>" if inner else ""
    if (power := measured.get("power")) is not None and 0 <= round(power) <= 65535:
        extensions += f"<pwr:PowerInWatts>{round(power)}</pwr:PowerInWatts>"
    if extensions:
        parts.append(f"<extensions>{extensions}</extensions>")
    parts.append("</trkpt>\n")
    return "".join(parts)


class _Beside:
    """The latest value of another stream, as time goes on."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        joined = tracks.join(chunks)
        self._start_ms, self._offsets_ms, self._values = joined.start_ms, joined.offsets_ms, joined.values
        self._next = 0
        self._latest: tuple[int, Number] | None = None

    def at(self, at_ms: int) -> Number | None:
        """`at_ms` never falls from one call to the next."""
        while self._next < len(self._values) and self._start_ms + self._offsets_ms[self._next] <= at_ms:
            value = self._values[self._next]
            if value is not None and not isinstance(value, tuple):
                self._latest = (self._start_ms + self._offsets_ms[self._next], value)
            self._next += 1
        if self._latest is None or at_ms - self._latest[0] > STANDS_MS:
            return None
        return self._latest[1]


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _decimal(number: Number) -> str:
    """xsd:decimal has no exponent; 12 places of a degree are thinner than an atom."""
    text = repr(number)
    return f"{number:.12f}" if "e" in text else text


def _text(text: str) -> str:
    return escape(_NO_XML.sub("", text))
