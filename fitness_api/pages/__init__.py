"""Pages for people: plain HTML that works without a script, from one shell.

body = pages.form(request, "/v1/oauth/login", pages.field("email", "Email address", kind="email"), pages.button("Log in"))
return pages.render(request, "Log in", body)

form = await pages.read_form(request)  # of a page of ours only, else ForgedForm
"""

from fitness_api.pages.forms import button, failure, field, form, hidden, read_form
from fitness_api.pages.markup import Markup, join, markup
from fitness_api.pages.passkey import passkey
from fitness_api.pages.shell import render

__all__ = ["Markup", "button", "failure", "field", "form", "hidden", "join", "markup", "passkey", "read_form", "render"]
