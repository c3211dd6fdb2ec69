"""`python -m mrs.demo`: rain on a photograph, and its restoration with the weights that ship, with figures."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mrs
from mrs import cli, degradations
from mrs.commands import arguments
from mrs.demo.montage import montage
from mrs.kernels.terminal import emit, note
from mrs.numerics.solver import RECOMMENDED
from mrs.runtime import backends
from mrs.runtime.errors import InputError, MrsError
from mrs.runtime.manifest import JsonObject
from mrs.runtime.measure import Spread, interleaved
from mrs.runtime.pictures.writing import write_picture
from mrs.runtime.plan import read_plan
from mrs.runtime.psnr import psnr
from mrs.runtime.system import machine

WEIGHTS = Path(__file__).parents[1] / "weights"
# Rain in the middle of what the weights were trained on (22 of 18 to 26 dB).
RAIN_SEED = 25
RUNS = 5
# Upper left corner of the detail: the face.
DETAIL = (48, 160)

U8 = NDArray[np.uint8]


def main(given: list[str] | None = None) -> int:
    """Run the demonstration; returns the exit code."""
    parser = cli.Parser(prog="python -m mrs.demo", description="Degrade a photograph with rain and restore it.")
    parser.add_argument("--output", type=Path, default=Path("demo"), metavar="FOLDER", help="default demo")
    parser.add_argument("--weights", default="rain", metavar="CKPT", help="instead of those that ship")

    def run() -> int:
        options = parser.parse_args(given)
        return demonstrate(options.output, options.weights)

    return cli.guarded(run)


def demonstrate(folder: Path, weights: str) -> int:
    """Write the plan and the pictures into `folder`, print the figures."""
    arguments.require("demo", "skimage")
    truth, degraded = photographs()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {folder}: {error.strerror}", hint="name another with --output") from None
    plan = folder / "rain.mrsplan"
    height, width = truth.shape[:2]
    story = up_to_date(plan, weights, (height, width), log=note)
    with mrs.load(plan) as restorer:
        begin = time.perf_counter()
        restored = restorer.restore(degraded)
        first = time.perf_counter() - begin
        out = np.empty_like(restored)
        times = interleaved({"restore": lambda: restorer.restore_into(degraded, out)}, least=RUNS)["restore"]
        engine, threads = f"{restorer.backend} {restorer.precision}", restorer.threads
    before, after = psnr(degraded, truth), psnr(restored, truth)
    pictures = {"degraded": degraded, "restored": restored, "truth": truth}
    for name, picture in pictures.items():
        write_picture(folder / f"{name}.png", picture, overwrite=True)
    labels = (f"degraded, {before:.2f} dB", f"restored, {after:.2f} dB", "truth")
    sheet = montage(list(zip(labels, pictures.values(), strict=True)), DETAIL)
    write_picture(folder / "before-after.png", sheet, overwrite=True)
    command = _command()
    for label, text in (
        ("machine", f"{machine.processor()}, {threads} threads"),
        ("engine", f"{engine}, the fastest of those measured that pass the parity rule"),
        ("picture", f"{height}x{width}, astronaut of scikit-image with synthetic rain, seed {RAIN_SEED}"),
        ("solver", f"{RECOMMENDED.name}, {RECOMMENDED.steps} network evaluations"),
        ("latency", f"{Spread.of(times).median:.1f} ms, median of {RUNS} ({min(times):.1f}-{max(times):.1f}); "
                    f"the first took {1e3 * first:.0f} ms"),
        ("PSNR", f"degraded {before:.2f} dB, restored {after:.2f} dB ({after - before:+.2f})"),
        ("plan", f"{plan}, {story}"),
        ("pictures", f"{folder / 'before-after.png'}, and each alone beside it"),
        ("by hand", f"{command} build {weights} -o rain.mrsplan --size {height}x{width}"),
        ("", f"{command} restore {plan} {folder / 'degraded.png'} -o clean.png"),
    ):  # fmt: skip
        emit(f"{label:<9} {text}")
    return 0


def photographs() -> tuple[U8, U8]:
    """Truth and degraded picture, (512, 512, 3); the same ones each time."""
    from skimage import data

    truth = np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    degraded = degradations.get("rain")(truth.astype(np.float32) / np.float32(255), np.random.default_rng(RAIN_SEED))
    return truth, np.rint(degraded * 255).astype(np.uint8)


def up_to_date(plan: Path, weights: str, size: tuple[int, int], log: Callable[[str], None]) -> str:
    """Build the plan unless it fits weights, solver, program and machine; says which, and why."""
    reason = _outdated(plan, weights, size)
    if reason is None:
        return "reused"
    arguments.require("demo", "torch", "onnx", "safetensors")
    log(f"building {plan}: {reason}")
    begin = time.perf_counter()
    mrs.build(weights, plan, size=size, overwrite=True, report=log)
    return f"built in {time.perf_counter() - begin:.0f} s: {reason}"


def _outdated(plan: Path, weights: str, size: tuple[int, int]) -> str | None:
    """Why a plan cannot be reused; None where it can."""
    if not os.path.lexists(plan):
        return "there was none"
    try:
        manifest = read_plan(plan).manifest
        backend = backends.get(manifest["backend"])
    except MrsError as error:
        return f"the old one is of no use: {error.message}"
    path = Path(weights) if os.path.exists(weights) else WEIGHTS / f"{weights}.safetensors"
    made_from: JsonObject = manifest["checkpoint"] if isinstance(manifest.get("checkpoint"), dict) else {}
    for what, old, new in (
        ("other weights", made_from.get("sha256"), _sha256(path)),
        ("another solver", manifest.get("solver"), RECOMMENDED.to_dict()),
        ("another version", manifest.get("made_by"), f"mrs-trt {mrs.__version__}"),
        ("another size", manifest["shape"], [1, *size]),
        ("another number of threads", manifest.get("threads"), machine.threads()),
        (
            "another machine",
            manifest["fingerprint"],
            machine.fingerprint(backend.name, backend.version(), backend.device),
        ),
    ):
        if old != new:
            return f"the old one is for {what}"
    return None


def _sha256(path: Path) -> str | None:
    """Of a file; None where there is none, for the build to complain about."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _command() -> str:
    """How to call `mrs-trt`: by its path where the environment of this Python is not the shell's."""
    beside = Path(sys.executable).parent / "mrs-trt"
    if shutil.which("mrs-trt") or not beside.exists():
        return "mrs-trt"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
