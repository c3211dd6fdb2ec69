"""Blocks of a document that are written by a program, between `<!-- rows: NAME -->` and `<!-- end of rows -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(<!-- rows: (?P<name>[a-z0-9 ,-]+) -->\n)(?P<old>.*?)(<!-- end of rows -->)", re.DOTALL)


def written(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A document with its blocks as `tables` gives them today.

    Raises:
        ValueError: for a block of an unknown name, or one that has no end.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in tables:
            raise ValueError(f"no table is named {name!r}; there are {', '.join(sorted(tables))}")
        return f"{match[1]}{tables[name]().rstrip()}\n{match[4]}"

    if text.count("<!-- rows:") != len(BLOCK.findall(text)):
        raise ValueError("a block of rows has a name that is none, or no end")
    return BLOCK.sub(block, text)


def names(text: str) -> list[str]:
    """Of the blocks of a document, in their order."""
    return [match["name"] for match in BLOCK.finditer(text)]
