"""One evaluation of the published networks, with random weights: `python -m benchmarks.published`.

Ours on each engine of this machine's CPU against torch eager in float32, torch.compile in bfloat16 (`--compile`) and
what torch.onnx makes of the module on the same engine; interleaved. With `--encoder ViT-B-32` or `ViT-L-14` instead the
conditioner of DA-CLIP's universal network or of that for the wild, as a share of ten evaluations in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import rows
from benchmarks.graph_forms import PlainExport
from mrs.export.architectures.clip import Encoder, EncoderWeights
from mrs.export.architectures.clip.config import COLOURS
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.architectures.unet.module import UNet
from mrs.export.graph_variant import GraphVariant
from mrs.runtime import backends
from mrs.runtime.backends.protocol import F32
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.conditioner import ENGINES, Conditioner
from mrs.runtime.measure import Spread, interleaved, ratios
from mrs.runtime.system import machine

NETWORKS = {
    "IR-SDE": ConditionalUNet(width=64, widths=(64, 128, 256, 512, 1024)),
    "DA-CLIP": ConditionalUNet(
        width=64, widths=(64, 64, 128, 256, 512), middle="transformer", transformers=1, context=512, prompt=True
    ),
}
WILD = ConditionalUNet(
    width=64, widths=(64, 64, 128, 256, 512), middle="transformer", transformers=1, context=768, half=True
)
ENCODERS = {
    "ViT-B-32": (Encoder(width=768, layers=12, patch=32, side=224, length=512, heads=12), NETWORKS["DA-CLIP"]),
    "ViT-L-14": (Encoder(width=1024, layers=24, patch=14, side=224, length=768, heads=16), WILD),
}
EVALUATIONS = 10
EAGER, COMPILED, PLAIN = "torch eager fp32", "torch.compile bf16", "torch.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="height and width, default 256")
    parser.add_argument("--network", choices=NETWORKS, help="one alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile in bfloat16 too, which takes minutes")
    parser.add_argument("--rows", type=Path, help="append the figures to this file")
    parser.add_argument("--encoder", choices=ENCODERS, help="the conditioner with this one alone")
    options = parser.parse_args()
    if options.encoder is not None:
        measure_conditioner(options)
        return
    for name, arch in NETWORKS.items():
        if options.network in (None, name):
            measure(name, arch, options)


def measure(name: str, arch: ConditionalUNet, options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(machine.threads())
    net = arch.module().eval()
    random, size = np.random.default_rng(0), options.size
    mu = random.random((1, 3, size, size), dtype=np.float32)
    x = (mu + 0.2 * random.standard_normal(mu.shape)).astype(np.float32)
    # Features of degradation and picture.
    told = {
        key: random.standard_normal((1, arch.context), dtype=np.float32) for key in ("text", "image") if arch.context
    }
    works: dict[str, Callable[[], object]] = {EAGER: partial(eager, net, x, mu, told)}
    expected = eager(net, x, mu, told).numpy()
    if options.compile:
        works[COMPILED] = compiled(net, x, mu, told)
    errors = {}
    for key, work, output in engines(net, arch, x, mu, told):
        work()
        errors[key] = float(np.abs(output() - expected).max() / np.abs(expected).max())
        works[key] = work
    times = interleaved(works, least=options.rounds)
    figures = {}
    for key in works:
        faster = Spread.of(ratios(times[EAGER], times[key]))
        median = Spread.of(times[key]).median
        figures |= {f"{key} ms": median, f"{key} times faster than eager": faster.median}
        figures |= {f"{key} low": faster.q1, f"{key} high": faster.q3}
        said = f", error {errors[key]:.1e}" if key in errors else ""
        print(
            f"{name:<9}{key:<34}{median:9.1f} ms  {faster.median:6.2f} x eager ({faster.q1:.2f}-{faster.q3:.2f}){said}"
        )
    if options.rows is not None:
        rows.append(options.rows, f"published network {name}", {"size": size, "rounds": options.rounds}, figures)


def measure_conditioner(options: argparse.Namespace) -> None:
    """Print what a conditioner takes for a picture, beside the network's evaluations on the same engine."""
    encoder, arch = ENCODERS[options.encoder]
    torch.manual_seed(0)
    random, size = np.random.default_rng(0), options.size
    net = arch.module().eval()
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    weights = {
        key: torch.from_numpy(np.float32(0.02) * random.standard_normal(shape, np.float32))
        for key, shape in encoder.weight_shapes().items()
    }
    made = arch.conditioner(state, EncoderWeights(encoder, weights, "", Path("random.pt")))
    if made is None:
        raise SystemExit("this network has no conditioner")
    del weights
    # As a restorer makes it: by the first engine for CPUs that there is.
    conditioner = Conditioner(
        made.graph.SerializeToString(), COLOURS, made.side, machine.threads(), made.resize
    )  # fmt: skip
    picture = random.integers(0, 256, (1, size, size, COLOURS), np.uint8)
    engine = next(backends.get(name) for name in ENGINES if backends.get(name).missing() is None)
    graph = arch.graph(state, GraphVariant(*engine.variants[0])).SerializeToString()
    network = engine.compile(
        graph, arch.modulation(net, [37.0]), (1, 6, size, size), "fp32", CompileSettings(machine.threads())
    )
    network.packed[:] = 0.3 * random.standard_normal(network.packed.shape, np.float32)
    network.context[:] = conditioner(picture).reshape(network.context.shape)
    times = interleaved(
        {"conditioner": partial(conditioner, picture), "evaluation": partial(network.evaluate, 0)}, least=options.rounds
    )
    share = Spread.of([100 * one for one in ratios(times["conditioner"], times["evaluation"])])
    once, each = (Spread.of(times[key]).median for key in ("conditioner", "evaluation"))
    print(f"{options.encoder}: conditioner {once:.0f} ms, one evaluation {each:.0f} ms on {engine.name}, "
          f"{share.median / EVALUATIONS:.1f} % of {EVALUATIONS} "
          f"({share.q1 / EVALUATIONS:.1f}-{share.q3 / EVALUATIONS:.1f})")  # fmt: skip
    if options.rows is not None:
        figures = {"conditioner ms": once, "evaluation ms": each, "share percent": share.median / EVALUATIONS}
        rows.append(options.rows, f"conditioner {options.encoder}", {"size": size, "rounds": options.rounds}, figures)


def eager(net: UNet, x: F32, mu: F32, told: dict[str, F32]) -> torch.Tensor:
    """One evaluation as the published code makes it."""
    with torch.inference_mode():
        return net(torch.from_numpy(x), torch.from_numpy(mu), 37.0, *map(torch.from_numpy, told.values()))


def compiled(net: UNet, x: F32, mu: F32, told: dict[str, F32]) -> Callable[[], object]:
    """The same by torch.compile in bfloat16, compiled."""
    fused = torch.compile(net)

    def work() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return eager(fused, x, mu, told)

    work()
    return work


def engines(
    net: UNet, arch: ConditionalUNet, x: F32, mu: F32, told: dict[str, F32]
) -> list[tuple[str, Callable[[], None], Callable[[], F32]]]:
    """For each engine: its name, an evaluation, and what that gave; ours first, then torch.onnx's export."""
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    found: list[tuple[str, Callable[[], None], Callable[[], F32]]] = []
    with torch.inference_mode():
        context = net.context(*map(torch.from_numpy, told.values())).numpy() if told else None
    for backend in backends.available():
        if backend.device != "cpu" or backend.name.startswith("torch"):
            continue
        graph = arch.graph(state, GraphVariant(*backend.variants[0])).SerializeToString()
        for precision in backend.precisions():
            network = backend.compile(
                graph, arch.modulation(net, [37.0]), (1, 6, *x.shape[2:]), precision, CompileSettings(machine.threads())
            )
            network.packed[:] = np.concatenate([x - mu, mu], axis=1)
            if context is not None:
                network.context[:] = context.reshape(network.context.shape)
            found.append(
                (f"{backend.name} {precision}", partial(network.evaluate, 0), partial(getattr, network, "output"))
            )
            plain = PlainExport(net, backend.name, precision, (x, mu), **told)
            found.append(
                (f"{PLAIN} {backend.name} {precision}", partial(plain.evaluate, 0), partial(getattr, plain, "output"))
            )
    return found


if __name__ == "__main__":
    main()
