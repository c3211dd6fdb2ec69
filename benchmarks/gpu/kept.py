"""The rows of a run: each in the file as soon as it is known, and found again by a run that goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import rows

# What must be the same for a row to count as measured.
SAME = ("commit", "device", "driver", "versions")


class Kept:
    """Rows of one place.

    Args:
        path: of the file.
        where: what all rows say of GPU, machine, libraries and commit.
        skip: whether rows that are there already count.
    """

    def __init__(self, path: Path, where: Mapping[str, Any], skip: bool = False) -> None:
        self.path, self.where, self.skip = path, dict(where), skip
        self._found: dict[str, dict[str, Any]] = {}
        if skip and known(self.where.get("commit", "")):
            here = [self.where.get(key) for key in SAME]
            for row in rows.read(path):
                # What went wrong is tried again.
                if [row.get(key) for key in SAME] == here and not row["figures"].get("trouble"):
                    self._found[_key(row["case"], row["settings"])] = row["figures"]

    def find(self, case: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Figures that need not be measured again."""
        return self._found.get(_key(case, settings))

    def add(self, case: str, settings: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        """Append a row; it is in the file when this returns."""
        rows.append(self.path, case, dict(settings), dict(figures), self.where)


def known(commit: str) -> bool:
    """Whether a commit says what the files were: it has a name, and nothing differed from it."""
    return bool(commit) and not commit.endswith("+")


def _key(case: str, settings: Mapping[str, Any]) -> str:
    return json.dumps([case, settings], sort_keys=True)
