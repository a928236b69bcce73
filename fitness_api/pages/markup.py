"""HTML that is put together without forgetting to escape: a template is ours, what is put into it is not."""

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def markup(template: str, /, **values: object) -> Markup:
    """Put values in the place of {names}: Markup as it is, everything else escaped, None as nothing."""
    return Markup(template.format(**{name: _safe(value) for name, value in values.items()}))


def join(parts: Iterable[Markup], separator: str = "") -> Markup:
    return Markup(separator.join(parts))


def _safe(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, Markup) else escape(str(value))
