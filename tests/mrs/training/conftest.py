"""Pictures to train on, and runs that tell and save often."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from mrs.training import train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs, one of them in a folder of its own."""
    path = tmp_path / "clean"
    (path / "more").mkdir(parents=True)
    Image.fromarray(data.astronaut()[60:110, 200:260]).save(path / "a.png")
    Image.fromarray(data.coffee()[100:140, 200:216]).save(path / "more" / "b.PNG")
    return path


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report after every iteration, save after every fourth."""
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    real = train.train
    monkeypatch.setattr(train, "train", lambda *arguments, **options: real(*arguments, **{"save_every": 4, **options}))
