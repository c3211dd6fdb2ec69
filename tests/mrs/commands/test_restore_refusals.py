"""Pictures, plans, flags and outputs with which `mrs-trt restore` makes no file."""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from mrs.runtime.session import Restorer
from tests.runtime.pictures.picture_files import pixels


def test_limits_of_pictures(run, plan, picture, out, refuse_restore) -> None:
    with Image.open(picture) as image:
        size = image.width * image.height
    refuse_restore("--max-pixels", size - 1, says=(f"= {size} pixels, the limit is {size - 1}", f"--max-pixels {size}"))
    assert run("restore", plan, picture, "-o", out, "--max-pixels", size).code == 0
    wide = out.with_name("wide.png")
    Image.new("RGB", (1024, 512)).save(wide)
    refuse_restore("--max-picture-memory", 1, inputs=(wide,), output=out.with_name("other.png"), says="takes 4 MiB")


def test_a_picture_too_large_for_memory(refuse_restore, monkeypatch) -> None:
    def restore(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Restorer, "restore", restore)
    refuse_restore(says=("picture.png does not fit into memory", "--tile 512"))


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
        (["--overlap", "8"], ("--overlap is of no use without tiles", "give --tile N")),
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
    refuse_restore(
        output=tmp_path / "missing" / "out.png", says=("its folder does not exist", "make ", "missing/ is made")
    )
    refuse_restore(output=picture / "out.png", says="cannot write")
    refuse_restore(output=f"{picture}/", says="picture.png is a file")
    refuse_restore(output=f"{picture}/deeper/", says="picture.png is a file")
    refuse_restore(inputs=[picture, picture.parent], output=picture / "out", says="picture.png is a file")
    refuse_restore(output=tmp_path / ("n" * 300 + ".png"), says="File name too long")


def test_a_result_in_the_place_of_what_is_read(refuse_restore, plan, picture, pictures, tmp_path) -> None:
    """But its own picture, when that is asked for."""
    link = tmp_path / "link.png"
    link.symlink_to(plan)
    refuse_restore("--overwrite", output=link, says="it would be lost")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "a.png").symlink_to(picture)
    refuse_restore("--overwrite", inputs=[pictures / "a.png", picture], output=folder, says="which is read, too")


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
