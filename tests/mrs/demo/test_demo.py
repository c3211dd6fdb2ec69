"""The demonstration: what it writes and says is true, and a second run is quick."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mrs
from mrs import cli
from mrs.demo import demonstration as demo
from mrs.runtime import backends
from mrs.runtime.pictures.writing import read_picture
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.psnr import psnr
from mrs.runtime.system import machine

pytestmark = pytest.mark.slow(4)


@pytest.fixture(autouse=True)
def small(quick, monkeypatch, photo) -> None:
    """A small picture, the quickest backend to compile for, and one thread."""
    truth = photo(64, 64)
    monkeypatch.setattr(demo, "photographs", lambda: (truth, truth // 2))
    monkeypatch.setattr(demo, "DETAIL", (16, 16))
    monkeypatch.setattr(backends.OpenVino, "missing", lambda self: "openvino is switched off")
    monkeypatch.setattr(machine, "threads", lambda: 1)


@pytest.fixture
def show(golden, tmp_path, capsys):
    """Run it with nafnet_tiny; the printed lines by their label."""

    def call(*arguments: str) -> dict[str, str]:
        code = demo.main(["--output", str(tmp_path / "demo"), "--weights", str(golden.weights), *arguments])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        lines = [
            line.split(maxsplit=1) if line[0] != " " else ["then", line.strip()] for line in captured.out.splitlines()
        ]
        return {"progress": captured.err, **dict(lines)}

    return call


def test_what_it_writes_and_says(show, tmp_path) -> None:
    said = show()
    folder = tmp_path / "demo"
    names = {"before-after.png", "degraded.png", "rain.mrsplan", "restored.png", "truth.png"}
    assert {path.name for path in folder.iterdir()} == names
    truth, degraded, restored = (read_picture(folder / f"{name}.png").rgb for name in ("truth", "degraded", "restored"))
    assert np.array_equal(degraded, truth // 2)
    with mrs.load(folder / "rain.mrsplan") as restorer:
        assert np.array_equal(restored, restorer.restore(degraded))
        assert restorer.plan.manifest["shape"] == [1, 64, 64]
        assert said["engine"].startswith("onnxruntime fp32, ")
    before, after = psnr(degraded, truth), psnr(restored, truth)
    assert said["PSNR"] == f"degraded {before:.2f} dB, restored {after:.2f} dB ({after - before:+.2f})"
    assert said["machine"] == f"{machine.processor()}, 1 threads"
    assert said["picture"].startswith("64x64, ")
    assert said["solver"] == f"{demo.RECOMMENDED.name}, {demo.RECOMMENDED.steps} network evaluations"
    number = r"\d+\.\d"
    assert re.fullmatch(rf"{number} ms, median of 5 \({number}-{number}\); the first took \d+ ms", said["latency"])
    assert re.fullmatch(rf"{re.escape(str(folder / 'rain.mrsplan'))}, built in \d+ s: there was none", said["plan"])
    assert said["progress"].endswith(f"wrote {folder / 'rain.mrsplan'}\n")


def test_the_commands_it_names_do_the_same(show, golden, tmp_path) -> None:
    said = show()
    program, *build = shlex.split(said["by"].removeprefix("hand "))
    assert program.endswith("mrs-trt")
    options = cli.parser().parse_args(build)
    assert (options.checkpoint, options.size) == (str(golden.weights), [(64, 64)])
    program, *restore = shlex.split(said["then"])
    restore[-1] = str(tmp_path / "clean.png")
    assert cli.main(restore) == 0
    assert np.array_equal(
        read_picture(tmp_path / "clean.png").rgb, read_picture(tmp_path / "demo" / "restored.png").rgb
    )


def test_the_second_run_reuses_the_plan_and_rewrites_the_pictures(show, tmp_path, monkeypatch) -> None:
    show()
    plan = tmp_path / "demo" / "rain.mrsplan"
    before = plan.stat()
    for picture in plan.parent.glob("*.png"):
        picture.write_bytes(b"stale")
    monkeypatch.setattr("mrs.building.build.autotune", lambda *arguments: pytest.fail("built again"))
    said = show()
    assert said["plan"] == f"{plan}, reused"
    assert said["progress"] == ""
    assert plan.stat() == before
    assert read_picture(plan.parent / "before-after.png").rgb.shape[1] > 3 * 64
    assert read_picture(plan.parent / "restored.png").rgb.shape == (64, 64, 3)


def rewrite(path: Path, **changes: object) -> None:
    """Change fields of a plan's manifest."""
    made = read_plan(path)
    manifest = {
        key: value for key, value in made.manifest.items() if key not in ("format", "format_version", "members")
    }
    Plan({**json.loads(json.dumps(manifest)), **changes}, made.graph, made.modulation, made.engine).save(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda path: rewrite(path, checkpoint={"name": "rain", "sha256": "0" * 64}),
            "the old one is for other weights",
        ),
        (lambda path: rewrite(path, solver=mrs.Solver(steps=77).to_dict()), "the old one is for another solver"),
        (lambda path: rewrite(path, made_by="mrs-trt 0.0.1"), "the old one is for another version"),
        (lambda path: rewrite(path, shape=[1, 128, 64]), "the old one is for another size"),
        (lambda path: rewrite(path, threads=64), "the old one is for another number of threads"),
        (lambda path: rewrite(path, fingerprint={"machine": "abacus"}), "the old one is for another machine"),
        (lambda path: rewrite(path, backend="abacus"), "the old one is of no use: backend 'abacus' is unknown"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "the old one is of no use: "),
        (lambda path: path.unlink(), "there was none"),
    ],
    ids=["weights", "solver", "version", "size", "threads", "machine", "backend", "damaged", "gone"],
)
def test_a_plan_that_does_not_fit_is_built_again(golden, plan, tmp_path, monkeypatch, spoil, reason) -> None:
    path = tmp_path / "rain.mrsplan"
    path.write_bytes(plan.read_bytes())
    monkeypatch.setattr(demo, "RECOMMENDED", replace(mrs.Solver(), **read_plan(plan).manifest["solver"]))
    built = []
    monkeypatch.setattr(mrs, "build", lambda weights, path, **options: built.append(options["size"]))
    said: list[str] = []
    assert demo.up_to_date(path, str(golden.weights), (32, 32), said.append) == "reused"
    assert (built, said) == ([], [])
    spoil(path)
    story = demo.up_to_date(path, str(golden.weights), (32, 32), said.append)
    assert built == [(32, 32)]
    assert story.startswith(f"built in 0 s: {reason}")
    assert said[0].startswith(f"building {path}: {reason}")


def test_the_name_of_shipped_weights_is_compared_too(golden, plan, tmp_path, monkeypatch) -> None:
    (tmp_path / "drizzle.safetensors").write_bytes(golden.weights.read_bytes())
    monkeypatch.setattr(demo, "WEIGHTS", tmp_path)
    monkeypatch.setattr(demo, "RECOMMENDED", replace(mrs.Solver(), **read_plan(plan).manifest["solver"]))
    assert demo.up_to_date(plan, "drizzle", (32, 32), pytest.fail) == "reused"


# What is refused


@pytest.fixture
def refuse_demo(capsys, tmp_path):
    def call(*arguments: object, says: str) -> None:
        assert demo.main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        error = captured.err.splitlines()[-1]
        assert error.startswith("error: ")
        assert says in error
        assert not list(tmp_path.rglob("*.png"))

    return call


def test_without_scikit_image(refuse_demo, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mrs.commands.arguments.find_spec", lambda name: None if name == "skimage" else name)
    refuse_demo("--output", tmp_path / "demo", says='skimage not installed; hint: pip install "mrs-trt[demo]"')
    assert not (tmp_path / "demo").exists()


def test_without_torch_when_there_is_something_to_build(refuse_demo, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mrs.commands.arguments.find_spec", lambda name: None if name == "torch" else name)
    refuse_demo("--output", tmp_path / "demo", says='torch not installed; hint: pip install "mrs-trt[demo]"')


def test_a_folder_that_cannot_be_made(refuse_demo, tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        refuse_demo("--output", folder, says=f"cannot make folder {folder}: ")


def test_weights_that_are_not_there(refuse_demo, tmp_path) -> None:
    missing = tmp_path / "missing.safetensors"
    refuse_demo("--output", tmp_path / "demo", "--weights", missing, says=f"checkpoint {missing} does not exist")


@pytest.mark.usefixtures("no_space")
def test_a_full_disk(refuse_demo, golden, tmp_path) -> None:
    refuse_demo("--output", tmp_path / "demo", "--weights", golden.weights, says="No space left on device")
    assert list((tmp_path / "demo").iterdir()) == []


def test_arguments_that_are_not_understood(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--outputs", "x"])
    assert capsys.readouterr().err == "error: unrecognized arguments: --outputs x; hint: python -m mrs.demo --help\n"


def test_how_the_command_is_called(monkeypatch, tmp_path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "mrs-trt").write_text("")
    monkeypatch.setattr(demo.sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(demo.shutil, "which", lambda name: "/usr/bin/mrs-trt")
    assert demo._command() == "mrs-trt"
    monkeypatch.setattr(demo.shutil, "which", lambda name: None)
    assert demo._command() == str(tmp_path / ".venv" / "bin" / "mrs-trt")
    monkeypatch.chdir(tmp_path)
    assert demo._command() == ".venv/bin/mrs-trt"


class TestPhotographs:
    @pytest.fixture(autouse=True)
    def small(self) -> None:
        """The real ones."""

    def test_rain_in_the_middle_of_the_training_range_the_same_each_time(self) -> None:
        truth, degraded = demo.photographs()
        assert truth.shape == degraded.shape == (512, 512, 3)
        assert truth.dtype == degraded.dtype == np.uint8
        assert 21 < psnr(degraded, truth) < 23
        assert np.array_equal(demo.photographs()[1], degraded)
