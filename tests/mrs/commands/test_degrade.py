"""`mrs-trt degrade`: each picture its own random numbers, PNG out, and everything that can be wrong."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mrs import degradations
from mrs.degradations import generator
from mrs.degradations.severity import between
from mrs.runtime.pictures.writing import read_picture


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A name that is free."""
    return tmp_path / "out.png"


@pytest.fixture
def refuse_degrade(refuse, picture, out):
    """`degrade` that must fail, by default of a good picture into a good file."""

    def call(*arguments: object, says: object, source=picture, output=out, task="noise") -> str:
        return refuse("degrade", source, "-o", output, "--task", task, *arguments, says=says)

    return call


def pixels(path: Path) -> np.ndarray:
    return read_picture(path).rgb


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


# What is written


@pytest.mark.parametrize("task", sorted(degradations.DEGRADATIONS))
def test_every_task(run, picture, out, task) -> None:
    result = run("degrade", picture, "-o", out, "--task", task, "--severity", 0.75, "--seed", 3)
    assert (result.code, result.out) == (0, "")
    assert re.fullmatch(rf"degraded 1 of 1 picture in \d+\.\d s, 0 failed -> {re.escape(str(out))}\n", result.err)
    clean = pixels(picture).astype(np.float32) / np.float32(255)
    degraded = degradations.get(task)(clean, generator(3, task, "picture.png"), 0.75)
    np.testing.assert_array_equal(pixels(out), np.rint(degraded * 255).astype(np.uint8))


def test_severity_is_drawn_where_none_is_given(run, pictures, tmp_path) -> None:
    assert run("degrade", pictures, "-o", tmp_path / "out", "--task", "noise").code == 0
    for name in ("a.png", "b.jpg", "deep/er/c.webp"):
        rng = generator(0, "noise", name)
        sigma = between(5, 45, rng.random()) / 255
        clean = pixels(pictures / name).astype(np.float32) / np.float32(255)
        expected = np.clip(clean + np.float32(sigma) * rng.standard_normal(clean.shape, np.float32), 0, 1)
        found = pixels((tmp_path / "out" / name).with_suffix(".png"))
        np.testing.assert_array_equal(found, np.rint(expected * 255).astype(np.uint8))


def test_a_folder_keeps_its_tree_as_png(run, pictures, tmp_path) -> None:
    result = run("degrade", pictures, "-o", tmp_path / "new" / "out", "--task", "haze")
    assert (result.code, result.out) == (0, "")
    skipped, summary = result.err.splitlines()
    assert skipped == "skipped 1: another format (notes.txt)"
    assert summary.startswith("degraded 3 of 3 pictures in ")
    assert set(written(tmp_path / "new" / "out")) == {"a.png", "b.png", "deep/er/c.png"}
    assert all(content[1:4] == b"PNG" for content in written(tmp_path / "new" / "out").values())


def test_each_picture_has_random_numbers_of_its_own(run, pictures, tmp_path) -> None:
    """Those of the others, and their order, do not matter; seeds and names do."""
    shutil.copy(pictures / "a.png", pictures / "same.png")
    assert run("degrade", pictures, "-o", tmp_path / "all", "--task", "mixed").code == 0
    everything = written(tmp_path / "all")
    assert everything["a.png"] != everything["same.png"]
    for name in ("a.png", "same.png"):
        assert run("degrade", pictures / name, "-o", f"{tmp_path}/alone/", "--task", "mixed", "-q").code == 0
    assert written(tmp_path / "alone") == {name: everything[name] for name in ("a.png", "same.png")}
    (pictures / "a.png").unlink()
    assert run("degrade", pictures, "-o", tmp_path / "fewer", "--task", "mixed").code == 0
    del everything["a.png"]
    assert written(tmp_path / "fewer") == everything
    assert run("degrade", pictures, "-o", tmp_path / "seed", "--task", "mixed", "--seed", 1).code == 0
    assert all(content != everything[name] for name, content in written(tmp_path / "seed").items())


def test_tasks_do_not_share_random_numbers() -> None:
    draws = {
        generator(*key).random() for key in ((0, "rain", "a"), (1, "rain", "a"), (0, "snow", "a"), (0, "rain", "b"))
    }
    assert len(draws) == 4


def test_random_numbers_are_those_of_yesterday() -> None:
    """Figures of papers are repeated by seed."""
    assert generator(0, "haze", "01.png").integers(1 << 32) == 2904691290


def test_results_inside_the_input_are_not_inputs(run, pictures) -> None:
    for _ in range(2):
        result = run("degrade", pictures, "-o", pictures / "out", "--task", "noise", "--overwrite")
        assert "\ndegraded 3 of 3 pictures in " in result.err


def test_quiet_says_nothing_but_failures(run, pictures, tmp_path) -> None:
    assert run("degrade", pictures, "-o", tmp_path / "out", "--task", "noise", "-q").err == ""
    (pictures / "bad.png").write_bytes(b"no picture")
    ended = run("degrade", pictures, "-o", tmp_path / "again", "--task", "noise", "-q")
    assert ended.code == 1
    assert ended.err.startswith(f"failed: {pictures / 'bad.png'}: ")
    assert ended.err.count("\n") == 1


def test_what_a_picture_carries_is_kept(run, tmp_path, photo, out) -> None:
    alpha = np.linspace(0, 255, 20 * 28).astype(np.uint8).reshape(20, 28)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.dstack([photo(20, 28), alpha])).save(tmp_path / "alpha.png", icc_profile=profile)
    assert run("degrade", tmp_path / "alpha.png", "-o", out, "--task", "noise").code == 0
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image)[..., 3], alpha)
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_pictures_get_coloured_noise(run, tmp_path, out, bits) -> None:
    levels = np.full((30, 30), 100 * (257 if bits == 16 else 1), np.uint16 if bits == 16 else np.uint8)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    assert run("degrade", tmp_path / "grey.png", "-o", out, "--task", "noise", "--severity", 0).code == 0
    with Image.open(out) as image:
        assert image.mode == "RGB"
        noisy = np.asarray(image).astype(float)
    assert noisy.std() == pytest.approx(5, rel=0.1)
    assert noisy.mean() == pytest.approx(100, abs=0.5)


# What is wrong with pictures


def test_one_bad_picture_does_not_stop_the_rest(run, pictures, tmp_path) -> None:
    (pictures / "aa.png").write_bytes(b"no picture")
    result = run("degrade", pictures, "-o", tmp_path / "out", "--task", "rain")
    assert (result.code, result.out) == (1, "")
    first, _, summary = result.err.splitlines()
    assert first.startswith(f"failed: {pictures / 'aa.png'}: ")
    assert summary.startswith("degraded 3 of 4 pictures in ")
    assert set(written(tmp_path / "out")) == {"a.png", "b.png", "deep/er/c.png"}


def test_an_unreadable_folder_fails_alone(run, pictures, tmp_path, monkeypatch) -> None:
    (pictures / "lost").mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path).name == "lost":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = run("degrade", pictures, "-o", tmp_path / "out", "--task", "rain")
    assert result.code == 1
    assert result.err.startswith(f"failed: {pictures / 'lost'}: cannot read ")
    assert ", 0 failed, 1 unreadable -> " in result.err


def test_inputs_that_are_no_pictures(refuse_degrade, tmp_path) -> None:
    refuse_degrade(source=tmp_path / "missing.png", says="missing.png does not exist")
    (tmp_path / "bad.png").write_bytes(b"hello")
    refuse_degrade(source=tmp_path / "bad.png", says="bad.png is not a PNG")
    (tmp_path / "empty").mkdir()
    refuse_degrade(source=tmp_path / "empty", output=tmp_path / "out", says="empty holds no pictures")


def test_two_pictures_of_one_result(refuse_degrade, pictures, photo, tmp_path) -> None:
    Image.fromarray(photo(8, 8)).save(pictures / "b.png")
    refuse_degrade(
        source=pictures, output=tmp_path / "out",
        says=("b.jpg and ", f"b.png would both be written as {tmp_path / 'out' / 'b.png'}", "rename one of them"),
    )  # fmt: skip


# What is wrong with arguments


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--severity", "1.1"], ("severity 1.1 is outside [0, 1]", "0 for the lightest")),
        (["--severity", "-0.1"], "severity -0.1 is outside [0, 1]"),
        (["--severity", "nan"], "severity nan is outside [0, 1]"),
        (["--severity", "much"], "invalid float value: 'much'"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--task", "hail"], ("degradation 'hail' is unknown", "haze, inpainting, jpeg, low-light, mixed")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(refuse_degrade, flags, says) -> None:
    refuse_degrade(*flags, says=says)


def test_wrong_flags_are_no_failed_pictures(refuse_degrade, pictures, tmp_path) -> None:
    refuse_degrade("--severity", 2, source=pictures, output=tmp_path / "out", says="severity 2.0 is outside [0, 1]")


def test_a_task_must_be_named(refuse, picture, out) -> None:
    refuse("degrade", picture, "-o", out, says="required: --task")


def test_the_help_names_every_task(run) -> None:
    assert all(name in run("degrade", "--help").out for name in degradations.DEGRADATIONS)


# Outputs that cannot be


def test_what_exists_is_neither_replaced_nor_in_the_way(run, pictures, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"mine")
    result = run("degrade", pictures, "-o", tmp_path / "out", "--task", "noise")
    assert result.code == 1
    assert f"failed: {pictures / 'b.jpg'}: {tmp_path / 'out' / 'b.png'} exists; hint: pass --overwrite" in result.err
    assert (tmp_path / "out" / "b.png").read_bytes() == b"mine"
    assert run("degrade", pictures, "-o", tmp_path / "out", "--task", "noise", "--overwrite").code == 0
    assert pixels(tmp_path / "out" / "b.png").shape == (33, 18, 3)


def test_outputs_that_cannot_be(refuse_degrade, picture, pictures, tmp_path, out) -> None:
    refuse_degrade(output=tmp_path / "out.jpg", says=("out.jpg: degraded pictures are PNG", "ends with .png"))
    refuse_degrade(output=tmp_path / "missing" / "out.png", says="its folder does not exist")
    refuse_degrade(output=picture, says="picture.png exists")
    refuse_degrade(output=picture.parent, says="picture.png would be replaced by its own result")
    refuse_degrade(source=pictures, output=pictures, says="a.png would be replaced by its own result")
    refuse_degrade(source=pictures, says=("out.png is the name of one picture", "folder"))
    refuse_degrade(source=pictures, output=picture / "out", says="picture.png is a file")
    out.write_bytes(b"mine")
    refuse_degrade(says=("out.png exists", "--overwrite"))


@pytest.mark.usefixtures("no_space")
def test_a_full_disk(refuse_degrade, out) -> None:
    refuse_degrade(says=("cannot write", "out.png: No space left on device"))


def test_a_bug_is_no_failed_picture(run, pictures, tmp_path, monkeypatch) -> None:
    def degrade(*arguments):
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(degradations.DEGRADATIONS, "noise", degrade)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("degrade", pictures, "-o", tmp_path / "out", "--task", "noise")
