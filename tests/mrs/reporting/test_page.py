"""The page as a reader without scripts has it, and what strangers may write into it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mrs.benchmarking.results import Results
from mrs.reporting import page
from mrs.reporting.subjects import MOST_ROWS, MOST_SPANS
from mrs.runtime.errors import InputError
from tests.mrs.reporting import examples

MADE: dict[str, list[Results]] = {
    "one": [examples.typical()],
    "three": examples.three(),
    "least": [examples.least()],
    "hostile": [examples.hostile()],
}


class Page(HTMLParser):
    """What a parser finds: elements with their attributes, texts outside of scripts and styles, scripts."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.policy = ""
        self._within = ""
        self._texts: list[str] = []
        self.feed(content.decode())
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        self._within = tag
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self._texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag]


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    return {name: Page(page.render(results)) for name, results in MADE.items()}


def test_without_scripts_the_words_and_the_tables_are_there(pages: dict[str, Page]) -> None:
    text = pages["one"].text
    for part in (
        "A restore takes 1,6", "Before you read the figures", "random weights", "passes: 48.5 dB, 33.0 dB needed",
        "fails parity: 24.0 dB to float32", "mrs-trt bench refusion-derain.mrsplan", "openvino 2026.4.1", "ac503bf",
    ):  # fmt: skip
        assert part in text
    # Caveats stand before claims.
    assert text.index("Before you read the figures") < text.index("What was found") < text.index("Latency One")
    assert len(pages["one"].all("table")) >= 10


def test_every_plot_has_its_alternative_its_table_and_its_command(pages: dict[str, Page]) -> None:
    for made in pages.values():
        plots = [found for found in made.all("div") if "data-plot" in found]
        assert all(found["role"] == "img" and len(found["aria-label"] or "") > 30 for found in plots)
        data = json.loads(made.scripts[1])
        assert sorted(found["data-plot"] or "" for found in plots) == sorted(data)
        figures = [found for found in made.all("div") if found.get("class") == "figure"]
        assert len(figures) == len([found for found in made.all("div") if found.get("class") == "commands"])


def test_what_was_not_measured_has_no_heading(pages: dict[str, Page]) -> None:
    sections = {name: [found["id"] for found in made.all("section")] for name, made in pages.items()}
    assert sections["least"] == ["summary", "latency", "machines"]
    everything = ["latency", "scaling", "quality", "pictures", "trajectory", "timeline", "start", "build", "machines"]
    assert sections["one"] == ["summary", *everything]
    assert sections["three"] == ["summary", "side-by-side", *everything]
    assert "These data are too few for a finding" in pages["least"].text


def test_other_solvers_on_the_plans_network_are_ours_too(pages: dict[str, Page]) -> None:
    data = json.loads(pages["one"].scripts[1])
    tones = {point["name"].split(",")[0]: point["tone"] for point in data["quality-0"]["data"]["choices"][0]["points"]}
    assert tones == {"this plan": "ours", "published": "rival"}
    lines = [series["name"] for series in data["quality-1"]["data"]["choices"][0]["series"]]
    assert sorted(lines) == ["euler-maruyama, published", "ode order 2", "posterior", "posterior, published"]


def test_several_results_stand_side_by_side(pages: dict[str, Page]) -> None:
    text = pages["three"].text
    assert "3 results of 2 plans" in text
    assert "B is the fastest with" in text
    assert "AMD EPYC 9654" in text
    assert "2026.4.1 2026.3.0 2026.4.1 differs" in text
    assert "C: mrs-trt bench refusion-derain-fp32" in text


def test_results_of_other_work_are_not_compared() -> None:
    first, second, _ = examples.three()
    fewer = tuple(replace(case, evaluations=5) if case.group == 0 else case for case in second.cases)
    text = Page(page.render([first, replace(second, cases=fewer)])).text
    assert "so that their times are not compared" in text
    assert "is the fastest" not in text


def test_texts_of_strangers_are_texts(pages: dict[str, Page]) -> None:
    hostile = pages["hostile"]
    # Ours: the theme, the data, the libraries, the page's own.
    assert len(hostile.scripts) == len(pages["one"].scripts) == 2 + len(page.SCRIPTS)
    assert not [found for _, found in hostile.elements if any(name.startswith("on") for name in found)]
    assert all((found["src"] or "").startswith("data:image/webp;base64,") for found in hostile.all("img"))
    assert "</script><script>window.stolen = 1</script>" in hostile.text
    assert "because they are no PNG, JPEG or WebP: 2 pictures" in hostile.text
    assert "\u2028" not in hostile.scripts[1]
    assert json.loads(hostile.scripts[1])["latency-0"]["data"]["groups"][0]["bars"][0]["label"] == examples.EVIL


def test_nothing_is_loaded_and_no_other_script_runs(pages: dict[str, Page]) -> None:
    for made in pages.values():
        directives = dict(part.split(" ", 1) for part in made.policy.split("; "))
        assert directives.pop("default-src") == "'none'"
        hashes = directives.pop("script-src").split()
        executed = [text for index, text in enumerate(made.scripts) if index != 1]
        assert hashes == [
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in executed
        ]
        assert directives == {
            "style-src": "'unsafe-inline'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
        }  # fmt: skip
        for _, found in made.elements:
            assert "src" not in found or (found["src"] or "").startswith("data:")
            assert "href" not in found or re.match(r"#|data:,$", found["href"] or "")


def test_the_page_stays_small() -> None:
    results = examples.typical()
    big = replace(results.pictures[0], data=results.pictures[0].data + bytes(2_000_000))
    pictures = tuple(replace(picture, name=name) for name in ("a", "b") for picture in (big, results.pictures[1]))
    content = page.render([replace(results, pictures=pictures)])
    assert len(content) <= page.MOST_BYTES
    assert "so that the page stays small: 2 pictures" in Page(content).text
    assert content.count(b'data-role="degraded"') == 1


def test_long_lists_are_cut_and_say_so() -> None:
    results = examples.least()
    spans = examples.timeline(1.0) * 100
    text = Page(page.render([replace(results, timeline=spans, cases=results.cases * 5000)])).text
    assert f"Shown are the first {MOST_SPANS:,} of {len(spans):,} spans" in text
    assert f"Shown are the first {MOST_ROWS:,} of 5,000 cases" in text


def test_too_much_for_one_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    results = examples.least()
    monkeypatch.setattr(page, "MOST_BYTES", 400_000)
    with pytest.raises(InputError, match=r"the report would have 0.5 MB, more than 0.4") as error:
        page.render([results])
    assert "fewer" in error.value.hint
