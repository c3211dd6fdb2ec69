"""The page in a real browser: it draws everything, asks for nothing, and is used by keyboard and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mrs.reporting.page import render
from tests.mrs.reporting import chromium, examples

pytestmark = [
    pytest.mark.slow(40),
    pytest.mark.skipif(chromium.program() is None, reason="no Chromium is installed"),
]
PAGES = ("one", "three", "least", "flat", "hostile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    several = {
        "one": [examples.typical()],
        "three": examples.three(),
        "least": [examples.least()],
        "flat": [examples.flat()],
    }
    for name, results in {**several, "hostile": [examples.hostile()]}.items():
        (made / f"{name}.html").write_bytes(render(results))
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.running(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("name", PAGES)
def test_everything_is_drawn_and_nothing_is_asked_for(browser, folder: Path, name: str, width: int) -> None:
    browser.open(folder / f"{name}.html", width)
    assert browser.said == []
    assert browser.asked == []
    marks = "box.querySelectorAll('svg rect, svg circle, svg path').length"
    drawn = browser.value(f"[...document.querySelectorAll('[data-plot]')].map(box => {marks})")
    assert drawn
    assert min(drawn) >= 1
    assert browser.value("document.documentElement.scrollWidth") <= width
    # Nothing hangs over the edge unseen, but what scrolls in a box of its own.
    beyond = """[...document.querySelectorAll('main *')].filter(each =>
        !each.closest('.table, .strip, .frame, svg, .hidden')
        && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""
    assert browser.value(beyond) == []
    assert browser.value("typeof window.stolen") == "undefined"


def test_marks_of_each_kind_of_plot(browser, folder: Path) -> None:
    browser.open(folder / "one.html")
    marks = {
        "latency-0": (".bar rect", 7), "scaling-0": (".point path", 5), "quality-0": (".point circle", 11),
        "quality-1": (".point path", 11), "timeline-0": (".span rect", 24),
    }  # fmt: skip
    for plot, (selector, count) in marks.items():
        found = browser.value(f"document.querySelectorAll('[data-plot=\"{plot}\"] {selector}').length")
        assert found == count, plot


def test_what_has_one_value_alone_is_drawn_where_it_can_be_seen(browser, folder: Path) -> None:
    browser.open(folder / "flat.html")
    outside = """[...document.querySelectorAll('.plot svg')].filter(svg => {
        const box = svg.getBoundingClientRect();
        const marks = [...svg.querySelectorAll('.point path, .point circle, .bar rect, .span rect')];
        return marks.some(mark => {
            const at = mark.getBoundingClientRect();
            return !Number.isFinite(at.x) || at.left < box.left - 1 || at.right > box.right + 1 || at.top > box.bottom;
        });
    }).map(svg => svg.parentElement.dataset.plot)"""
    assert browser.value(outside) == []
    assert browser.value("document.querySelector('.plot').innerHTML.includes('NaN')") is False


def test_plots_follow_the_width_and_the_metric(browser, folder: Path) -> None:
    browser.open(folder / "one.html")
    width = "document.querySelector('[data-plot=\"quality-0\"] svg').getAttribute('width')"
    wide = int(browser.value(width))
    browser.resize(500, 900)
    browser.settle()
    browser.settle()
    assert int(browser.value(width)) < 500 < wide
    browser.value(
        "(() => { const select = document.querySelector('.choice select'); select.value = '2';"
        " select.dispatchEvent(new Event('input')); })()"
    )
    assert "SSIM" in browser.value("document.querySelector('[data-plot=\"quality-0\"]').textContent")


def test_the_slider_and_the_zoom_by_keyboard(browser, folder: Path) -> None:
    browser.open(folder / "one.html")
    cut, zoom = "document.querySelectorAll('.controls input')[0]", "document.querySelectorAll('.controls input')[1]"
    browser.value(f"{cut}.focus()")
    browser.press("ArrowRight", 10)
    style = "getComputedStyle(document.querySelector('.stage'))"
    assert browser.value(f"{style}.getPropertyValue('--cut')") == "60%"
    assert browser.value(f"{cut}.getAttribute('aria-valuetext')") == "60 % degraded, 40 % restored"
    assert "60%" in browser.value("getComputedStyle(document.querySelector('.stage .after')).clipPath")
    before = browser.value("document.querySelector('.stage').clientWidth")
    browser.press("Tab")
    assert browser.value(f"document.activeElement === {zoom}")
    browser.press("ArrowRight", 3)
    assert browser.value("document.querySelector('.stage').clientWidth") == pytest.approx(4 * before, abs=8)
    # What is enlarged is scrolled within its frame, and the page does not move aside.
    assert browser.value("document.querySelector('.frame').scrollLeft") > 0
    assert browser.value("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("dark", [False, True])
def test_the_theme_by_keyboard_is_remembered(browser, folder: Path, dark: bool) -> None:
    page = folder / "least.html"
    browser.open(page, dark=dark)
    browser.value("localStorage.clear()")
    browser.open(page, dark=dark)
    paper = "getComputedStyle(document.body).backgroundColor"
    light, night = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
    assert browser.value(paper) == (night if dark else light)
    browser.value("document.getElementById('theme').focus()")
    browser.press("Enter")
    assert browser.value(paper) == (light if dark else night)
    assert browser.value("document.getElementById('theme').textContent") == ("Dark theme" if dark else "Light theme")
    browser.open(page, dark=dark)
    assert browser.value(paper) == (light if dark else night)
    browser.value("localStorage.clear()")


def test_tables_sort_by_keyboard(browser, folder: Path) -> None:
    browser.open(folder / "one.html")
    table = "document.querySelector('#latency > .figure:nth-of-type(2) table')"
    column = f"[...{table}.tBodies[0].rows].map(row => row.cells[5].dataset.value)"
    browser.value(f"{table}.tHead.rows[0].cells[5].querySelector('button').focus()")
    browser.press("Enter")
    ascending = [float(value) for value in browser.value(column)]
    assert browser.value(f"{table}.tHead.rows[0].cells[5].getAttribute('aria-sort')") == "ascending"
    assert ascending == sorted(ascending)
    browser.press("Enter")
    assert [float(value) for value in browser.value(column)] == ascending[::-1]
    assert browser.value(f"{table}.tHead.rows[0].cells[5].getAttribute('aria-sort')") == "descending"


def test_tables_are_copied_as_text(browser, folder: Path) -> None:
    browser.open(folder / "one.html")
    browser.value("navigator.clipboard.writeText = async text => { window.copied = text }")
    button = "document.querySelector('#latency > .figure:nth-of-type(2) button.copy')"
    browser.value(f"{button}.focus()")
    browser.press("Enter")
    assert browser.value(f"{button}.textContent") == "Copied"
    lines = browser.value("window.copied").split("\n")
    assert lines[0].startswith("what\tpixels\tbatch\trounds")
    assert lines[1].startswith("this plan\t256x256\t1\t21\t")
    assert len({line.count("\t") for line in lines}) == 1


def test_where_the_clipboard_is_refused_the_text_is_shown(browser, folder: Path) -> None:
    browser.open(folder / "one.html")
    browser.value(
        "navigator.clipboard.writeText = () => Promise.reject(new Error('refused'));"
        "document.execCommand = () => false; 0"
    )
    button = "document.querySelector('#latency > .figure:nth-of-type(2) button.copy')"
    browser.value(f"{button}.click()")
    browser.settle()
    assert browser.value(f"{button}.textContent") == "Press Ctrl+C"
    assert browser.value("document.activeElement.tagName") == "TEXTAREA"
    assert browser.value("document.activeElement.value").startswith("what\tpixels")
    assert browser.value("getSelection().toString() || document.activeElement.selectionEnd") != 0


def test_a_cell_that_looks_like_a_formula_is_copied_as_text(browser, folder: Path) -> None:
    browser.open(folder / "one.html")
    browser.value("navigator.clipboard.writeText = async text => { window.copied = text }; 0")
    browser.value(
        "document.querySelector('#machines td').textContent = '=1+1';"
        "document.querySelector('#machines button.copy').click()"
    )
    assert browser.value("window.copied").split("\n")[1].startswith("'=1+1\t")


def test_on_paper_everything_is_open_and_light(browser, folder: Path) -> None:
    browser.open(folder / "one.html", dark=True)
    browser.media("print", dark=True)
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for hidden in ("nav", "#theme", ".slider", "summary"):
        assert browser.value(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") == 0
    assert browser.pdf().startswith(b"%PDF")
    browser.value("dispatchEvent(new Event('afterprint'))")
    assert browser.value("document.querySelectorAll('details[open]').length") == 0


def test_without_scripts_words_tables_and_pictures_are_there(browser, folder: Path) -> None:
    browser.open(folder / "one.html", scripts=False)
    tree = browser.call("DOMSnapshot.captureSnapshot", computedStyles=[])
    text = " ".join(tree["strings"])
    assert "A restore takes" in text
    assert "fails parity: 24.0 dB to float32" in text
    laid_out = [tree["strings"][each] for each in tree["documents"][0]["layout"]["text"] if each >= 0]
    assert "Hardware and versions" in laid_out
    assert "Without scripts the plots are not drawn: their figures stand in the tables." in " ".join(laid_out)
    assert "Dark theme" not in laid_out
    assert browser.said == []
