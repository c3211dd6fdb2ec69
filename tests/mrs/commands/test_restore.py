"""`mrs-trt restore`: one picture, options, the bar, and what is kept of a picture."""

from __future__ import annotations

import io
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

import mrs
from mrs.runtime import backends
from tests.runtime.pictures.picture_files import pixels

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
