"""`mrs-trt train`: its flags reach the recipe; and from clean pictures to a restored one with three commands."""

from __future__ import annotations

import re

import numpy as np
import pytest

import mrs
import mrs.presets
from mrs.export.architectures.nafnet import NAFNet, NAFNetDenoising
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.checkpoint import read_checkpoint
from mrs.runtime.pictures.writing import read_picture
from mrs.training.train import Recipe

TINY = ("--width", 4, "--enc", "1,1", "--dec", "1,1", "--patch", 8, "--batch", 2, "--iterations", 2, "--no-bf16")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


@pytest.fixture
def recipe(run, pictures, out, monkeypatch):
    """The recipe that `train` starts with for these flags, and what else it is given."""

    def call(*flags: object) -> tuple[Recipe, dict]:
        seen = []
        monkeypatch.setattr("mrs.training.train.train", lambda *arguments, **options: seen.append((arguments, options)))
        assert run("train", pictures, "-o", out, *flags).code == 0
        ((folder, output, made), options) = seen[0]
        assert (folder, output) == (pictures, out)
        del options["report"]
        return made, options

    return call


@pytest.mark.usefixtures("quick")
def test_from_clean_pictures_to_a_restored_one(run, pictures, picture, tmp_path, out) -> None:
    trained = run("train", pictures, "-o", out, *TINY, "--seed", 3)
    assert (trained.code, trained.out) == (0, "")
    progress, wrote = trained.err.splitlines()
    assert re.fullmatch(r"2/2  loss \d\.\d{6}  rate \d\.\d\de-\d\d  \d+ s", progress)
    assert wrote == f"wrote {out}"
    assert {path.name for path in tmp_path.glob("out*")} == {"out.safetensors", "out.safetensors.state"}

    built = run(
        "build",
        out,
        "-o",
        tmp_path / "out.mrsplan",
        "-q",
        "--size",
        "24x28",
        "--backend",
        "onnxruntime",
        "--threads",
        1,
    )
    assert built.code == 0
    # What training wrote down is what the plan is built for.
    assert "width 4, blocks 1,1 / 1 / 1,1" in built.out
    assert "schedule      cosine, max_sigma 10, eps 0.005, T 100, convention ir-sde" in built.out

    assert run("restore", tmp_path / "out.mrsplan", picture, "-o", tmp_path / "new.png", "-q").code == 0
    restored = read_picture(tmp_path / "new.png").rgb
    with mrs.load(tmp_path / "out.mrsplan", threads=1) as restorer:
        assert np.array_equal(restored, restorer.restore(read_picture(picture).rgb))


@pytest.mark.usefixtures("one_thread")
def test_a_finished_run_can_be_resumed_and_replaced(run, refuse, pictures, out) -> None:
    assert run("train", pictures, "-o", out, *TINY).code == 0
    first = out.read_bytes()
    refuse("train", pictures, "-o", out, *TINY, says=("out.safetensors exists", "--resume to go on, or --overwrite"))
    out.write_bytes(b"lost")
    assert run("train", pictures, "-o", out, *TINY, "--resume").code == 0
    assert out.read_bytes() == first
    assert run("train", pictures, "-o", out, *TINY, "--overwrite", "--seed", 1).code == 0
    assert out.read_bytes() != first
    refuse("train", pictures, "-o", out, *TINY, "--resume", says=("state of another recipe", "same options as before"))


def test_the_defaults_are_the_recipes_own(recipe) -> None:
    assert recipe() == (Recipe(), {"resume": False, "overwrite": False, "device": "cpu"})


def test_flags_reach_the_recipe(recipe, out) -> None:
    out.with_name(f"{out.name}.state").write_bytes(b"a state")
    made, options = recipe(
        "--iterations", 7, "--batch", 3, "--patch", 16, "--learning-rate", 0.001, "--ema", 0.9, "--seed", 5,
        "--no-bf16", "--compile", "--device", "cuda", "--width", 6, "--enc", "1,2", "--mid", 3, "--dec", "4,5",
        "--max-sigma", 30, "--schedule", "linear", "--eps", 0.01, "--T", 40, "--convention", "mr-sampler", "--resume",
        "--save-every", 50, "--predict", "velocity", "--degradation", "mixed",
    )  # fmt: skip
    assert made == Recipe(
        arch=NAFNet(6, (1, 2), 3, (4, 5)),
        schedule=mrs.Schedule("linear", 30.0, 0.01, 40, "mr-sampler"),
        output="velocity", degradation="mixed",
        iterations=7, batch=3, patch=16, learning_rate=0.001, ema=0.9, bf16=False, compile=True, seed=5,
    )  # fmt: skip
    assert options == {"resume": True, "overwrite": True, "device": "cuda", "save_every": 50}


def test_a_unet_is_said_by_width_and_depth(recipe) -> None:
    assert recipe("--network", "unet")[0] == Recipe(arch=ConditionalUNet(16, (16, 32, 64, 128)))
    assert recipe("--network", "unet", "--width", 8, "--depth", 1)[0].arch == ConditionalUNet(8, (8, 16))


@pytest.mark.parametrize(
    ("network", "arch"),
    [
        ("nafnet", NAFNetDenoising(16, (1, 1, 1, 4), 1, (1, 1, 1, 1))),
        ("unet", ConditionalUNet(16, (16, 32, 64, 128), condition=False)),
    ],
)
def test_the_denoising_process_has_its_own_network_and_settings(recipe, network: str, arch: object) -> None:
    made, _ = recipe("--network", network, "--process", "denoising")
    assert (made.arch, made.degradation) == (arch, "noise")
    assert made.schedule == mrs.presets.get("irsde-denoise").schedule
    made, _ = recipe("--network", network, "--process", "denoising", "--max-sigma", 70, "--T", 1000)
    assert made.schedule == mrs.presets.get("refusion-denoise").schedule


def test_losses_by_task_are_a_line(run, pictures, out, monkeypatch) -> None:
    def train(*arguments, report, **options) -> None:
        report({"iteration": 1000, "loss": 0.5, "rate": 1e-3, "tasks": {"haze": 0.25, "noise": 0.125}})

    monkeypatch.setattr("mrs.training.train.train", train)
    lines = run("train", pictures, "-o", out, *TINY, "--degradation", "mixed").err.splitlines()
    assert lines[0].startswith("1000/2  loss 0.500000  rate ")
    assert lines[1:] == ["loss by task  haze 0.250000  noise 0.125000", f"wrote {out}"]


def test_saving_more_often(run, pictures, out, monkeypatch) -> None:
    """What a killed run leaves is never older than so many iterations."""
    saved = []
    monkeypatch.setattr("mrs.training.train._save", lambda *arguments: saved.append(arguments[3]))
    assert run("train", pictures, "-o", out, *TINY, "--iterations", 5, "--save-every", 2).code == 0
    assert saved == [2, 4, 5]


# What is refused


@pytest.fixture
def refuse_train(refuse, pictures, out):
    def call(*arguments: object, says: object, folder=pictures, output=out) -> str:
        return refuse("train", folder, "-o", output, *TINY, *arguments, says=says)

    return call


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--enc", "1,1,1"], ("--enc has 3 levels, --dec 2", "give equally many")),
        (["--dec", "1"], "--enc has 2 levels, --dec 1"),
        (["--enc", "1;1"], "'1;1' is not a list of numbers such as 1,1,1,4"),
        (["--width", "3"], "width 3 is not an even number of at least 4"),
        (["--width", "0"], "'0' is not a whole number of at least 1"),
        (
            ["--width", "999999998"],
            ("a network of width 999999998, blocks", "GiB of memory", "use a smaller or shallower"),
        ),
        (["--batch", "999999999"], ("at batch 999999999 of 8 needs", "GiB of memory")),
        (["--mid", "1000"], ("up to 1000 blocks each is too large", "at most 9 levels and 999 blocks")),
        (["--enc", ",".join("1" * 10), "--dec", ",".join("1" * 10)], "a network of 10 levels"),
        (["--patch", "10"], ("patch 10 is not a multiple of 4", "halves it once per level")),
        (["--patch", "40"], "no picture of at least 40x40 pixels"),
        (["--degradation", "frogs"], ("degradation 'frogs' is unknown", "rain")),
        (["--predict", "data"], "invalid choice: 'data'"),
        (["--save-every", "0"], "'0' is not a whole number of at least 1"),
        (["--learning-rate", "0"], "learning rate 0.0 is outside (0, 1)"),
        (["--learning-rate", "nan"], "learning rate nan is outside (0, 1)"),
        (["--learning-rate", "fast"], "invalid float value: 'fast'"),
        (["--ema", "1"], "ema 1.0 is outside [0, 1)"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--device", "tpu9"], ("device 'tpu9' is not there", "use cpu")),
        (["--max-sigma", "-1"], "max_sigma -1.0 is outside [1, 255]"),
        (["--resume"], ("no state to resume from", "without --resume")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(refuse_train, flags, says) -> None:
    refuse_train(*flags, says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--depth", "2"], ("--depth: a nafnet has no such size", "give --width, --enc, --mid, --dec")),
        (["--network", "unet", "--enc", "1,1"], ("--enc: a unet has no such size", "give --width, --depth")),
        (["--network", "unet", "--enc", "1", "--dec", "1"], "--enc, --dec: a unet has no such size"),
        (["--network", "unet", "--depth", "10"], "--depth 10 is more than 9"),
        (["--network", "unet", "--width", "5"], "width 5 is not an even number"),
        (["--network", "unet", "--patch", "12"], "patch 12 is not a multiple of 8"),
        (["--network", "unet", "--width", "60000", "--depth", "1"], "not of 1 to 65536"),
        (["--network", "unet", "--width", "32000", "--depth", "1"], ("width 32000, levels", "GiB of memory")),
        (["--network", "vit"], "invalid choice: 'vit'"),
        (["--process", "denoising", "--predict", "velocity"], "denoising process has no velocity"),
        (["--process", "denoising", "--degradation", "rain"], "denoising process has no rain"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sizes_and_tasks_of_another_network(refuse, pictures, out, flags, says) -> None:
    refuse("train", pictures, "-o", out, "--patch", 8, *flags, says=says)


def test_folders_without_pictures(refuse_train, picture, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    refuse_train(folder=tmp_path / "empty", says="holds no picture")
    refuse_train(folder=tmp_path / "missing", says=("missing does not exist", "clean pictures"))
    refuse_train(folder=picture, says="picture.png")
    refuse_train(folder="n" * 300, says="n")


def test_a_state_that_is_not_there_is_told_before_torch_is_loaded(refuse_train, monkeypatch) -> None:
    monkeypatch.setattr("mrs.commands.arguments.require", lambda *_: pytest.fail("libraries were asked for"))
    refuse_train("--resume", says=("no state to resume from", "without --resume"))


def test_a_picture_is_not_replaced_by_weights(refuse_train, pictures) -> None:
    link = pictures / "link.safetensors"
    link.symlink_to(pictures / "a.png")
    refuse_train("--overwrite", output=link, says="it would be lost")


def test_a_damaged_picture_is_named(refuse_train, pictures) -> None:
    (pictures / "bad.png").write_bytes((pictures / "a.png").read_bytes()[:100])
    refuse_train(says="bad.png")


def test_outputs_that_cannot_be(refuse_train, picture, tmp_path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    refuse_train(output=tmp_path / "out.pth", says="out.pth is not a .safetensors file")
    refuse_train(output=tmp_path / "missing" / "out.safetensors", says="its folder does not exist")
    refuse_train(output=tmp_path / "folder.safetensors", says="it is a folder")
    refuse_train(output=picture / "out.safetensors", says="cannot write")


@pytest.mark.parametrize("state", [b"", b"damaged", b"\x80\x04N."])
def test_a_damaged_state(refuse_train, out, state) -> None:
    (out.parent / f"{out.name}.state").write_bytes(state)
    refuse_train("--resume", says=("is not a readable training state", "start without --resume"))


@pytest.mark.usefixtures("no_space", "one_thread")
def test_a_full_disk(run, pictures, out) -> None:
    result = run("train", pictures, "-o", out, *TINY)
    assert result.code == 2
    progress, error = result.err.splitlines()
    assert progress.startswith("2/2 ")
    assert error.startswith(f"error: cannot write {out}: No space left on device")
    assert list(out.parent.glob("*out*")) == []


def test_without_torch(refuse_train, monkeypatch) -> None:
    monkeypatch.setattr("mrs.commands.arguments.find_spec", lambda name: None if name == "torch" else name)
    refuse_train(says=("torch not installed", 'hint: pip install "mrs-trt[train]"'))


@pytest.mark.usefixtures("one_thread")
def test_weights_say_how_they_were_made(run, pictures, out) -> None:
    assert run("train", pictures, "-o", out, *TINY, "--seed", 3).code == 0
    metadata = read_checkpoint(out).metadata
    assert metadata["iterations"] == 2
    assert metadata["recipe"]["degradation"] == "rain"
    assert metadata["recipe"]["seed"] == 3
