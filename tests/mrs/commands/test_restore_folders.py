"""`mrs-trt restore` of folders: several pictures at a time, and what fails or is interrupted costs no other."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from mrs.commands import in_flight
from mrs.runtime.errors import BackendError
from mrs.runtime.pictures.writing import read_picture
from mrs.runtime.session import Restorer
from tests.runtime.pictures.picture_files import pixels, tiff

pytestmark = pytest.mark.slow(11)

ROOT = Path(__file__).resolve().parents[3]
# Far longer than any of this takes: only a test that fails waits for it.
LONG = 20.0


# Folders


def test_a_folder_keeps_its_tree(run, plan, pictures, tmp_path) -> None:
    result = run("restore", plan, pictures, "-o", tmp_path / "new" / "out")
    assert (result.code, result.out) == (0, "")
    assert "\nrestored 3 of 3 pictures in " in result.err
    written = {str(path.relative_to(tmp_path / "new" / "out")) for path in (tmp_path / "new").rglob("*.*")}
    assert written == {"a.png", "b.jpg", "deep/er/c.webp"}


def test_files_and_folders_together(run, plan, pictures, picture, tmp_path) -> None:
    assert run("restore", plan, picture, pictures / "deep", "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "picture.png").is_file()
    assert (tmp_path / "out" / "er" / "c.webp").is_file()


def test_results_inside_the_input_are_not_inputs(run, plan, pictures) -> None:
    for _ in range(2):
        result = run("restore", plan, pictures, "-o", pictures / "out", "--overwrite")
        assert "\nrestored 3 of 3 pictures in " in result.err


def test_one_bad_picture_does_not_stop_the_rest(run, plan, pictures, tmp_path) -> None:
    (pictures / "aa.png").write_bytes(b"no picture")
    (pictures / "lone").mkdir()
    (pictures / "lone" / "cut.png").write_bytes((pictures / "a.png").read_bytes()[:200])
    result = run("restore", plan, pictures, "-o", tmp_path / "out")
    assert (result.code, result.out) == (1, "")
    first, second, _, summary = result.err.splitlines()
    assert first.startswith(f"failed: {pictures / 'aa.png'}: ")
    assert "is not a PNG, JPEG" in first
    assert second.startswith(f"failed: {pictures / 'lone' / 'cut.png'}: ")
    assert summary.startswith("restored 3 of 5 pictures in ")
    assert ", 2 failed -> " in summary
    # Nothing of those that failed, not even their folders.
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {"a.png", "b.jpg", "deep", "er", "c.webp"}


def test_pictures_are_told_by_content_and_what_is_skipped_is_named(run, plan, pictures, tmp_path) -> None:
    (pictures / "b.jpg").rename(pictures / "b.jfif")
    (pictures / "a.png").rename(pictures / "photo")
    (pictures / "gone").symlink_to("nowhere")
    (pictures / "there").symlink_to("deep")
    result = run("restore", plan, pictures, "-o", tmp_path / "out")
    assert result.code == 0
    skipped, summary = result.err.splitlines()
    assert summary.startswith("restored 3 of 3 pictures in ")
    assert skipped == "skipped 3: link to nothing (gone), another format (notes.txt), link to a folder (there)"
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"photo.png", "b.jfif", "deep/er/c.webp"}
    with Image.open(tmp_path / "out" / "b.jfif") as image:
        assert image.format == "JPEG"
    assert run("restore", plan, pictures, "-o", tmp_path / "again", "-q").err == ""


def test_an_unreadable_folder_fails_alone(run, plan, pictures, tmp_path, monkeypatch) -> None:
    (pictures / "lost+found").mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path).name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = run("restore", plan, pictures, "-o", tmp_path / "out")
    assert result.code == 1
    first, _, summary = result.err.splitlines()
    assert first.startswith(f"failed: {pictures / 'lost+found'}: cannot read ")
    assert "Permission denied; hint: " in first
    assert summary.startswith("restored 3 of 3 pictures in ")
    assert ", 0 failed, 1 unreadable -> " in summary


def test_what_is_odd_in_metadata_is_no_line_of_its_own(run, plan, tmp_path, out) -> None:
    tags = {256: (16,), 257: (16,), 258: (8,), 259: (1,), 262: (1,), 277: (1, 1), 278: (16,)}
    (tmp_path / "odd.tif").write_bytes(tiff(tags, bytes(256)))
    with pytest.warns(UserWarning, match="tag 277 had too many entries"):
        read_picture(tmp_path / "odd.tif")
    result = run("restore", plan, tmp_path / "odd.tif", "-o", out)
    assert result.code == 0
    assert result.err.count("\n") == 1


def test_what_exists_is_neither_replaced_nor_in_the_way(run, plan, pictures, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    result = run("restore", plan, pictures, "-o", tmp_path / "out")
    assert result.code == 1
    assert f"failed: {pictures / 'a.png'}: {tmp_path / 'out' / 'a.png'} exists; hint: pass --overwrite" in result.err
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    assert (tmp_path / "out" / "b.jpg").is_file()
    assert run("restore", plan, pictures, "-o", tmp_path / "out", "--overwrite").code == 0
    assert pixels(tmp_path / "out" / "a.png").shape == (20, 24, 3)


def test_an_engine_that_fails_for_one_size(run, plan, pictures, tmp_path, monkeypatch) -> None:
    real = Restorer.restore

    def restore(self, image, *arguments, **options):
        if image.shape[0] == 33:
            raise BackendError("the engine is in a mood")
        return real(self, image, *arguments, **options)

    monkeypatch.setattr(Restorer, "restore", restore)
    result = run("restore", plan, pictures, "-o", tmp_path / "out")
    assert result.code == 1
    assert f"failed: {pictures / 'b.jpg'}: the engine is in a mood\n" in result.err
    assert not (tmp_path / "out" / "b.jpg").exists()


# `mrs-trt restore` with Ctrl-C while the second and the third picture are in flight, after the first was written.
CTRL_C = """
import os, signal, sys, threading, time
from mrs import cli
from mrs.runtime.pictures import writing as pictures
from mrs.runtime.session import Restorer

written, calls = threading.Event(), []
restore, write = Restorer.restore, pictures.write_picture


def restored(self, image, *arguments, cancellation, **options):
    calls.append(image.shape)
    if image.shape[0] != 20:
        assert written.wait(60)
        if image.shape[0] == 33:
            os.kill(os.getpid(), signal.SIGINT)
        while not cancellation.cancelled:
            time.sleep(1e-3)
    return restore(self, image, *arguments, cancellation=cancellation, **options)


def wrote(path, *arguments, **options):
    write(path, *arguments, **options)
    written.set()


Restorer.restore, pictures.write_picture = restored, wrote
# A shell starts what runs in its background with the interrupt ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
code = cli.main(sys.argv[1:])
assert len(calls) in (2, 3), calls
sys.exit(code)
"""


@pytest.mark.signals
def test_ctrl_c_keeps_what_is_done(plan, pictures, tmp_path) -> None:
    arguments = [plan, pictures, "-o", tmp_path / "out", "--workers", 2]
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C, "restore", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=240,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} == {"a.png"}


# Several at a time


@pytest.mark.parametrize("flags", [[], ["--tile", 16, "--seed", 7], ["--memory", 1]], ids=["plain", "tiles", "memory"])
def test_any_number_of_workers_gives_the_same_files(run, plan, pictures, tmp_path, photo, flags) -> None:
    # Larger than fits the smallest memory.
    Image.fromarray(photo(150, 90)).save(pictures / "large.png")
    results = []
    for workers in (1, 2, 3):
        folder = tmp_path / f"out-{workers}"
        assert run("restore", plan, pictures, "-o", folder, "--workers", workers, *flags).code == 0
        results.append({path.name: path.read_bytes() for path in folder.rglob("*.*")})
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 4


def test_two_restores_at_a_time(run, plan, pictures, tmp_path, monkeypatch) -> None:
    real, both = Restorer.restore, threading.Barrier(2)
    (pictures / "deep" / "er" / "c.webp").unlink()

    def restore(self, *arguments, **options):
        both.wait(LONG)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Restorer, "restore", restore)
    assert run("restore", plan, pictures, "-o", tmp_path / "out", "--workers", 2).code == 0


def test_a_picture_is_read_while_another_is_restored(run, plan, pictures, tmp_path, monkeypatch) -> None:
    """With one worker too."""
    real, later = Restorer.restore, threading.Event()

    def restore(self, image, *arguments, **options):
        assert image.shape[0] != 20 or later.wait(LONG)
        return real(self, image, *arguments, **options)

    def read(path, *limits):
        if path.name == "b.jpg":
            later.set()
        return read_picture(path, *limits)

    monkeypatch.setattr(Restorer, "restore", restore)
    monkeypatch.setattr("mrs.runtime.pictures.writing.read_picture", read)
    assert run("restore", plan, pictures, "-o", tmp_path / "out", "--workers", 1).code == 0


@pytest.mark.parametrize(
    ("count", "flags", "processors", "workers"),
    [
        (8, [], 1, 1),
        (8, [], 2, 2),
        (8, [], 64, 2),
        (7, [], 64, 1),  # an odd one would have no other beside it
        (8, ["--threads", 1], 64, 1),
        (8, ["--workers", 1], 64, 1),
        (3, ["--workers", 2], 1, 2),
        (3, ["--workers", 50], 64, 3),
        (3, ["--workers", 3, "--memory", 1], 64, 1),  # the largest is cut even alone
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else str(value),
)
def test_the_number_of_workers(
    run, plan, pictures, tmp_path, monkeypatch, loaded, photo, count, flags, processors, workers
) -> None:
    for number in range(count - 3):
        Image.fromarray(photo(20, 24)).save(pictures / f"more-{number}.png")
    monkeypatch.setattr("mrs.runtime.system.machine.threads", lambda: processors)
    if "--memory" in flags:
        monkeypatch.setattr("mrs.commands.arguments.megabytes", lambda text: 1 << 17)
    assert run("restore", plan, pictures, "-o", tmp_path / "out", *flags).code == 0
    assert [restorer.workers for restorer in loaded] == [workers]


def test_pictures_in_flight_are_counted_by_their_pixels(run, plan, pictures, tmp_path, monkeypatch) -> None:
    real, costs = in_flight.in_order, []

    def in_order(jobs, *arguments, cost):
        costs.extend(cost(job) for job in jobs)
        return real(jobs, *arguments, cost=cost)

    monkeypatch.setattr(in_flight, "in_order", in_order)
    (pictures / "z.png").write_bytes(b"no picture")
    assert run("restore", plan, pictures, "-o", tmp_path / "out").code == 1
    assert costs == [*(pixels(pictures / name)[..., 0].size for name in ("a.png", "b.jpg", "deep/er/c.webp")), 0]


def test_a_bug_is_no_failed_picture(plan, pictures, tmp_path, monkeypatch, run) -> None:
    def restore(self, *arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Restorer, "restore", restore)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("restore", plan, pictures, "-o", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.*"))
