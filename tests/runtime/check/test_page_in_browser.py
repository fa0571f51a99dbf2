"""The report in a real browser: it fits a phone, can be read, filters, zooms, loads nothing."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from maskrt.runtime.check import render_html

from .chromium import Chromium, find_chromium
from .test_report import full_report, triple

pytestmark = [
    pytest.mark.slow,  # `make test-slow` has a browser
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: make build/chromium"),
    pytest.mark.timeout(120),
]

LEAVES = (
    "[...document.querySelectorAll('body *')]"
    ".filter(e => !e.childElementCount && e.textContent.trim() && e.checkVisibility())"
)
FONT = "e => parseFloat(getComputedStyle(e).fontSize)"
HEIGHT = "e => e.getBoundingClientRect().height"
SHOWN = "[...document.querySelectorAll('.triple')].filter(e => e.checkVisibility()).length"
STATUS = "document.querySelector('[role=status]').textContent"
VIEWS = "[...document.querySelectorAll('.triple .panel > svg')].map(e => e.getAttribute('viewBox'))"
# The least contrast of text with what lies behind it, by WCAG, over all that is not in a picture.
CONTRAST = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (channels) => channels
    .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    const found = [];
    for (; e; e = e.parentElement) found.unshift(getComputedStyle(e).backgroundColor);
    return found;
  };
  return Math.min(...LEAVES.filter((e) => !e.closest(".panel svg, script, style")).map((e) => {
    const under = behind(e), style = getComputedStyle(e);
    const ink = e.closest("svg") ? style.fill : style.color;
    const pair = [light(rgb(under)), light(rgb([...under, ink]))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  }));
})()
""".replace("LEAVES", LEAVES)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    profile = tmp_path_factory.mktemp("profile")
    with Chromium(find_chromium() or "", profile) as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    pictures = [triple("a.png"), triple("b.png")]
    file.write_text(render_html(full_report(budget=1.0), pictures), encoding="utf-8")
    return file


def press(browser: Chromium, box: str) -> None:
    """Click a box or button in the pictures' section."""
    browser.evaluate(f"document.querySelector('#pictures {box}').click()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1200])
def test_it_fits_and_can_be_read(browser: Chromium, page: Path, width: int, scheme: str) -> None:
    browser.emulate(prefers_color_scheme=scheme)
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert min(browser.evaluate(f"{LEAVES}.filter(e => !e.closest('svg')).map({FONT})")) >= 12
    plots = f"{LEAVES}.filter(e => e.closest('.plot') && e.tagName === 'text')"
    assert min(browser.evaluate(f"{plots}.map({HEIGHT})")) >= 8
    assert browser.evaluate(CONTRAST) >= 4.5


def test_text_and_marks_grow_with_the_picture(browser: Chromium, page: Path) -> None:
    letters = f"[...document.querySelectorAll('.panel text')].map({HEIGHT})"
    picture = (
        "document.querySelector('.panel > svg').getBoundingClientRect().width"
        " / document.querySelector('.panel > svg').viewBox.baseVal.width"
    )
    sizes = {}
    for width in (900, 1800):
        browser.open(page, width)
        sizes[width] = (browser.evaluate(letters)[0], browser.evaluate(picture))
    (small, narrow), (large, wide) = sizes.values()
    assert wide > 1.2 * narrow
    assert large / small == pytest.approx(wide / narrow, rel=0.05)


def test_three_panels_stand_side_by_side_and_show_the_one_picture(
    browser: Chromium, page: Path
) -> None:
    browser.open(page, 1200)
    lefts = browser.evaluate(
        "[...document.querySelectorAll('.triple:first-of-type .panel > svg')]"
        ".map(e => e.getBoundingClientRect().left)"
    )
    assert len(lefts) == 3
    assert lefts == sorted(set(lefts))
    used = browser.evaluate(
        "[...document.querySelectorAll('.panel use')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(used) == 4
    assert min(used) > 200


def test_bars_and_plots_are_shown(browser: Chromium, page: Path) -> None:
    browser.open(page, 390)
    widths = browser.evaluate(
        "[...document.querySelectorAll('.bar.loss')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(widths) == 1
    assert widths[0] > 100
    assert browser.evaluate("document.querySelectorAll('circle.own').length") == 3
    assert browser.evaluate("document.querySelectorAll('#curves polyline').length") == 6


def test_filters_by_fate_and_class(browser: Chromium, page: Path) -> None:
    browser.open(page, 1200)
    visible = (
        "[...document.querySelectorAll('.triple:first-of-type .i.t text')]"
        ".filter(e => e.getBoundingClientRect().width).map(e => e.textContent)"
    )
    everything = browser.evaluate(visible)
    assert "missed disc & ring 0.80" in everything
    assert "invented square 0.30" in everything
    press(browser, '[data-fate="missed"]')
    assert "missed disc & ring 0.80" not in browser.evaluate(visible)
    press(browser, '[data-class="1"]')
    assert browser.evaluate(visible) == ["invented square 0.30"]
    press(browser, '[data-fate="matched"]')
    press(browser, "[data-faint]")  # the square's score is 0.3: no error is left to show
    assert browser.evaluate(SHOWN) == 0
    assert browser.evaluate(STATUS) == "0 of 2 pictures"
    press(browser, "[data-all]")
    press(browser, '[data-fate="missed"]')
    assert browser.evaluate(SHOWN) == 2


def test_one_zoom_for_the_three_panels_by_mouse_and_by_keyboard(
    browser: Chromium, page: Path
) -> None:
    browser.open(page, 1200)
    assert set(browser.evaluate(VIEWS)) == {"0 0 96 96"}
    press(browser, '.triple [data-zoom="in"]')
    views = browser.evaluate(VIEWS)
    assert views[:3] == ["16 16 64 64"] * 3
    assert views[3:] == ["0 0 96 96"] * 3
    browser.evaluate("document.querySelector('.triple').focus()")
    browser.key("ArrowRight")
    assert browser.evaluate(VIEWS)[:3] == ["24 16 64 64"] * 3
    browser.key("0")
    assert set(browser.evaluate(VIEWS)) == {"0 0 96 96"}
    browser.key("Enter")
    assert browser.evaluate("document.querySelector('.triple').classList.contains('large')")


def test_it_is_named_for_those_who_do_not_see_it(browser: Chromium, page: Path) -> None:
    browser.open(page, 1200)
    names = browser.evaluate(
        "[...document.querySelectorAll('svg[role=img]')].map(e => e.getAttribute('aria-label'))"
    )
    assert all(names)
    assert any("missed" in name for name in names)
    assert browser.evaluate("document.documentElement.lang") == "en"
    unnamed = (
        "[...document.querySelectorAll('button, input')].filter(e => !e.textContent.trim()"
        " && !e.closest('label')?.textContent.trim() && !e.getAttribute('aria-label')).length"
    )
    assert browser.evaluate(unnamed) == 0
    levels = browser.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(e => +e.tagName[1])"
    )
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_the_scheme_can_be_switched(browser: Chromium, page: Path) -> None:
    browser.emulate(prefers_color_scheme="light")
    browser.open(page, 1200)
    paper = "getComputedStyle(document.body).backgroundColor"
    before = browser.evaluate(paper)
    browser.evaluate("document.querySelector('.scheme').click()")
    assert browser.evaluate(paper) != before
    browser.evaluate("document.querySelector('.scheme').click()")
    assert browser.evaluate(paper) == before


def test_all_is_shown_without_a_script(browser: Chromium, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, 1200)
        assert browser.evaluate(SHOWN) == 2
        assert browser.evaluate("document.querySelector('.filters').checkVisibility()") is False
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_nothing_is_loaded_from_elsewhere(browser: Chromium, page: Path) -> None:
    browser.requests.clear()
    browser.open(page, 390)
    assert browser.evaluate("1 + 1") == 2
    assert page.as_uri() in browser.requests
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}
