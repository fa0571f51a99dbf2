"""The report in a real browser: it fits a phone, can be read, shows everything, loads nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskrt.runtime.check import render_html

from .chromium import Chromium, find_chromium
from .test_report import full_report

pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: set MASKRT_CHROMIUM"),
    pytest.mark.timeout(120),
]

LEAVES = (
    "[...document.querySelectorAll('body *')]"
    ".filter(e => !e.childElementCount && e.textContent.trim())"
)
FONT = "e => parseFloat(getComputedStyle(e).fontSize)"
HEIGHT = "e => e.getBoundingClientRect().height"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    profile = tmp_path_factory.mktemp("profile")
    with Chromium(find_chromium() or "", profile) as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path) -> Path:
    picture = np.full((60, 90, 3), 200, np.uint8)
    file = tmp_path / "report.html"
    file.write_text(render_html(full_report(budget=1.0), [("a.png", picture, picture)]))
    return file


@pytest.mark.parametrize("width", [360, 390, 1200])
def test_it_fits_and_can_be_read(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert min(browser.evaluate(f"{LEAVES}.filter(e => !e.closest('svg')).map({FONT})")) >= 12
    assert min(browser.evaluate(f"[...document.querySelectorAll('svg text')].map({HEIGHT})")) >= 8


def test_pictures_and_bars_are_shown(browser: Chromium, page: Path) -> None:
    browser.open(page, 390)
    assert browser.evaluate("[...document.images].map(i => i.naturalWidth)") == [90, 90]
    lefts = browser.evaluate("[...document.images].map(i => i.getBoundingClientRect().left)")
    assert lefts[0] < lefts[1]  # side by side, on a phone too
    widths = browser.evaluate(
        "[...document.querySelectorAll('.bar.loss')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(widths) == 1
    assert widths[0] > 100
    assert browser.evaluate("document.querySelectorAll('circle').length") == 4


def test_nothing_is_loaded_from_elsewhere(browser: Chromium, page: Path) -> None:
    browser.requests.clear()
    browser.open(page, 390)
    assert browser.evaluate("1 + 1") == 2
    assert page.as_uri() in browser.requests
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}
