"""Peak memory of restores by network and engine, beside what plans count: `python -m benchmarks.experiments.memory`.

A new process for each size, random weights, two evaluations. Of two sizes the difference of the peaks, by the
difference of the pixels, is what a pixel takes: weights, libraries and code are in both. The torch backend is measured
on the CPU, without torch.compile, as it computes on a GPU. The answer stands in docs/plan.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import rows
from benchmarks.networks import REFUSION
from benchmarks.published import NETWORKS, WILD
from mrs.export.architectures.latent_unet import Autoencoder, AutoencoderWeights
from mrs.export.architectures.nafnet import NAFNet, NAFNetLatentDehazing
from mrs.export.architectures.protocol import Architecture
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.graph_variant import GraphVariant
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.onnx_graph import parse
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.backends.torch import TorchNetwork
from mrs.runtime.codec import Codec, Coder
from mrs.runtime.conditioner import ENGINES
from mrs.runtime.cpu_chain import CpuChain
from mrs.runtime.system import machine

STEPS = 2
TORCH = "torch-eager"


class Case(NamedTuple):
    """A network, or the autoencoder of a latent pair, and the sides of the square pictures that it is measured on."""

    arch: Architecture | Autoencoder
    sides: tuple[int, ...]


CASES = {
    "NAFNet 16": Case(NAFNet(width=16, enc_blocks=(1, 1, 1), mid_blocks=1, dec_blocks=(1, 1, 1)), (256, 512, 1024)),
    "NAFNet 64": Case(REFUSION, (256, 512)),
    "latent NAFNet 64": Case(
        NAFNetLatentDehazing(width=64, enc_blocks=(1, 1, 1, 28), mid_blocks=1, dec_blocks=(1, 1, 1, 1), channels=8),
        (128, 256),
    ),
    "DA-CLIP 32": Case(
        ConditionalUNet(32, (32, 32, 64, 128, 256), middle="transformer", transformers=1, context=512, prompt=True),
        (256, 512),
    ),
    "DA-CLIP 64": Case(NETWORKS["DA-CLIP"], (256, 512)),
    "DA-CLIP for the wild 64": Case(WILD, (256, 512)),
    "IR-SDE 32": Case(ConditionalUNet(32, (32, 64, 128, 256, 512)), (256, 512)),
    "IR-SDE 64": Case(NETWORKS["IR-SDE"], (256, 512)),
    "denoising 32": Case(ConditionalUNet(32, (32, 64, 128, 256, 512), condition=False, middle="softmax"), (256, 512)),
    "autoencoder for haze": Case(Autoencoder((8, 32, 64, 64, 128), 8), (256, 512)),
    "autoencoder for lenses": Case(Autoencoder((64, 64, 128, 256), 4), (256, 384)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=CASES, action="append", help="this one alone; may be repeated")
    parser.add_argument("--engine", choices=(*ENGINES, TORCH), action="append", help="this one alone")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--sides", type=int, nargs="+", help="of the pictures, instead of each network's own")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    parser.add_argument("--peak", action="store_true", help="restore in this process, and print its peak in bytes")
    options = parser.parse_args()
    names, engines = options.network or list(CASES), options.engine or [*ENGINES, TORCH]
    if options.peak:
        print(peak_of(CASES[names[0]].arch, engines[0], options.precision, options.sides[0]))
        return
    for name, engine in ((name, engine) for name in names for engine in engines):
        case = CASES[name]
        if engine == TORCH and isinstance(case.arch, Autoencoder):
            # No GPU restores latents.
            continue
        sides = tuple(options.sides or case.sides)
        peaks = {side: in_a_process(name, engine, options.precision, side) for side in sides}
        each = max((peaks[large] - peaks[small]) / (large**2 - small**2) for small, large in pairwise(sides))
        counted = counted_on(case.arch, engine)
        print(
            f"{name:<24}{engine:<12}{options.precision:<5}{each:7.0f} bytes per pixel, counted {counted:6d} "
            f"({counted / each:.2f}), {peaks[sides[-1]] / 2**30:.2f} GiB at {sides[-1]} squared",
            flush=True,
        )
        if options.rows is not None:
            about = {"network": name, "engine": engine, "precision": options.precision, "sides": list(sides)}
            figures = {"bytes per pixel": each, "counted": counted, "peak": peaks[sides[-1]]}
            rows.append(options.rows, "memory", about, figures)


def counted_on(arch: Architecture | Autoencoder, engine: str) -> int:
    """What a plan counts for a pixel on an engine, in float32."""
    if isinstance(arch, Autoencoder):
        return arch.bytes_per_pixel
    return max(arch.bytes_per_pixel, arch.bytes_per_pixel_on.get(engine.partition("-")[0], 0))


def in_a_process(name: str, engine: str, precision: str, side: int) -> int:
    """`peak_of`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.experiments.memory", "--peak", "--network", name, "--engine", engine,
               "--precision", precision, "--sides", str(side)]  # fmt: skip
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800).stdout)


def peak_of(arch: Architecture | Autoencoder, engine: str, precision: str, side: int) -> int:
    """Most memory of this process while it restores a picture, compiling left out, in bytes; on Linux."""
    random = np.random.default_rng(0)
    state = {key: weights(random, shape) for key, shape in arch.weight_shapes().items()}
    picture = random.integers(0, 256, (1, side, side, 3), np.uint8)
    if isinstance(arch, Autoencoder):
        return peak_of_pair(arch, state, engine, picture)
    backend = backends.get(engine)
    graph = arch.graph(state, GraphVariant(*backend.variants[0])).SerializeToString()
    del state
    length = {port.name: port.type.tensor_type.shape.dim[1].dim_value for port in parse(graph).graph.input}
    modulation = np.zeros((STEPS, length["modulation"]), np.float32)
    shape, threads = (1, 2 * arch.channels, side, side), machine.threads()
    if engine == TORCH:
        network: Any = TorchNetwork(graph, modulation, shape, precision, "cpu", compiled=False)
        forget_peak()
        for step in range(STEPS):
            network.evaluate(step)
        return peak()
    network = backend.compile(graph, modulation, shape, precision, CompileSettings(threads))
    table = tableau(Schedule(), Solver("ode", 2, steps=STEPS))
    if arch.channels != picture.shape[-1]:
        picture = np.repeat(picture, 4, axis=-1)[..., : arch.channels]
    told = np.zeros((1, length.get("context", 0)), np.float32)
    chain = CpuChain(network, table, threads, (lambda _: told) if told.size else None, arch.padding == "reflect")
    forget_peak()
    chain.restore_into(picture, None, 0)
    return peak()


def peak_of_pair(arch: Autoencoder, state: dict[str, np.ndarray], engine: str, picture: np.ndarray) -> int:
    """`peak_of`, of a latent and the picture of it."""
    made = AutoencoderWeights(arch, {key: torch.from_numpy(value) for key, value in state.items()}, "", Path())
    codec = Codec(*made.graphs(), arch.multiple, arch.scale, arch.latent, 1)
    for other in ENGINES:
        if other != engine:
            # The first that is there is taken.
            backends.BACKENDS.pop(other)
    backends.BACKENDS.setdefault("openvino", backends.get(engine))
    coder = Coder(codec, (1, 3, *picture.shape[1:3]), machine.threads())
    forget_peak()
    coder.decode(coder.encode(picture).copy(), picture.shape[1:3])
    return peak()


def weights(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """So small that nothing grows out of range."""
    return np.float32(0.02) * random.standard_normal(shape, np.float32)


def forget_peak() -> None:
    """Count the peak from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Most memory that this process had, in bytes; on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
