"""Types of arguments: what they take, and that what they refuse is named."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from mrs.commands import arguments
from mrs.runtime.errors import InputError
from mrs.runtime.system import machine


@pytest.mark.parametrize(("text", "size"), [("256x384", (256, 384)), ("1x1", (1, 1)), ("99999x8", (99999, 8))])
def test_size_is_height_and_width(text, size) -> None:
    assert arguments.size(text) == size


@pytest.mark.parametrize("text", ["0x5", "5x0", "abc", "5", "5x", "x5", "5x5x5", "-5x5", "5 x 5", "5X5", "1e2x5", ""])
def test_wrong_sizes(text) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not HEIGHTxWIDTH in pixels"):
        arguments.size(text)


@pytest.mark.parametrize("text", ["100000x5", "99999999x99999999"])
def test_sizes_that_are_too_large(text) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is too large: sides are at most 99999 pixels"):
        arguments.size(text)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (arguments.positive, "1", 1),
        (arguments.natural, "0", 0),
        (arguments.positive, "999999999", 999999999),
        (arguments.pixels, "999999999999999", 10**15 - 1),
        (arguments.seed, "0", 0),
        (arguments.seed, "4294967295", 2**32 - 1),
        (arguments.counts, "1,1,1,28", (1, 1, 1, 28)),
        (arguments.counts, "0", (0,)),
        (arguments.megabytes, "3", 3 * 1024 * 1024),
        (arguments.threads, "1", 1),
    ],
)
def test_numbers(kind, text, value) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (arguments.positive, "0"),
        (arguments.positive, "-1"),
        (arguments.positive, "1.5"),
        (arguments.positive, "1e3"),
        (arguments.positive, ""),
        (arguments.positive, "9999999999"),
        (arguments.positive, "1" * 5000),
        (arguments.pixels, "0"),
        (arguments.pixels, "1000000000000000"),
        (arguments.natural, "-1"),
        (arguments.natural, "all"),
        (arguments.seed, "-1"),
        (arguments.seed, "4294967296"),
        (arguments.seed, "0x10"),
        (arguments.counts, ""),
        (arguments.counts, "1,,1"),
        (arguments.counts, "1,-1"),
        (arguments.counts, "1 1"),
        (arguments.megabytes, "2GB"),
        (arguments.threads, "0"),
    ],
)
def test_wrong_numbers_are_quoted(kind, text) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} is not "):
        kind(text)


def test_no_more_threads_than_processors(monkeypatch) -> None:
    monkeypatch.setattr(machine, "threads", lambda: 3)
    assert [arguments.threads(text) for text in ("2", "3", "100000")] == [2, 3, 3]


# Outputs


def test_a_new_file_is_allowed(tmp_path) -> None:
    arguments.check_output(tmp_path / "new", overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_an_old_file_needs_overwrite(tmp_path, kind) -> None:
    path = tmp_path / "old"
    if kind == "file":
        path.write_bytes(b"old")
    else:
        path.symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"old exists \(say please\)$"):
        arguments.check_output(path, overwrite=False, hint="say please")
    arguments.check_output(path, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("folder", "it is a folder"),
        ("missing/new", "its folder does not exist"),
        ("file/new", "Not a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_files_that_cannot_be_written(tmp_path, path, says, overwrite) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=says):
        arguments.check_output(tmp_path / path, overwrite)


def test_a_read_only_folder(tmp_path, monkeypatch) -> None:
    # The superuser may write everywhere, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode == os.W_OK))
    with pytest.raises(InputError, match="its folder is read-only"):
        arguments.check_output(tmp_path / "new", overwrite=False)


# Libraries


def test_libraries_that_are_there_are_enough() -> None:
    arguments.require("build", "json", "numpy")


def test_libraries_that_miss_are_named_with_what_installs_them() -> None:
    with pytest.raises(InputError) as caught:
        arguments.require("demo", "no_such_library", "json", "nor_this_one")
    assert caught.value.message == "no_such_library, nor_this_one not installed"
    assert caught.value.hint == 'pip install "mrs-trt[demo]"'
