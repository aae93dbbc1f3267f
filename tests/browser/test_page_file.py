"""The page as a file: sound HTML, nothing from outside, nothing that its own policy would block, readable."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sidecar.admin import page

FILE = Path(page.__file__).with_name("index.html")
TEXT = FILE.read_text(encoding="utf-8")
VOID = {"link", "meta", "input", "br", "img"}
LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3


class Document(HTMLParser):
    """Reads the file and complains where a browser would have to guess."""

    def __init__(self):
        super().__init__()
        self.stack = []
        self.elements = []
        self.content = {"style": [], "script": []}
        self.feed(TEXT)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), [above for above, _ in self.stack]))
        if tag not in VOID:
            self.stack.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop()[0] == tag, f"</{tag}> in line {self.getpos()[0]} closes something else"

    def handle_data(self, data):
        if self.stack and self.stack[-1][0] in self.content:
            self.content[self.stack[-1][0]].append(data)

    def attributes(self, name):
        return [attrs[name] for _, attrs, _ in self.elements if name in attrs]


@pytest.fixture(scope="module")
def document():
    return Document()


def test_ids_are_unique_and_whatever_refers_to_one_finds_it(document):
    ids = document.attributes("id")
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'\bat\("([a-z0-9-]+)"\)', TEXT)) | set(document.attributes("aria-labelledby"))
    wanted |= {href[1:] for href in document.attributes("href") if href.startswith("#")}
    wanted |= {f"{name}-{part}" for name in ("rate", "p99") for part in ("line", "caption")}
    assert wanted <= set(ids)


def test_nothing_comes_from_outside(document):
    assert document.attributes("src") == []
    assert all(href.startswith(("#", "data:")) for href in document.attributes("href"))
    without_namespaces = TEXT.replace("http://www.w3.org/2000/svg", "")
    assert "//" not in re.sub(r"// .*", "", without_namespaces)
    assert "@import" not in TEXT
    assert "url(" not in TEXT


def test_nothing_is_there_that_the_policy_blocks(document):
    assert document.attributes("style") == []
    assert [name for _, attrs, _ in document.elements for name in attrs if name.startswith("on")] == []
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in TEXT


def test_the_policy_names_what_stands_in_the_file(document):
    policy = page.page().headers["Content-Security-Policy"]
    for kind, pieces in document.content.items():
        (content,) = pieces
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_every_control_has_a_name(document):
    for tag, _, above in document.elements:
        if tag in {"input", "select", "textarea"}:
            assert "label" in above
    assert "lang" in dict(document.elements[0][1])
    for level, (tag, _, _) in enumerate(it for it in document.elements if re.fullmatch(r"h\d", it[0])):
        assert tag == ("h1" if level == 0 else "h2")


def schemes():
    """The colours of the light and the dark scheme by name."""
    light, dark = re.findall(r":root \{(.*?)\}", TEXT, re.DOTALL)
    read = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", block)) for block in (light, dark)]
    assert read[0].keys() == read[1].keys()
    return [pytest.param(colours, id=name) for colours, name in zip(read, ("light", "dark"), strict=True)]


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it."""
    digits = colour[1:]
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", schemes())
def test_text_can_be_read(colours):
    pairs = [(text, back) for text in ("text", "quiet", "accent") for back in ("page", "card")]
    pairs += [(kind, f"{kind}-back") for kind in ("good", "warn", "bad", "quiet")]
    pairs.append(("on-accent", "accent"))
    for text, back in pairs:
        lighter, darker = sorted((luminance(colours[text]), luminance(colours[back])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= LEAST_CONTRAST, (text, back)
