"""The page as text: the template filled, with scripts and styles within, and allowed nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from mrs._version import __version__
from mrs.benchmarking.results import Results
from mrs.reporting.findings import findings, measured
from mrs.reporting.sections import sections
from mrs.reporting.subjects import subjects
from mrs.reporting.text import JsonObject, plural, script_json
from mrs.runtime.errors import InputError

MOST_BYTES = 5_000_000
# In the order in which they run; the first before anything is shown, so that the page does not flash in another theme.
THEME, SCRIPTS = "theme.js", ("d3.min.js", "plot.min.js", "charts.js", "tables.js", "pictures.js", "report.js")


def render(all_results: Sequence[Results]) -> bytes:
    """One HTML file in UTF-8, of at most MOST_BYTES.

    Everything in results is a stranger's text: the template escapes it, and the page's policy runs no script but the
    page's own, by their hashes, and loads nothing.

    Args:
        all_results: at least one; several stand side by side.

    Raises:
        InputError: where the results are too many for one page.
    """
    shown = subjects(all_results)
    made = sections(shown)
    plots: JsonObject = {}
    for section in made:
        for index, figure in enumerate(section.figures):
            if figure.plot is not None:
                plots[f"{section.name}-{index}"] = {"kind": figure.plot.kind, "data": figure.plot.data}
    environment = Environment(
        loader=DictLoader({"report": _text("templates", "report.html.j2")}), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("report").render(
        title=_title(all_results),
        version=__version__,
        subjects=shown,
        measured=measured,
        findings=findings,
        sections=made,
        plots=Markup(script_json(plots)),
        policy=_policy(),
        style=Markup(_asset("report.css")),
        theme=Markup(_asset(THEME)),
        scripts=[Markup(_asset(name)) for name in SCRIPTS],
    )
    # Names from a results file may hold halves of characters, which no encoding has.
    content: bytes = page.encode("utf-8", "replace")
    if len(content) > MOST_BYTES:
        raise InputError(
            f"the report would have {len(content) / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:g}",
            hint="give fewer files of results at once",
        )
    return content


def _title(all_results: Sequence[Results]) -> str:
    names = list(dict.fromkeys(results.plan.name for results in all_results))
    return names[0] if len(names) == 1 else f"{plural(len(all_results), 'result')} of {plural(len(names), 'plan')}"


@cache
def _text(folder: str, name: str) -> str:
    return files("mrs.reporting").joinpath(folder, name).read_text(encoding="utf-8")


def _asset(name: str) -> str:
    return _text("assets", name)


def _policy() -> str:
    """Of the page's content: its own scripts, styles and pictures, and nothing from anywhere."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()}'"
        for name in (THEME, *SCRIPTS)
    )
    # Plots bring style elements and attributes of their own, which therefore cannot be allowed by their hashes.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
