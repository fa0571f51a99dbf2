"""Links and anchors of all pages, as GitHub resolves them; every page is in the site's menu."""

import re
from pathlib import Path

import pytest

from .documents import ROOT

SKIPPED = ("build", "node_modules")
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md",
                    "findings/*.md")
    for page in ROOT.glob(pattern)
    if page.relative_to(ROOT).parts[0] not in SKIPPED
)  # fmt: skip
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _prose(text: str) -> str:
    """Return a page without its code."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`", text)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page.

    Lower case; letters, digits, spaces, hyphens and underscores stay, each space is a hyphen, and a
    heading that comes again gets a number.
    """
    found: set[str] = set()
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", text, re.MULTILINE):
        bare = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", bare).replace(" ", "-")
        name, again = slug, 0
        while name in found:
            again += 1
            name = f"{slug}-{again}"
        found.add(name)
    return found


def _broken(page: Path) -> list[str]:
    wrong = []
    for target in LINK.findall(_prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        if not place.is_file():
            wrong.append(f"{target}: there is no such file")
        elif anchor and anchor not in anchors(place.read_text(encoding="utf-8")):
            wrong.append(f"{target}: there is no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert _broken(page) == []


def test_a_broken_link_and_a_broken_anchor_are_seen(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One (`two`) three\n# One (`two`) three\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[a](b.md#one-two-three) [b](b.md#one-two-three-1) [c](c.md) [d](b.md#one)\n"
        "`[e](e.md)`\n\n```\n[f](f.md)\n```\n"
    )
    assert _broken(page) == [
        "c.md: there is no such file", "b.md#one: there is no such heading",
    ]  # fmt: skip


def _menu() -> list[str]:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return re.findall(r"^ +- ([\w/.]+\.md)$", text, re.MULTILINE)


def test_every_page_of_the_docs_is_in_the_menu_once() -> None:
    menu = _menu()
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in menu if page.startswith("docs/")} == pages
    assert len(menu) == len(set(menu))
    for page in menu:
        assert page.startswith("reference/") or (ROOT / page).is_file(), page


def test_the_site_loads_nothing_from_elsewhere() -> None:
    """No font, script or tracker of another server is asked for in the site's settings."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text
    assert not re.search(r"https?://", text)
