"""The parts of a form, each with its label, and the reading of one that comes back."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from starlette.requests import Request

from fitness_api import bodies
from fitness_api.errors import ForgedForm
from fitness_api.pages import browser
from fitness_api.pages.markup import Markup, join, markup

Kind = Literal["text", "email", "password"]

TOKEN: Final = "form_token"  # noqa: S105  a field's name

# A page's form holds a few words, and perhaps a passkey's answer.
FORM_LIMIT_BYTES: Final = 16 * 1024


def form(request: Request[Any], action: str, *parts: Markup) -> Markup:
    """Return a form that this browser alone can send."""
    return markup(
        '<form method="post" action="{action}">{token}{parts}</form>',
        action=action,
        token=hidden(TOKEN, browser.form_token(request)),
        parts=join(parts),
    )


async def read_form(request: Request[Any]) -> dict[str, str]:
    """Raises ForgedForm if it is not from a page that we showed to this browser; else as `bodies.read_form`."""
    given = await bodies.read_form(request, limit_bytes=FORM_LIMIT_BYTES)
    if not browser.is_own(request, given.get(TOKEN, "")):
        raise ForgedForm
    return given


def hidden(name: str, value: str) -> Markup:
    return markup('<input type="hidden" name="{name}" value="{value}">', name=name, value=value)


def field(
    name: str,
    label: str,
    *,
    kind: Kind = "text",
    value: str = "",
    hint: str = "",
    error: str = "",
    autocomplete: str = "",
    attributes: Mapping[str, str] | None = None,
) -> Markup:
    """Return a labelled field. `error` is read out with it, and gets the focus; `attributes`: inputmode, maxlength, …"""
    described = " ".join(f"{name}-{which}" for which, text in (("hint", hint), ("error", error)) if text)
    more = {
        "autocomplete": autocomplete,
        "aria-describedby": described,
        "aria-invalid": "true" if error else "",
        **(attributes or {}),
    }
    return markup(
        '<div class="field"><label for="{name}">{label}</label>{hint}{error}'
        '<input id="{name}" name="{name}" type="{kind}" value="{value}" required{more}{focus}></div>',
        name=name,
        label=label,
        kind=kind,
        value=value,
        hint=markup('<p class="hint" id="{name}-hint">{hint}</p>', name=name, hint=hint) if hint else None,
        error=markup('<p class="error" id="{name}-error">{error}</p>', name=name, error=error) if error else None,
        more=join(markup(' {key}="{value}"', key=key, value=value) for key, value in more.items() if value),
        focus=Markup(" autofocus") if error else None,
    )


def button(label: str, *, name: str = "", value: str = "", quiet: bool = False) -> Markup:
    return markup(
        "<button{named}{quiet}>{label}</button>",
        label=label,
        named=markup(' name="{name}" value="{value}"', name=name, value=value) if name else None,
        quiet=Markup(' class="quiet"') if quiet else None,
    )


def failure(text: str) -> Markup:
    """Return what went wrong with a form as a whole; screen readers say it at once."""
    return markup('<p class="failure" role="alert">{text}</p>', text=text)
