"""How far networks are from what the published code makes of the same weights: `python -m benchmarks.published_errors`.

The largest absolute difference over all outputs that tests/golden/networks holds, in float32: by torch, and by each
engine of this machine's CPU that the graph runs on. The published code itself differs by up to 9e-6 with another
convolution backend; tests allow 5e-5.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mrs.export.architectures import Architecture, load_checkpoint
from mrs.export.graph_variant import GraphVariant
from mrs.kernels.update import reflected
from mrs.runtime import backends
from mrs.runtime.backends.protocol import F32
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.padding import padded_size
from mrs.runtime.system import machine
from tests.golden.networks import FOLDER, golden, weights

OUTPUT = re.compile(r"out_(\d+)_t([\d.]+)")
# Those that take more than a picture, a state and features have tests of their own.
NAMES = (
    "nafnet_plain", "nafnet_denoising", "nafnet_latent_dehazing", "irsde_unet_d2", "irsde_unet_d4", "daclip_unet_full",
    "daclip_unet_degra", "daclip_unet_none", "daclip_unet_wild", "unet_denoising",
)  # fmt: skip


def main() -> None:
    engines = [each for each in backends.available() if each.device == "cpu" and not each.name.startswith("torch")]
    print(f"{'network':<26}" + "".join(f"{name:>14}" for name in ("torch", *(each.name for each in engines))))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name in NAMES:
            found = dict.fromkeys(["torch", *(each.name for each in engines)], 0.0)
            for by, error in errors(name, Path(folder), engines):
                found[by] = max(found[by], error)
            print(f"{name:<26}" + "".join(f"{error:14.1e}" for error in found.values()))


def errors(name: str, folder: Path, engines: list[backends.Backend]) -> Iterator[tuple[str, float]]:
    """By what, and how far from one published output."""
    file = next(path.name.removesuffix(".gz") for path in FOLDER.glob(f"{name}.pth*"))
    net, arrays = load_checkpoint(weights(file, folder)), golden(name)
    arch: Architecture = net.arch
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    for key, expected in arrays.items():
        match = OUTPUT.fullmatch(key)
        if match is None:
            continue
        index, time = match[1], float(match[2])
        x = arrays[f"xt_{index}"]
        mu = arrays[f"cond_{index}"] if arch.condition else np.zeros_like(x)
        told = {
            kind: torch.tensor(arrays[f"{kind}_{index}"]) for kind in ("text_context", "image_context")
            if f"{kind}_{index}" in arrays and arch.context
        } if hasattr(arch, "context") else {}  # fmt: skip
        given = map(torch.tensor, (x, mu) if arch.condition else (x,))
        yield "torch", _distance(net(*given, time, **told).numpy(), expected)
        context = net.context(**told).numpy() if told else None
        for engine in engines:
            graph = arch.graph(state, GraphVariant(*engine.variants[0])).SerializeToString()
            packed = _padded(np.concatenate([x - mu, mu], axis=1), arch)
            network = engine.compile(
                graph, arch.modulation(net, [time]), packed.shape, "fp32", CompileSettings(machine.threads())
            )
            network.packed[:] = packed
            if context is not None:
                network.context[:] = context.reshape(network.context.shape)
            network.evaluate(0)
            yield engine.name, _distance(network.output[..., : x.shape[2], : x.shape[3]], expected)


def _padded(packed: F32, arch: Architecture) -> F32:
    height, width = packed.shape[2:]
    sides = padded_size(height, width, arch.multiple)
    if arch.padding == "reflect":
        rows, columns = reflected(height, sides[0]), reflected(width, sides[1])
        return np.ascontiguousarray(packed[:, :, rows][..., columns])
    return np.pad(packed, [(0, 0), (0, 0), (0, sides[0] - height), (0, sides[1] - width)])


def _distance(found: F32, expected: F32) -> float:
    return float(np.abs(found - expected).max())


if __name__ == "__main__":
    main()
