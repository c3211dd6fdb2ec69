"""`mrs-trt build`: its flags reach the plan, and what is wrong is refused before time is spent."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file

from mrs import Schedule, Solver
from mrs.numerics.intents import INTENTS
from mrs.numerics.solver import RECOMMENDED
from mrs.runtime import backends
from mrs.runtime.backends.onnxruntime import OnnxRuntimeNetwork
from mrs.runtime.plan import read_plan

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow(15)]


@pytest.fixture
def build(run, golden, tmp_path):
    """Build nafnet_tiny with further arguments; the manifest."""

    def call(*arguments: object, checkpoint: object = golden.weights) -> dict:
        path = tmp_path / "made.mrsplan"
        result = run(
            "build",
            checkpoint,
            "-o",
            path,
            "-q",
            "--backend",
            "onnxruntime",
            "--threads",
            1,
            *(() if "--size" in arguments else ("--size", "16x16")),
            *arguments,
        )
        assert (result.code, result.err) == (0, "")
        return read_plan(path).manifest

    return call


# What is built


def test_the_default(run, golden, tmp_path) -> None:
    path = tmp_path / "made.mrsplan"
    result = run("build", golden.weights, "-o", path, "--backend", "onnxruntime", "--size", "16x24", "--threads", 1)
    assert result.code == 0
    manifest = read_plan(path).manifest
    assert manifest["solver"] == RECOMMENDED.to_dict()
    assert manifest["schedule"] == Schedule().to_dict()
    assert manifest["output"] == "noise"
    assert manifest["shape"] == [1, 16, 24]
    assert (manifest["backend"], manifest["precision"]) == ("onnxruntime", "fp32")
    # Progress apart from the result.
    assert "chosen        onnxruntime fp32" in result.out
    assert result.err.startswith(f"read {golden.weights}\n")
    assert result.err.endswith(f"wrote {path}\n")


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (["--steps", 3], {"steps": 3}),
        (["--solver", "ode-3"], {"method": "ode", "order": 3}),
        (["--solver", "sde"], {"method": "sde", "order": 2}),
        (["--solver", "posterior"], {"method": "posterior", "order": 1}),
        (
            ["--prediction", "noise", "--solver", "ode-1"],
            {"method": "ode", "order": 1, "prediction": "noise", "clamp": "none"},
        ),
        (["--spacing", "karras-t"], {"spacing": "karras-t"}),
        (["--spacing", "leading"], {"spacing": "leading"}),
        (["--lambda-min", "-3.5"], {"lambda_min": -3.5}),
        (["--clamp", "unit"], {"clamp": "unit"}),
        (["--clamp", "none"], {"clamp": "none"}),
        (["--last-step", "published"], {"last_step": "published"}),
        (["--last-step", "full"], {"last_step": "full"}),
        (["--denoise-last"], {"denoise_last": True}),
        (["--solver", "dpm++-3", "--clamp", "threshold"], {"method": "dpm++", "order": 3, "clamp": "threshold"}),
        (["--solver", "dpm++"], {"method": "dpm++", "order": 2}),
        (["--solver", "dpm++-2m"], {"method": "dpm++-2m", "order": 2}),
        (["--solver", "unipc-b2-3"], {"method": "unipc-b2", "order": 3}),
        (["--solver", "heun", "--steps", 3], {"method": "heun", "order": 2, "steps": 3}),
        (["--solver", "sa-3", "--stochasticity", 0.5], {"method": "sa", "order": 3, "stochasticity": 0.5}),
        (["--solver", "ghvb-4", "--momentum", 0.2], {"method": "ghvb", "order": 4, "momentum": 0.2}),
        (["--start-time", 42.5], {"start_time": 42.5}),
        (["--noise-scale", 0.25, "--start-noise", 0.9], {"noise_scale": 0.25, "start_noise": 0.9}),
        (["--solver", "sde-1", "--noise-scale", 0], {"method": "sde", "noise_scale": 0.0}),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_flags_of_the_solver_change_the_recommended_one(build, flags, changes) -> None:
    manifest = build(*flags)
    plain = {"noise_scale": 1.0, "start_noise": 1.0} if "--solver" in flags else {}
    assert manifest["solver"] == {**RECOMMENDED.to_dict(), **plain, **changes}
    assert len(manifest["table"]["rows"]) == manifest["solver"]["steps"]
    assert manifest["table"]["clamp"] == manifest["solver"]["clamp"]


def test_naming_a_solver_leaves_the_recommended_noise(build) -> None:
    assert build("--steps", 3)["solver"]["noise_scale"] == RECOMMENDED.noise_scale == 0
    for name in ("ode-2", "posterior"):
        solver = build("--solver", name, "--overwrite")["solver"]
        assert (solver["noise_scale"], solver["start_noise"]) == (1, 1)
    again = build("--solver", "posterior", "--noise-scale", 0.75, "--overwrite")["solver"]
    assert (again["noise_scale"], again["start_noise"]) == (0.75, 1)


@pytest.mark.parametrize("name", INTENTS)
def test_a_quality_is_a_record(build, name) -> None:
    assert build("--quality", name)["solver"] == INTENTS[name].solver.to_dict()
    assert build("--quality", name, "--steps", 2, "--overwrite")["solver"]["steps"] == 2


def test_a_quality_and_a_solver_are_one_too_many(refuse, golden, tmp_path) -> None:
    for flags in (["--solver", "ode-2"], ["--published"]):
        refuse(
            "build", golden.weights, "-o", tmp_path / "a.mrsplan", "--quality", "vivid", *flags,
            says="--quality vivid names a solver of its own",
        )  # fmt: skip


def test_a_noise_prediction_drops_the_clamp_that_nobody_asked_for(build, monkeypatch) -> None:
    monkeypatch.setattr("mrs.numerics.solver.RECOMMENDED", Solver(clamp="unit"))
    assert build()["solver"]["clamp"] == "unit"
    solver = build("--prediction", "noise", "--overwrite")["solver"]
    assert (solver["prediction"], solver["clamp"]) == ("noise", "none")


def test_published_settings(build) -> None:
    assert build("--published")["solver"] == Solver().to_dict()
    assert (
        build("--published", "--solver", "sde-1", "--steps", 4, "--overwrite")["solver"]
        == Solver(method="sde", order=1, steps=4).to_dict()
    )


def test_flags_of_the_schedule(build) -> None:
    flags = ["--schedule", "linear", "--max-sigma", 30, "--eps", 0.01, "--T", 50, "--convention", "ir-sde"]
    assert build(*flags)["schedule"] == Schedule("linear", 30.0, 0.01, 50, "ir-sde").to_dict()


def test_flags_of_the_schedule_change_what_the_checkpoint_says(build, golden, tmp_path) -> None:
    from mrs.export import checkpoint

    own = Schedule("constant", 10.0, 0.02, 80, "ir-sde")
    path = tmp_path / "own.safetensors"
    checkpoint.save(path, checkpoint.read_checkpoint(golden.weights).state, {"schedule": own.to_dict()})
    assert build(checkpoint=path)["schedule"] == own.to_dict()
    twice = ["--max-sigma", 20, "--overwrite", "--override-checkpoint"]
    assert build(*twice, checkpoint=path)["schedule"] == {**own.to_dict(), "max_sigma": 20.0}


@pytest.mark.parametrize("command", ["build", "tune"])
def test_a_contradiction_of_the_checkpoint(refuse, golden, tmp_path, command) -> None:
    from mrs.export import checkpoint

    path = tmp_path / "own.safetensors"
    metadata = {"schedule": Schedule(max_sigma=10.0, convention="ir-sde").to_dict(), "output": "noise"}
    checkpoint.save(path, checkpoint.read_checkpoint(golden.weights).state, metadata)
    output = {"build": ["-o", tmp_path / "new.mrsplan"], "tune": ["-o", tmp_path / "new.json", "--evaluations", 3]}
    for flags, says in (
        (["--max-sigma", 50], "says max_sigma 10.0; given is 50.0"),
        (["--T", 1000], "says T 100; given is 1000"),
        (["--network-output", "data"], "says network output noise; given is data"),
    ):
        refuse(command, path, *output[command], *flags, says=(says, "--override-checkpoint"))


def test_flags_of_the_plan(build) -> None:
    manifest = build(
        "--batch", 2, "--size", "18x21", "--threads", 1, "--network-output", "velocity", "--precision", "fp32"
    )
    # Padded to the network's multiple of 4.
    assert manifest["shape"] == [2, 20, 24]
    assert (manifest["threads"], manifest["output"], manifest["precision"]) == (1, "velocity", "fp32")


def test_further_sizes_have_engines_of_their_own(run, golden, tmp_path, monkeypatch) -> None:
    # The backend that compiles fastest, as if its engines could be kept.
    monkeypatch.setattr(OnnxRuntimeNetwork, "export", lambda network: repr(network.packed.shape).encode())
    path = tmp_path / "made.mrsplan"
    sizes = ["--size", "16x16", "--size", "18x21", "--size", "20x24", "--size", "15x15"]
    flags = ["--backend", "onnxruntime", "--threads", 1, "--steps", 2]
    result = run("build", golden.weights, "-o", path, *sizes, *flags)
    assert result.code == 0, result.err
    # Once each, where they are padded to the same; the first is what was measured.
    assert "compiled for  16x16, batch 1, 1 threads; also 20x24" in result.out
    plan = read_plan(path)
    assert (plan.manifest["shape"], plan.manifest["further_shapes"]) == ([1, 16, 16], [[1, 20, 24]])
    assert plan.engines == {(1, 16, 16): b"(1, 6, 16, 16)", (1, 20, 24): b"(1, 6, 20, 24)"}


def test_an_engine_that_cannot_be_kept_is_compiled_when_first_met(run, golden, tmp_path) -> None:
    path = tmp_path / "made.mrsplan"
    flags = ["--backend", "onnxruntime", "--threads", 1, "--steps", 2]
    result = run("build", golden.weights, "-o", path, "--size", "8x8", "--size", "12x12", *flags)
    assert "onnxruntime has no engines to keep: every size is compiled when it is first met" in result.err
    assert read_plan(path).further == {}


def test_calibration_on_own_pictures(build, pictures) -> None:
    assert build()["selection"]["calibration_pictures"] == 3
    (pictures / "b.jpg").unlink()
    assert build("--calibration", pictures, "--overwrite")["selection"]["calibration_pictures"] == 2


def test_overwriting_when_asked(build, run, tmp_path) -> None:
    (tmp_path / "made.mrsplan").write_bytes(b"old")
    assert build("--overwrite")["format_version"] == 3


def test_the_name_of_shipped_weights(build, golden, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mrs.building.source.WEIGHTS", tmp_path)
    save_file(dict(torch.load(golden.weights)), tmp_path / "drizzle.safetensors")
    assert build(checkpoint="drizzle")["checkpoint"]["name"] == "drizzle.safetensors"


# What is refused


@pytest.mark.parametrize("what", ["checkpoint", "solver"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end(refuse_build, golden, tmp_path, what, kind) -> None:
    path = tmp_path / "endless.json"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    flags = ["--solver", path] if what == "solver" else []
    checkpoint = golden.weights if what == "solver" else path
    refuse_build(*flags, checkpoint=checkpoint, says=f"cannot be read: it is a {kind}")


@pytest.mark.parametrize("size", ["0x5", "abc", "5"])
def test_wrong_size(refuse_build, size) -> None:
    refuse_build("--size", size, says=f"argument --size: {size!r} is not HEIGHTxWIDTH in pixels, such as 256x384")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--solver", "dpm-2"], ("solver 'dpm-2' is unknown", "ode-1, ode-2", "dpm++-3")),
        (["--solver", "sde-3"], ("'sde' has no order 3", "use order 1 or 2")),
        (["--solver", "unipc-2", "--published"], "solver 'unipc-2' is unknown"),
        (["--solver", ""], "solver '' is unknown"),
        (["--backend", "directml"], ("backend 'directml' is unknown", "openvino, onnxruntime")),
        (["--precision", "int4"], ("precision 'int4' is unknown", "auto, fp32, bf16, fp16, int8, fp8")),
        (["--device", "gpu"], ("device 'gpu' is unknown", "auto, cpu, cuda")),
        (["--device", "cuda", "--backend", "openvino"], ("openvino runs on cpu, not on cuda", "--device")),
        (["--precision", "bf16", "--backend", "onnxruntime"], "bf16"),
        (["--spacing", "log"], ("solver spacing 'log' is unknown", "karras-n")),
        (["--prediction", "velocity"], "solver prediction 'velocity' is unknown"),
        (["--prediction", "noise", "--clamp", "unit"], "cannot be clamped"),
        (["--clamp", "255"], ("solver clamp '255' is unknown", "none, unit, threshold")),
        (["--prediction", "noise", "--clamp", "threshold"], ("cannot be clamped", "use prediction='data'")),
        (["--last-step", "first"], ("solver last_step 'first' is unknown", "published, lower-order, full")),
        (["--solver", "dpm++-4"], ("'dpm++' has no order 4", "use order 1 or 2 or 3")),
        (["--solver", "dpm++-2 "], "solver 'dpm++-2 ' is unknown"),
        (["--solver", "heun-3"], ("'heun' has no order 3", "use order 2")),
        (["--solver", "unipc-b1-1"], ("'unipc-b1' has no order 1", "use order 2 or 3")),
        (["--spacing", "custom"], ("custom spacing and times go together", "give both or none")),
        (["--momentum", "0.2"], ("'posterior' takes no momentum", "ghvb takes it")),
        (["--solver", "ghvb"], ("ghvb without momentum is ipndm", "give a momentum such as 0.2")),
        (["--solver", "ghvb", "--momentum", "1"], "momentum 1.0 is not a number from 0 and below 1"),
        (["--solver", "ghvb", "--momentum", "-0.5"], "momentum -0.5 is not"),
        (["--solver", "ghvb", "--momentum", "much"], "argument --momentum: invalid float value: 'much'"),
        (["--solver", "sde", "--stochasticity", "0.5"], ("'sde' takes no stochasticity", "sa and sa-2m take it")),
        (["--solver", "sa", "--stochasticity", "-1"], "stochasticity -1.0 is not a number from 0"),
        (["--solver", "sa", "--stochasticity", "inf"], "stochasticity inf is not a number from 0"),
        (["--solver", "sa", "--stochasticity", "nan"], "stochasticity nan is not a number from 0"),
        (["--noise-scale", "-1"], ("noise_scale -1.0 is not a number from 0 to 2", "1 the noise as derived")),
        (["--start-noise", "nan"], "start_noise nan is not a number from 0 to 2"),
        (["--noise-scale", "some"], "argument --noise-scale: invalid float value: 'some'"),
        (["--solver", "ode-2", "--noise-scale", "0.5"], ("'ode' takes no noise_scale", "posterior")),
        (["--start-time", "0"], "start_time 0.0 is not a time above 0"),
        (["--start-time", "nan"], "start_time nan is not a time above 0"),
        (["--start-time", "100.5"], ("start_time 100.5 is beyond T = 100", "times count forward steps")),
        (["--start-time", "50", "--solver", "euler-ode"], ("times of its own", "or use another method")),
        (["--steps", "0"], "'0' is not a whole number of at least 1"),
        (["--steps", "100", "--spacing", "leading"], ("'leading'", "use fewer steps")),
        (["--lambda-min", "9"], ("lambda_min 9", "leaves no time to start from")),
        (["--lambda-min", "nan"], "lambda_min nan"),
        (["--lambda-min", "low"], "invalid float value: 'low'"),
        (["--network-output", "score"], ("network output 'score' is unknown", "noise, data, velocity")),
        (["--batch", "0"], "'0' is not a whole number of at least 1"),
        (["--size", "99999x99999", "--batch", "999999999"], ("size 99999x99999 at batch 999999999 needs", "GiB")),
        (["--threads", "-1"], "--threads"),
        (["--schedule", "sigmoid"], "invalid choice: 'sigmoid'"),
        (["--max-sigma", "0"], "max_sigma 0.0 is outside [1, 255]"),
        (["--max-sigma", "0.04"], ("max_sigma 0.04 is below 1, which published code", "give 10.2")),
        (["--steps", "999999999"], ("steps 999999999 are more than 2000", "published samplers take 100")),
        (["--T", "999999999"], "T 999999999 is not a whole number from 2"),
        (["--max-sigma", "nan"], "max_sigma nan is outside [1, 255]"),
        (["--eps", "1"], "eps 1.0 is outside (0, 1)"),
        (["--T", "1"], "T 1 is not a whole number from 2"),
        (["--convention", "mine"], "invalid choice: 'mine'"),
        (["--calibration", "no/such/folder"], "calibration folder no/such/folder does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(refuse_build, flags, says) -> None:
    refuse_build(*flags, says=says)


def test_an_empty_calibration_folder(refuse_build, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    refuse_build("--calibration", tmp_path / "empty", says="empty holds no pictures")


def test_a_damaged_calibration_picture(refuse_build, tmp_path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    refuse_build("--calibration", tmp_path / "one", says="broken.png")


def test_outputs_that_cannot_be(refuse_build, tmp_path) -> None:
    (tmp_path / "old.mrsplan").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    for output, says in (
        ("old.mrsplan", ("old.mrsplan exists", "pass --overwrite to replace it")),
        ("missing/new.mrsplan", ("its folder does not exist", "make ")),
        ("folder", "it is a folder"),
        ("old.mrsplan/new.mrsplan", "Not a directory"),
    ):
        refuse_build(output=tmp_path / output, says=says)
    refuse_build("--overwrite", output=tmp_path / "folder", says="it is a folder")


@pytest.fixture
def tuned(tmp_path):
    """The name of a solver's file."""
    path = tmp_path / "tuned.json"
    path.write_text("{}")
    return path


def test_what_is_read_is_not_replaced(refuse, golden, tuned, tmp_path, pictures) -> None:
    """Whatever it is and by whatever name, and before anything is read."""
    net = tmp_path / "net.mrsplan"
    net.write_bytes(golden.weights.read_bytes())
    (tmp_path / "soft.mrsplan").symlink_to(net)
    os.link(net, tmp_path / "hard.mrsplan")
    for name in ("net", "soft", "hard"):
        refuse("build", net, "-o", tmp_path / f"{name}.mrsplan", "--overwrite", says="it would be lost")
    for flag in ("--encoder", "--autoencoder"):
        refuse("build", "rain", "-o", net, "--overwrite", flag, net, says="it would be lost")
    refuse("build", "rain", "-o", tuned, "--overwrite", "--solver", tuned, says="it would be lost")
    picture = pictures / "deep" / "er" / "c.webp"
    refuse("build", "rain", "-o", picture, "--overwrite", "--calibration", pictures, says="it would be lost")
    (tmp_path / "net.onnx").symlink_to(net)
    refuse("export", net, "-o", tmp_path / "net.onnx", "--overwrite", says="it would be lost")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_written_to(refuse, monkeypatch, tmp_path, kind) -> None:
    path = tmp_path / "out"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/full")
    monkeypatch.setattr("mrs.commands.arguments.require", lambda *_: pytest.fail("libraries were asked for"))
    refuse("build", "rain", "-o", path, "--overwrite", says="it is not a regular file")


@pytest.mark.parametrize("flag", ["--encoder", "--autoencoder", "--calibration"])
def test_what_is_not_there_is_told_before_torch_is_loaded(refuse_build, monkeypatch, tmp_path, flag) -> None:
    monkeypatch.setattr("mrs.commands.arguments.require", lambda *_: pytest.fail("libraries were asked for"))
    refuse_build(flag, tmp_path / "missing", says=(f"{flag[2:]}", "missing does not exist"))


def test_a_checkpoint_without_a_name(refuse_build, refuse) -> None:
    refuse_build(checkpoint="", says=("the path of the checkpoint is empty", "name a file"))
    refuse("deploy", "", "-o", "models", says="is empty")


def test_the_output_is_checked_before_anything_is_read(refuse, tmp_path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    refuse("build", "missing.pth", "-o", tmp_path / "old", says="old exists")


@pytest.mark.usefixtures("no_space")
@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk(refuse_build, tmp_path, old) -> None:
    if old:
        (tmp_path / "new.mrsplan").write_bytes(b"old")
    flags = ["--overwrite"] if old else []
    refuse_build(
        "-q", "--backend", "onnxruntime", "--size", "8x8", *flags,
        says=("cannot write", "new.mrsplan: No space left on device", "hint: make room"),
    )  # fmt: skip


def test_without_torch(refuse_build, monkeypatch) -> None:
    monkeypatch.setattr("mrs.commands.arguments.find_spec", lambda name: None if name in ("torch", "onnx") else name)
    refuse_build(says=("torch, onnx not installed", 'hint: pip install "mrs-trt[build]"'))


def test_without_a_backend(refuse_build, monkeypatch) -> None:
    for backend in backends.BACKENDS.values():
        monkeypatch.setattr(type(backend), "missing", lambda self: f"{self.name} is not installed: pip install it")
    refuse_build("-q", says="no backend can run here")
    refuse_build("-q", "--backend", "openvino", says="openvino")


# What other commands make


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--target", "onnx-sampler"], ("--target onnx-sampler is a command", "use mrs-trt export CKPT -o FILE.onnx")),
        (["--target=onnx-sampler"], "use mrs-trt export CKPT -o FILE.onnx"),
        (
            ["--target", "triton-repository", "--name", "rain"],
            ("--target triton-repository is a command", "use mrs-trt deploy PLAN_OR_CKPT -o FOLDER"),
        ),
        (["--target", "plan"], ("build makes plans and takes no --target", "leave it out", "export", "deploy")),
        (["--target", "onnx"], "build makes plans and takes no --target"),
        (["--target"], "build makes plans and takes no --target"),
        (["--name", "rain"], ("--name is for models in a repository", "use mrs-trt deploy PLAN_OR_CKPT -o FOLDER")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_who_asks_for_other_targets_is_told_the_command(refuse_build, refuse, flags, says) -> None:
    refuse_build(*flags, says=says)
    # Even before anything that misses.
    refuse("build", *flags, says=says)


@pytest.mark.parametrize("name", ["new.onnx", "new.ONNX"])
def test_an_onnx_file_is_no_plan(refuse_build, tmp_path, name) -> None:
    refuse_build(
        output=tmp_path / name, says=(f"{name} would be a plan", "use mrs-trt export", "name the plan .mrsplan")
    )
