"""A small checkpoint and a place for its plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrs.export.checkpoint import save
from tests.mrs.building.builds import METADATA, state


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, state(), METADATA)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a plan may be written, and nothing else is."""
    return tmp_path / "a.mrsplan"
