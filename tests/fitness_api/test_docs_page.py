"""The page: everything that the description holds, nothing from elsewhere, no script."""

import base64
import hashlib
import re
import shlex
from html.parser import HTMLParser
from typing import Any

import pytest

from fitness_api import docs_page
from fitness_api.app import OPERATIONS
from fitness_api.openapi import document, operation_id
from fitness_api.problems import CATALOGUE

DESCRIBED = document(OPERATIONS, public_url="https://api.example")
PAGES = {
    "docs": docs_page.docs(DESCRIBED),
    "problems": docs_page.problems(CATALOGUE.values()),
    "problem": docs_page.problem(CATALOGUE["invalid_body"]),
}
VOID = {"meta", "link", "wbr", "br"}


class Reader(HTMLParser):
    """Collects ids, links and tags, and holds that every tag is closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_nothing_from_elsewhere(name: str) -> None:
    read = Reader(PAGES[name].html)
    assert not read.tags & {"script", "img", "iframe", "form"}
    assert not {attribute for attribute in read.attributes if attribute.startswith("on")} | (
        read.attributes & {"style"}
    )
    assert all(link.startswith(("#", "/", "data:,")) for link in read.links)
    assert len(read.ids) == len(set(read.ids))


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_allows_exactly_the_style_that_is_there(name: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", PAGES[name].html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in PAGES[name].content_security_policy
    assert "default-src 'none'" in PAGES[name].content_security_policy


def test_every_operation_and_type_has_its_place_and_links_lead_there() -> None:
    read = Reader(PAGES["docs"].html)
    assert {operation_id(operation) for operation in OPERATIONS} <= set(read.ids)
    assert {f"type-{name}" for name in DESCRIBED["components"]["schemas"]} <= set(read.ids)
    assert {link.removeprefix("#") for link in read.links if link.startswith("#")} <= set(read.ids)
    slugs = {problem.slug for problem in CATALOGUE.values()}
    assert {link.removeprefix("/problems/") for link in read.links if link.startswith("/problems/")} <= slugs


def test_what_a_description_says_is_text() -> None:
    hostile: dict[str, Any] = document(OPERATIONS, public_url="https://api.example")
    hostile["info"]["title"] = "<script>alert(1)</script>"
    hostile["paths"]["/healthz"]["get"]["summary"] = "</p><b onclick=x>"
    read = Reader(docs_page.docs(hostile).html)
    assert "script" not in read.tags
    assert "onclick" not in read.attributes


@pytest.mark.parametrize("operation", OPERATIONS, ids=operation_id)
def test_every_command_is_one_that_a_shell_reads(operation: Any) -> None:
    one = DESCRIBED["paths"][operation.path][operation.method.lower()]
    schemas = DESCRIBED["components"]["schemas"]
    command = docs_page.curl(operation.method.lower(), operation.path, one, schemas, "https://api.example")
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "curl"
    assert any(word.startswith("https://api.example/") for word in words)
    assert ("Authorization: Bearer $ACCESS_TOKEN" in words) == operation.login
