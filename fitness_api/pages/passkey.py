"""The button that asks the browser for a passkey. It shows itself where there is a script and a browser that can."""

from typing import Any, Final

from starlette.requests import Request

from fitness_api.pages.forms import form, hidden
from fitness_api.pages.markup import Markup, markup

SCRIPT: Final = "passkeys.js"
# The field in which the form carries the browser's answer, as JSON.
ANSWER: Final = "passkey"


def passkey(
    request: Request[Any],
    action: str,
    label: str,
    *parts: Markup,
    options: str = "",
    options_url: str = "",
    quiet: bool = True,
) -> Markup:
    """Return a form of its own. The page names SCRIPT among its scripts.

    options: what to ask the browser, as JSON; or options_url: where that is had from, by POST, when the button is pressed.
    """
    button = markup(
        '<p class="failure" role="alert" data-passkey-problem hidden></p>'
        '<button type="button"{quiet} data-passkey data-passkey-options="{options}" data-passkey-options-url="{options_url}">'
        "{label}</button>",
        label=label,
        options=options,
        options_url=options_url,
        quiet=Markup(' class="quiet"') if quiet else None,
    )
    return markup(
        "<div data-passkey-box hidden>{form}</div>", form=form(request, action, *parts, hidden(ANSWER, ""), button)
    )
