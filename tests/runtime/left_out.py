"""Folders of tests that are left out, and say so, where a library is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


def lacking(*libraries: str) -> list[str]:
    """Which of these libraries are not installed."""
    return [name for name in libraries if find_spec(name) is None]


class LeftOut(pytest.Module):
    """A file of tests that cannot be loaded here.

    Attributes:
        missing: the libraries.
    """

    missing: list[str]

    def collect(self) -> Any:
        pytest.skip(f"{' and '.join(self.missing)} not installed")


def left_out(missing: list[str], path: Path, parent: Any) -> pytest.Module | None:
    """What pytest collects a file as: nothing of its own where libraries are missing."""
    if not missing:
        return None
    module: LeftOut = LeftOut.from_parent(parent, path=path)
    module.missing = missing
    return module
