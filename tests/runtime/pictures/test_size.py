"""The size that a file's header tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrs.runtime.pictures.writing import SUFFIXES, picture_size


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_of_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(np.zeros((7, 11, 3), np.uint8)).save(path)
    assert picture_size(path) == (7, 11)


def test_pixels_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 110, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert picture_size(path) == (70, 110)


@pytest.mark.parametrize(
    "content", [None, b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP", b"II*\0\xff", b"BM"]
)
def test_none_where_nothing_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    assert picture_size(path) is None
    assert picture_size(tmp_path) is None
