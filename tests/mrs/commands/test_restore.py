"""`mrs-trt restore`: files and folders, what is kept of them, and everything that can be wrong with them."""

from __future__ import annotations

import errno
import io
import os
import re
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import mrs
from mrs.commands import in_flight
from mrs.runtime import backends
from mrs.runtime.errors import BackendError
from mrs.runtime.pictures.writing import read_picture
from mrs.runtime.session import Restorer
from tests.runtime.pictures.picture_files import tiff

ROOT = Path(__file__).resolve().parents[3]
# Far longer than any of this takes: only a test that fails waits for it.
LONG = 20.0


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A name that is free."""
    return tmp_path / "out.png"


@pytest.fixture
def refuse_restore(refuse, plan, picture, out):
    """`restore` that must fail, by default of a good picture with a good plan into a good file."""

    def call(*arguments: object, says: object, plan=plan, inputs=(picture,), output=out) -> str:
        return refuse("restore", plan, *inputs, "-o", output, *arguments, says=says)

    return call


def pixels(path: Path) -> np.ndarray:
    return read_picture(path).rgb


# One picture


def test_a_picture_to_a_file(run, plan, picture, out) -> None:
    result = run("restore", plan, picture, "-o", out)
    assert (result.code, result.out) == (0, "")
    assert re.fullmatch(rf"restored 1 of 1 picture in \d+\.\d s, 0 failed -> {re.escape(str(out))}\n", result.err)
    with mrs.load(plan) as restorer:
        assert np.array_equal(pixels(out), restorer.restore(pixels(picture)))


def test_quiet_says_nothing(run, plan, picture, out) -> None:
    result = run("restore", plan, picture, "-o", out, "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert out.is_file()


def test_a_picture_into_a_folder(run, plan, picture, tmp_path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (f"{tmp_path}/there", f"{tmp_path}/not/there/yet/"):
        assert run("restore", plan, picture, "-o", folder).code == 0
        assert os.listdir(folder) == ["picture.png"]


def test_another_format(run, plan, picture, tmp_path) -> None:
    assert run("restore", plan, picture, "-o", tmp_path / "out.webp").code == 0
    with Image.open(tmp_path / "out.webp") as image:
        assert image.format == "WEBP"


def test_seed_and_tiles_reach_the_restorer(run, plan, tmp_path, photo, out) -> None:
    source = tmp_path / "picture.png"
    Image.fromarray(photo(40, 40)).save(source)
    seen = set()
    with mrs.load(plan) as restorer:
        for flags, options in (
            ([], {}),
            (["--seed", 4294967295], {"seed": 2**32 - 1}),
            (["--tile", 16], {"tile": 16}),
            (["--tile", 16, "--overlap", 8], {"tile": 16, "overlap": 8}),
        ):
            assert run("restore", plan, source, "-o", out, "--overwrite", *flags).code == 0
            assert np.array_equal(pixels(out), restorer.restore(pixels(source), **options))
            seen.add(pixels(out).tobytes())
    assert len(seen) == 4


def test_options_reach_the_restorer(run, plan, picture, out, monkeypatch) -> None:
    import mrs.runtime.session as session
    from mrs.runtime.placement import Choice

    asked = []
    real = session.Restorer
    monkeypatch.setattr(session, "Restorer", lambda plan, **options: asked.append(options) or real(plan, **options))
    flags = ["--backend", "onnxruntime", "--precision", "fp32", "--threads", 1, "--memory", 64, "--no-graphs"]
    flags += ["--no-engine", "--no-cache"]
    assert run("restore", plan, picture, "-o", out, *flags).code == 0
    choice = Choice(backends.get("onnxruntime"), "fp32", settled=True)
    expected = {"choice": choice, "threads": 1, "memory": 64 << 20, "graphs": False, "engine": False, "cache": False}
    assert asked == [expected | {"workers": 1, "device": None}]


@pytest.mark.parametrize("flags", [[], ["--no-engine"], ["--no-cache"]], ids=str)
def test_without_flags_engines_and_the_cache_are_used(run, plan, picture, out, loaded, flags: list[str]) -> None:
    assert run("restore", plan, picture, "-o", out, *flags).code == 0
    (restorer,) = loaded
    assert restorer._networks._engine == ("--no-engine" not in flags)
    assert (restorer._networks._cache is not None) == ("--no-cache" not in flags)


def test_a_precision_that_the_backend_does_not_run(run, plan, picture, out) -> None:
    ended = run("restore", plan, picture, "-o", out, "--backend", "onnxruntime", "--precision", "bf16")
    assert ended.code == 2
    assert "onnxruntime runs no 'bf16' here" in ended.err
    assert not out.exists()


def test_a_picture_in_its_own_place_when_asked(run, plan, picture) -> None:
    before = pixels(picture)
    assert run("restore", plan, picture, "-o", picture, "--overwrite").code == 0
    assert pixels(picture).shape == before.shape
    assert not np.array_equal(pixels(picture), before)


def test_what_a_picture_carries_is_kept(run, plan, tmp_path, photo) -> None:
    rgb = photo(20, 28)
    alpha = np.linspace(0, 255, 20 * 28).astype(np.uint8).reshape(20, 28)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "alpha.png", icc_profile=profile)
    levels = np.linspace(0, 65535, 20 * 28).astype(np.uint16).reshape(20, 28)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(rgb).save(tmp_path / "turned.jpg", exif=exif)
    for name in ("alpha.png", "deep.png", "turned.jpg"):
        assert run("restore", plan, tmp_path / name, "-o", tmp_path / f"new-{name}").code == 0
    with Image.open(tmp_path / "new-alpha.png") as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[..., 3], alpha)
        assert image.info["icc_profile"] == profile
    with Image.open(tmp_path / "new-deep.png") as image:
        assert image.mode == "I;16"
        # More than 256 levels: not from 8 bits.
        assert len(np.unique(np.asarray(image) % 257)) > 1
    with Image.open(tmp_path / "new-turned.jpg") as image:
        assert image.size == (20, 28)
        assert (image.getexif()[0x010F], image.getexif().get(0x0112, 1)) == ("Maker", 1)


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


def test_limits_of_pictures(run, plan, picture, out, refuse_restore) -> None:
    with Image.open(picture) as image:
        size = image.width * image.height
    refuse_restore("--max-pixels", size - 1, says=(f"= {size} pixels, the limit is {size - 1}", f"--max-pixels {size}"))
    assert run("restore", plan, picture, "-o", out, "--max-pixels", size).code == 0
    wide = out.with_name("wide.png")
    Image.new("RGB", (1024, 512)).save(wide)
    refuse_restore("--max-picture-memory", 1, inputs=(wide,), output=out.with_name("other.png"), says="takes 4 MiB")


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


def test_a_picture_too_large_for_memory(refuse_restore, monkeypatch) -> None:
    def restore(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Restorer, "restore", restore)
    refuse_restore(says=("picture.png does not fit into memory", "--tile 512"))


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


@pytest.fixture
def loaded(monkeypatch) -> list[Restorer]:
    """The restorers that were made."""
    made = []
    real = Restorer.__init__

    def init(self, *arguments, **options) -> None:
        real(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Restorer, "__init__", init)
    return made


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


# Progress


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("flags", "bar"), [([], True), (["-q"], False)])
def test_the_bar_is_for_terminals(run, plan, pictures, tmp_path, monkeypatch, flags, bar) -> None:
    (pictures / "aa.png").write_bytes(b"no picture")
    terminal = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        assert run("restore", plan, pictures, "-o", tmp_path / "out", *flags).code == 1
    shown = terminal.getvalue()
    assert ("4/4" in shown) is bar
    # The line of the failure is a line of its own: the bar was wiped before.
    line = next(line for line in shown.split("\n") if "failed: " in line and "aa.png" in line)
    assert line.split("\r")[-1].startswith(f"failed: {pictures / 'aa.png'}: ")


def test_no_bar_for_one_picture(run, plan, picture, out, monkeypatch) -> None:
    terminal = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        assert run("restore", plan, picture, "-o", out).code == 0
    assert terminal.getvalue().startswith("restored 1 of 1 picture")


# Bad pictures


def bomb() -> bytes:
    """A PNG of a few bytes that says it has ten thousand million pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "bad.png is empty"),
        (b"hello", "bad.png is not a PNG, JPEG, WebP, TIFF or BMP picture"),
        (b"\x89PNG\r\n\x1a\n", "cannot decode"),
        (bomb(), ("100000x100000 = 10000000000 pixels, the limit is", "scale it down")),
        (None, ("cannot decode", "cut short")),
    ],
    ids=["empty", "text", "only a signature", "bomb", "cut"],
)
def test_files_that_are_no_good_pictures(refuse_restore, picture, tmp_path, content, says) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(picture.read_bytes()[:-100] if content is None else content)
    refuse_restore(inputs=[bad], says=says)


def test_inputs_that_are_no_pictures(refuse_restore, plan, picture, tmp_path) -> None:
    refuse_restore(inputs=[tmp_path / "missing.png"], says="missing.png does not exist")
    refuse_restore(inputs=[picture, tmp_path / "missing.png"], output=tmp_path / "out", says="missing.png does not")
    refuse_restore(inputs=[plan], says="tiny.mrsplan is not a PNG")
    refuse_restore(inputs=["n" * 300], says="File name too long")
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    refuse_restore(inputs=[tmp_path / "empty"], output=tmp_path / "out", says=("empty holds no pictures", "PNG"))


def test_two_pictures_of_one_name(refuse_restore, pictures, photo, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    Image.fromarray(photo(8, 8)).save(tmp_path / "other" / "a.png")
    refuse_restore(
        inputs=[pictures, tmp_path / "other"], output=tmp_path / "out",
        says=(str(tmp_path / "other" / "a.png"), "would both be written as a.png"),
    )  # fmt: skip


# Bad plans


@pytest.mark.parametrize("damage", ["cut", "tail", "graph", "manifest", "empty", "text", "zip", "pickle"])
def test_plans_that_are_no_good(refuse_restore, plan, tmp_path, damage) -> None:
    bad = tmp_path / "bad.mrsplan"
    content = bytearray(plan.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "tail":
        del content[-10:]
    elif damage in ("graph", "manifest"):
        with zipfile.ZipFile(plan) as archive:
            member = archive.getinfo({"graph": "network.onnx", "manifest": "manifest.json"}[damage])
        content[member.header_offset + 30 + len(member.filename) + member.file_size // 2] ^= 1
    else:
        content = bytearray({"empty": b"", "text": b"a plan", "pickle": b"\x80\x04N.", "zip": b""}[damage])
    bad.write_bytes(content)
    if damage == "zip":
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr("manifest.json", "{}")
    refuse_restore(plan=bad, says=("bad.mrsplan", "plan", "hint: "))


def test_plans_that_are_something_else(refuse_restore, golden, picture, tmp_path) -> None:
    refuse_restore(plan=tmp_path / "missing.mrsplan", says=("missing.mrsplan does not exist", "mrs-trt build"))
    refuse_restore(plan=picture, says=("picture.png is no plan", "mrs-trt build"))
    refuse_restore(plan=golden.weights, says=("nafnet_tiny.pth is a zip file, but no plan", "mrs-trt build"))
    refuse_restore(plan=tmp_path, says="is a folder")
    refuse_restore(plan="n" * 300, says="File name too long")


def test_a_plan_of_a_later_format(refuse_restore, plan, tmp_path) -> None:
    later = tmp_path / "later.mrsplan"
    with zipfile.ZipFile(plan) as old, zipfile.ZipFile(later, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, old.read(entry).replace(b'"format_version": 3', b'"format_version": 9'))
    refuse_restore(plan=later, says=("format version 9, this program reads 3", "build it again"))


# Bad flags


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--tile", "10"], ("tile 10 is not a positive multiple of 4", "steps of 4")),
        (["--tile", "2"], "tile 2 is not a positive multiple of 4"),
        (["--tile", "-8"], "'-8' is not a whole number"),
        (["--tile", "big"], "'big' is not a whole number of at least 0"),
        (["--tile", "16", "--overlap", "9"], "overlap 9 is outside 0..8"),
        (["--tile", "16", "--overlap", "-1"], "'-1' is not a whole number"),
        (["--tile", "0", "--overlap", "8"], "--overlap is of no use without tiles"),
        (["--seed", "-1"], "'-1' is not a whole number from 0 to 4294967295"),
        (["--seed", "4294967296"], "'4294967296' is not a whole number from 0 to 4294967295"),
        (["--backend", "cuda"], ("backend 'cuda' is unknown", "openvino, onnxruntime")),
        (["--threads", "0"], "'0' is not a whole number of at least 1"),
        (["--workers", "0"], "'0' is not a whole number of at least 1"),
        (["--workers", "two"], "'two' is not a whole number of at least 1"),
        (["--memory", "1.5"], "'1.5' is not a whole number of at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(refuse_restore, flags, says) -> None:
    refuse_restore(*flags, says=says)


# Outputs that cannot be


def test_an_output_that_exists(refuse_restore, out) -> None:
    out.write_bytes(b"mine")
    refuse_restore(says=("out.png exists", "pass --overwrite to replace it"))


def test_a_picture_as_its_own_output(refuse_restore, picture) -> None:
    refuse_restore(output=picture, says="picture.png exists")
    refuse_restore(output=picture.parent, says=("picture.png would be replaced by its own result", "--overwrite"))


def test_a_folder_as_its_own_output(refuse_restore, pictures, tmp_path) -> None:
    refuse_restore(inputs=[pictures], output=pictures, says="a.png would be replaced by its own result")
    (tmp_path / "link").symlink_to(pictures)
    refuse_restore(inputs=[pictures], output=tmp_path / "link", says="a.png would be replaced by its own result")


def test_a_folder_in_its_own_place_when_asked(run, plan, pictures) -> None:
    before = pixels(pictures / "a.png")
    assert run("restore", plan, pictures, "-o", pictures, "--overwrite").code == 0
    assert not np.array_equal(pixels(pictures / "a.png"), before)


@pytest.mark.parametrize("several", [True, False], ids=["two files", "a folder"])
def test_several_pictures_into_one_file(refuse_restore, picture, pictures, tmp_path, out, several) -> None:
    inputs = [picture, pictures / "a.png"] if several else [pictures]
    refuse_restore(inputs=inputs, says=("out.png is the name of one picture", "folder"))
    out.write_bytes(b"mine")
    refuse_restore("--overwrite", inputs=inputs, says="out.png is a file")


def test_outputs_without_a_place(refuse_restore, picture, tmp_path) -> None:
    refuse_restore(output=tmp_path / "missing" / "out.png", says=("its folder does not exist", "make "))
    refuse_restore(output=picture / "out.png", says="cannot write")
    refuse_restore(output=f"{picture}/", says="picture.png is a file")
    refuse_restore(output=f"{picture}/deeper/", says="picture.png is a file")
    refuse_restore(inputs=[picture, picture.parent], output=picture / "out", says="picture.png is a file")
    refuse_restore(output=tmp_path / ("n" * 300 + ".png"), says="File name too long")


def test_outputs_of_no_format(refuse_restore, tmp_path) -> None:
    refuse_restore(output=tmp_path / "out.gif", says=("the suffix .gif names no supported format", ".webp"))
    refuse_restore(output=tmp_path / "out", says="a name without suffix names no supported format")


def test_a_format_that_cannot_hold_the_picture(refuse_restore, tmp_path, photo, monkeypatch) -> None:
    """It is told before time is spent on restoring."""
    monkeypatch.setattr(Restorer, "restore", lambda *arguments, **options: pytest.fail("restored"))
    Image.fromarray(np.dstack([photo(8, 8), np.zeros((8, 8), np.uint8)])).save(tmp_path / "glass.png")
    refuse_restore(inputs=[tmp_path / "glass.png"], output=tmp_path / "out.jpg", says="JPEG holds no transparency")


def test_a_read_only_folder(refuse_restore, tmp_path, monkeypatch) -> None:
    # The superuser may write everywhere, so the system's answer is replaced.
    (tmp_path / "locked").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and real(path, mode))
    refuse_restore(output=tmp_path / "locked" / "out.png", says="read-only")
    refuse_restore(output=tmp_path / "locked", says="read-only")
    refuse_restore(output=f"{tmp_path}/locked/new/", says="read-only")


def test_a_folder_that_cannot_be_made(run, plan, pictures, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_bytes(b"a file")
    result = run("restore", plan, pictures, "-o", tmp_path / "out")
    assert result.code == 1
    assert f"failed: {pictures / 'deep' / 'er' / 'c.webp'}: cannot make folder" in result.err
    assert result.err.splitlines()[-1].startswith("restored 2 of 3 pictures")


@pytest.mark.usefixtures("no_space")
def test_a_full_disk(refuse_restore, run, plan, pictures, tmp_path, out) -> None:
    refuse_restore(says=("cannot write", "out.png: No space left on device"))
    out.write_bytes(b"mine")
    refuse_restore("--overwrite", says="No space left on device")
    result = run("restore", plan, pictures, "-o", tmp_path / "many")
    assert result.code == 1
    assert result.err.count(os.strerror(errno.ENOSPC)) == 3
    assert not [path for path in (tmp_path / "many").rglob("*") if path.is_file()]
