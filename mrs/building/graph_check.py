"""Every graph on every engine, held to the torch network that it was written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from mrs.building.source import Source
from mrs.export.architectures.latent_unet import AutoencoderWeights
from mrs.export.autotune.workload import Pair, Target
from mrs.export.graph_variant import GraphVariant, distinct
from mrs.kernels.update import Pixels, mirror
from mrs.runtime import backends
from mrs.runtime.backends import Backend, Network
from mrs.runtime.backends.protocol import F32, GraphCompiler
from mrs.runtime.chain import device_of
from mrs.runtime.codec import Codec
from mrs.runtime.errors import BackendError, CheckpointError
from mrs.runtime.padding import padded_size

# Largest error of a float32 engine beside torch, relative to the largest output: far above round-off, far below
# what a wrong graph would give.
TOLERANCE = 1e-3


def check_graphs(source: Source, graphs: Mapping[GraphVariant, bytes], pair: Pair, target: Target) -> None:
    """Compare one float32 evaluation of every engine, in every form that it may run, with torch's.

    Args:
        source: the network.
        graphs: written from it.
        pair: a picture to evaluate on, at the first time of the process.
        target: which engines.

    Raises:
        CheckpointError: where torch itself gives infinities or NaN.
        BackendError: where an engine gives something else than torch.
    """
    mu = np.ascontiguousarray(pair.degraded[None].transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    around = None
    if source.codec is not None and source.autoencoder is not None:
        around = _around(source.codec, source.autoencoder, mu)
        _check_on_cpu(around, pair.degraded[None], target)
        mu = around.latents
    noise = np.random.default_rng(0).standard_normal(mu.shape, dtype=np.float32)
    x = (mu + np.float32(source.schedule.S) * noise).astype(np.float32)
    time = float(source.schedule.T)
    context = None if source.condition is None else source.condition(pair.degraded[None])
    if context is not None:
        error = _difference(context, source.context(pair.degraded))
        if not error <= TOLERANCE:
            raise BackendError(f"the conditioner differs from torch by {error:.1e} of the largest output")
    expected = source.evaluate(x, mu, time, pair.degraded)
    if not np.isfinite(expected).all():
        raise CheckpointError("the network gives infinities or NaN in float32", hint="check its weights")
    packed = np.concatenate([x - mu, mu], axis=1)
    # Latents are not cut to a multiple of the network's; torch pads them by itself.
    height, width = mu.shape[2:]
    padded = padded_size(height, width, source.arch.multiple)
    packed = np.pad(packed, [(0, 0), (0, 0), (0, padded[0] - height), (0, padded[1] - width)])
    modulation = source.modulation([time])
    for engine in backends.available():
        if target.backend not in ("auto", engine.name) or target.device not in ("auto", engine.device):
            continue
        if around is not None and engine.device != "cpu":
            _check_on_gpu(around, engine, target)
        for variant in distinct(engine, graphs):
            network = engine.compile(graphs[variant], modulation, packed.shape, "fp32", target.settings)
            error = _difference(_evaluated(network, packed, context)[:, :, :height, :width], expected)
            if not error <= TOLERANCE:
                raise BackendError(f"{engine.name} ({variant}) differs from torch by {error:.1e} of the largest output")


@dataclass(frozen=True)
class _Around:
    """Encoder and decoder, with pictures (N, C, H, W), mirrored, and what torch makes of these."""

    codec: Codec
    planes: F32
    latents: F32
    restored: F32

    def compare(self, found: tuple[Pixels, Pixels], where: str) -> None:
        """Refuse what an engine makes of the pictures, latents and pictures again, where it is something else."""
        height, width = found[1].shape[2:]
        pairs = ((found[0], self.latents), (found[1], self.restored[..., :height, :width]))
        error = max(_difference(*pair) for pair in pairs)
        if not error <= TOLERANCE:
            raise BackendError(f"encoder or decoder{where} differs from torch by {error:.1e} of the largest output")


def _around(codec: Codec, autoencoder: AutoencoderWeights, planes: F32) -> _Around:
    height, width = padded_size(planes.shape[2], planes.shape[3], codec.multiple)
    padded = np.zeros((*planes.shape[:2], height, width), np.float32)
    padded[:, :, : planes.shape[2], : planes.shape[3]] = planes
    mirror(padded, (planes.shape[2], planes.shape[3]))
    with torch.no_grad():
        module = autoencoder.module()
        latents, hidden = module.encode(torch.from_numpy(padded))
        restored = module.decode(latents, hidden)
    made = _Around(codec, padded, np.ascontiguousarray(latents.numpy()), np.ascontiguousarray(restored.numpy()))
    if not all(np.isfinite(values).all() for values in (made.latents, made.restored)):
        raise CheckpointError("the autoencoder gives infinities or NaN in float32", hint="check its weights")
    return made


def _check_on_cpu(around: _Around, pictures: Pixels, target: Target) -> None:
    """What every engine for CPUs has around its network."""
    coder = around.codec.compile((len(pictures), *around.planes.shape[1:]), target.settings.threads)
    found = coder.encode(pictures)
    around.compare((found, coder.decode(found, pictures.shape[1:3])), "")


def _check_on_gpu(around: _Around, engine: Backend, target: Target) -> None:
    """What an engine for GPUs has around its own."""
    device = device_of(engine)
    assert device is not None
    codec, compiler, sides = around.codec, cast(GraphCompiler, engine), around.codec.sides(around.planes.shape)
    with device.on(device.stream()):
        given = device.empty(around.planes.shape, "float32")
        device.from_host(given, around.planes)
        encoder = compiler.compile_graph(codec.encoder, {"picture": given}, sides, target.settings)
        decoder = compiler.compile_graph(codec.decoder, dict(encoder.outputs), sides, target.settings)
        encoder.evaluate()
        decoder.evaluate()
        latents, restored = (device.to_host(each) for each in (encoder.outputs["latent"], decoder.outputs["output"]))
    around.compare((latents, restored), f" on {engine.name}")


def _difference(found: Pixels, expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-12)


def _evaluated(
    network: Network, packed: NDArray[np.float32], context: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """The output of a network anywhere for inputs on the host."""
    if context is not None:
        given = context.reshape(network.context.shape)
        network.context[:] = torch.from_numpy(given) if isinstance(network.context, torch.Tensor) else given
    if isinstance(network.packed, torch.Tensor):
        network.packed.copy_(torch.from_numpy(packed))
        network.evaluate(0)
        return np.asarray(network.output.float().cpu().numpy())
    network.packed[:] = packed
    network.evaluate(0)
    return np.asarray(network.output)
