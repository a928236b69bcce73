"""FIT's compressed timestamp headers, written out as timestamps: garmin-fit-sdk 21.218 refuses them, and older devices write them.

Such a message's header holds the low five bits of its time; the rest is that of the latest timestamp. Its definition has no
timestamp field, so the one written here gets one, and is written again wherever the local number changes its meaning.
Source: FIT protocol, "Compressed Timestamp Header".
"""

from typing import Final, Literal, NamedTuple

from garmin_fit_sdk import CrcCalculator

_COMPRESSED: Final = 0x80
_DEFINITION: Final = 0x40
_DEVELOPER: Final = 0x20
_TIMESTAMP_FIELD: Final = bytes([253, 4, 0x86])
_INVALID: Final = 0xFFFFFFFF
_CRC_BYTES: Final = 2


class TooMany(Exception):
    """More messages than may be."""


class _Definition(NamedTuple):
    """`raw`: the whole message. `timestamp_at`: where in a data message its timestamp stands, if it has one."""

    raw: bytes
    order: Literal["little", "big"]
    data_bytes: int
    timestamp_at: int | None

    def extended(self) -> bytes:
        """The same with a timestamp before all other fields."""
        return self.raw[:5] + bytes([self.raw[5] + 1]) + _TIMESTAMP_FIELD + self.raw[6:]


def write_out(file: bytes, *, most_messages: int) -> bytes:
    """Return the file without compressed timestamps; one that is damaged is still damaged. Raises TooMany."""
    header_bytes, data_bytes = file[0], int.from_bytes(file[4:8], "little")
    end = header_bytes + data_bytes
    written = bytearray()
    try:
        _write_out(file[header_bytes:end], written, most_messages)
        is_whole = end + _CRC_BYTES <= len(file)
    except (LookupError, ValueError):  # a local number that was never defined, a message that is cut off
        is_whole = False
    data = bytes(written)
    crc_bytes = file[end : end + _CRC_BYTES]
    is_whole = is_whole and int.from_bytes(crc_bytes, "little") == CrcCalculator.calculate_crc(file[:end], 0, end)
    head = file[:4] + len(data).to_bytes(4, "little") + file[8:header_bytes]
    crc = CrcCalculator.calculate_crc(head + data, 0, len(head) + len(data))
    return head + data + (crc if is_whole else crc ^ 0xFFFF).to_bytes(_CRC_BYTES, "little") + file[end + _CRC_BYTES :]


def _write_out(data: bytes, written: bytearray, most_messages: int) -> None:
    definitions: dict[int, _Definition] = {}
    extended: set[int] = set()
    latest = position = messages = 0
    while position < len(data):
        messages += 1
        if messages > most_messages:
            raise TooMany
        head = data[position]
        if not head & _COMPRESSED and head & _DEFINITION:
            definition = _definition(data, position)
            definitions[head & 0x0F] = definition
            extended.discard(head & 0x0F)
            written += definition.raw
            position += len(definition.raw)
            continue
        local = head >> 5 & 0x03 if head & _COMPRESSED else head & 0x0F
        definition = definitions[local]
        fields = data[position + 1 : position + 1 + definition.data_bytes]
        position += 1 + definition.data_bytes
        if position > len(data):
            raise ValueError("cut off")
        if head & _COMPRESSED:
            latest += ((head & 0x1F) - latest) & 0x1F
            if local not in extended:
                extended.add(local)
                written += definition.extended()
            written += bytes([local]) + (latest & _INVALID).to_bytes(4, definition.order) + fields
        else:
            if local in extended:
                extended.discard(local)
                written += definition.raw
            if definition.timestamp_at is not None:
                stated = int.from_bytes(fields[definition.timestamp_at :][:4], definition.order)
                latest = latest if stated == _INVALID else stated
            written += bytes([local]) + fields


def _definition(data: bytes, position: int) -> _Definition:
    end = position + 6 + 3 * data[position + 5]
    sizes = data[position + 7 : end : 3]
    numbers = data[position + 6 : end : 3]
    developer_sizes = b""
    if data[position] & _DEVELOPER:
        start, end = end, end + 1 + 3 * data[end]
        developer_sizes = data[start + 2 : end : 3]
    timestamp = numbers.find(_TIMESTAMP_FIELD[0])
    return _Definition(
        raw=data[position:end],
        order="big" if data[position + 2] else "little",
        data_bytes=sum(sizes) + sum(developer_sizes),
        timestamp_at=sum(sizes[:timestamp]) if timestamp >= 0 and sizes[timestamp] == 4 else None,
    )
