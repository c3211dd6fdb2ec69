"""The rows of a run: each in the file as soon as it is known, and found again by a run that goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks import rows

# Numbers by name.
Figures = dict[str, float]
# What must be the same for a row to count as measured.
SAME = ("commit", "device", "driver", "versions")


class Kept:
    """Rows of one place.

    Args:
        path: of the file.
        where: what all rows say of GPU, machine, libraries and commit.
        skip: whether rows that are there already count.
    """

    def __init__(self, path: Path, where: Mapping[str, object], skip: bool = False) -> None:
        self.path, self.where, self.skip = path, dict(where), skip
        self._found: dict[str, Figures] = {}
        if skip and known(str(self.where.get("commit", ""))):
            here = [self.where.get(key) for key in SAME]
            for row in rows.read(path):
                # What went wrong is tried again.
                if [row.get(key) for key in SAME] == here and not row["figures"].get("trouble"):
                    self._found[_key(row["case"], row["settings"])] = row["figures"]

    def find(self, case: str, settings: Mapping[str, object]) -> Figures | None:
        """Figures that need not be measured again."""
        return self._found.get(_key(case, settings))

    def add(self, case: str, settings: Mapping[str, object], figures: Mapping[str, object]) -> None:
        """Append a row; it is in the file when this returns."""
        rows.append(self.path, case, settings, figures, self.where)


def known(commit: str) -> bool:
    """Whether a commit says what the files were: it has a name, and nothing differed from it."""
    return bool(commit) and not commit.endswith("+")


def _key(case: str, settings: Mapping[str, object]) -> str:
    return json.dumps([case, settings], sort_keys=True)
