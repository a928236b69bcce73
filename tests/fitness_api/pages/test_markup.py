from hypothesis import given
from hypothesis import strategies as st

from fitness_api.pages import Markup, button, failure, field, hidden, join, markup


@given(st.text())
def test_what_is_put_in_is_no_markup(text: str) -> None:
    for made in (
        markup('<p title="{text}">{text}</p>', text=text),
        field("name", text, value=text, hint=text, error=text, attributes={"maxlength": text}),
        hidden(text, text),
        button(text, name=text or "x", value=text),
        failure(text),
    ):
        bare = made
        for ours in (
            "<p ",
            "<p>",
            "</p>",
            "<div ",
            "</div>",
            "<label ",
            "</label>",
            "<input ",
            "<button",
            "</button>",
            ">",
        ):
            bare = Markup(bare.replace(ours, ""))
        assert "<" not in bare


def test_markup_stays_markup_and_none_is_nothing() -> None:
    inner = markup("<b>{word}</b>", word="a<b")
    assert markup("<p>{inner}{none}</p>", inner=inner, none=None) == "<p><b>a&lt;b</b></p>"
    assert join([inner, inner], " ") == "<b>a&lt;b</b> <b>a&lt;b</b>"


def test_a_field_is_labelled_and_its_error_is_read_with_it() -> None:
    made = field("email", "Email address", kind="email", hint="A hint.", error="A fault.", autocomplete="username")
    assert '<label for="email">Email address</label>' in made
    assert 'aria-describedby="email-hint email-error"' in made
    assert 'aria-invalid="true"' in made
    assert "autofocus" in made
    assert "aria-" not in field("email", "Email address")
