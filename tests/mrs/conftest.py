"""A tiny plan, built once, and ways to call the command line in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

import mrs
from mrs import cli
from tests.haste import measure_little


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]
Photo = Callable[[int, int], NDArray[np.uint8]]


@pytest.fixture(scope="session")
def photo() -> Photo:
    """(height, width) of a photograph, from its middle."""
    picture = data.astronaut()[60:, 150:]

    def cut(height: int, width: int) -> NDArray[np.uint8]:
        return picture[:height, :width].copy()

    return cut


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Builds that measure next to nothing."""
    hurry(monkeypatch)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch, reference_steps=6)
    monkeypatch.setattr("mrs.building.calibration.LARGEST", 32)


@pytest.fixture(scope="session")
def plan(golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nafnet_tiny.pth (sizes in multiples of 4) for 32x32 pictures in two steps. Tests that damage it copy it first."""
    path = tmp_path_factory.mktemp("plan") / "tiny.mrsplan"
    with pytest.MonkeyPatch.context() as monkeypatch:
        hurry(monkeypatch)
        # Random weights restore nothing, and every restore would say so.
        monkeypatch.setattr("mrs.export.autotune.verdict.Verdict.warnings", lambda *arguments: [])
        solver = mrs.Solver(steps=2, last_step="lower-order")
        mrs.build(golden.weights, path, size=(32, 32), solver=solver, backend="onnxruntime", threads=1)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `mrs-trt` with these arguments."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def refuse(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail for its input: exit code 2, one line on stderr that holds `says` and a hint, and
    no file below tmp_path made or changed. Returns the line."""

    def call(*arguments: object, says: str | tuple[str, ...]) -> str:
        before = contents(tmp_path)
        result = run(*arguments)
        assert (result.code, result.out) == (2, ""), result
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert result.err.endswith("\n")
        for text in (says,) if isinstance(says, str) else says:
            assert text in result.err
        assert contents(tmp_path) == before
        return result.err

    return call


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files included; None for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def pictures(tmp_path: Path, photo: Photo) -> Path:
    """A folder of three pictures, one of them deeper, and a text."""
    folder = tmp_path / "pictures"
    (folder / "deep" / "er").mkdir(parents=True)
    Image.fromarray(photo(20, 24)).save(folder / "a.png")
    Image.fromarray(photo(33, 18)).save(folder / "b.jpg")
    Image.fromarray(photo(16, 16)).save(folder / "deep" / "er" / "c.webp")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def picture(tmp_path: Path, photo: Photo) -> Path:
    """One picture."""
    path = tmp_path / "picture.png"
    Image.fromarray(photo(21, 27)).save(path)
    return path


@pytest.fixture
def no_space(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk that is full when a file is to be flushed."""
    import errno
    import os

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        yield
