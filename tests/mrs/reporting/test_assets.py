"""What the page holds of others is what was recorded, and may stand within a page; its colours can be read."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

ASSETS = Path(__file__).resolve().parents[3] / "mrs/reporting/assets"
RECORDED = re.findall(
    r"^\| `(\S+)` \| \S+ \| (\S+) \| .*, `(\S+)` \| `([0-9a-f]{64})` \|$",
    (ASSETS / "README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_every_minified_file_is_recorded() -> None:
    assert sorted(path.name for path in ASSETS.glob("*.min.js")) == sorted(name for name, *_ in RECORDED)


@pytest.mark.parametrize(("name", "version", "licence", "recorded"), RECORDED)
def test_a_file_of_others_is_unchanged_and_has_its_licence(
    name: str, version: str, licence: str, recorded: str
) -> None:
    content = (ASSETS / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == recorded
    assert f"v{version} ".encode() in content[:100]
    assert "Permission to use, copy, modify" in (ASSETS / licence).read_text(encoding="utf-8")


def test_the_package_names_every_licence_of_what_it_holds_and_has_its_text() -> None:
    held = re.findall(r"\| (\w+), `([\w.-]+\.LICENSE)` \|", (ASSETS / "README.md").read_text(encoding="utf-8"))
    assert sorted({name for _, name in held}) == sorted(path.name for path in ASSETS.glob("*.LICENSE"))
    for licence, name in held:
        granted = {"ISC": "Permission to use, copy, modify", "MIT": "Permission is hereby granted"}[licence]
        assert granted in (ASSETS / name).read_text(encoding="utf-8")
    project = tomllib.loads((ASSETS.parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"].split(" AND ") == ["Apache-2.0", *sorted({licence for licence, _ in held})]
    assert {path.name for each in project["license-files"] for path in ASSETS.parents[2].glob(each)} == {
        "LICENSE",
        *(name for _, name in held),
    }


@pytest.mark.parametrize("path", sorted(ASSETS.glob("*.js")), ids=lambda path: path.name)
def test_scripts_may_stand_within_a_page(path: Path) -> None:
    """Nothing ends the element, and what a parser changes (line ends) would no longer have its hash."""
    text = path.read_bytes().decode()
    for forbidden in ("</script", "<script", "<!--", "\r", "\0"):
        assert forbidden not in text.lower()


def luminance(colour: str) -> float:
    """WCAG 2: relative luminance of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


STYLE = (ASSETS / "report.css").read_text(encoding="utf-8")
THEMES = [
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for block in re.findall(r":root[^{]*\{([^}]*--paper: #[0-9a-f]{6};[^}]*)\}", STYLE)
]


def test_both_ways_to_the_dark_theme_are_the_same() -> None:
    assert len(THEMES) == 3
    assert THEMES[1] == THEMES[2] != THEMES[0]
    assert len(THEMES[0]) == len(THEMES[1])


@pytest.mark.parametrize("theme", THEMES[:2], ids=["light", "dark"])
def test_texts_have_the_contrast_that_wcag_aa_asks_for(theme: dict[str, str]) -> None:
    texts = [("ink", on) for on in ("paper", "raised", "caveat")]
    texts += [(name, on) for name in ("muted-ink", "muted", "accent") for on in ("paper", "raised")]
    texts += [("good", "paper"), ("bad", "paper"), ("paper", "ours"), ("paper", "rival")]
    assert {
        pair: contrast(*(theme[name] for name in pair))
        for pair in texts
        if contrast(*(theme[name] for name in pair)) < 4.5
    } == {}
    marks = ["ours", "rival", "floor", "failed", *(f"series-{number}" for number in range(1, 7))]
    assert {name: theme[name] for name in marks if contrast(theme[name], theme["paper"]) < 3} == {}
