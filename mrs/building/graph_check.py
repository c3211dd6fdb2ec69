"""Every graph on every engine, held to the torch network that it was written from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from mrs.building.source import Source
from mrs.export.architectures.latent_unet import AutoencoderWeights
from mrs.export.autotune.workload import Pair, Target
from mrs.export.graph_variant import GraphVariant, distinct
from mrs.kernels.update import Pixels
from mrs.runtime import backends
from mrs.runtime.backends import Network
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
    if source.codec is not None and source.autoencoder is not None:
        mu = _check_codec(source.codec, source.autoencoder, pair.degraded[None], mu, target)
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
        for variant in distinct(engine, graphs):
            network = engine.compile(graphs[variant], modulation, packed.shape, "fp32", target.settings)
            error = _difference(_evaluated(network, packed, context)[:, :, :height, :width], expected)
            if not error <= TOLERANCE:
                raise BackendError(f"{engine.name} ({variant}) differs from torch by {error:.1e} of the largest output")


def _check_codec(
    codec: Codec, autoencoder: AutoencoderWeights, pictures: Pixels, planes: NDArray[np.float32], target: Target
) -> NDArray[np.float32]:
    """The latents of pictures by torch, to which encoder and decoder are held."""
    with torch.no_grad():
        module = autoencoder.module()
        latents, hidden = module.encode(torch.from_numpy(planes))
        restored = module.decode(latents, hidden)
    coder = codec.compile((len(pictures), *planes.shape[1:]), target.settings.threads)
    found = coder.encode(pictures)
    pairs = ((found, latents.numpy()), (coder.decode(found, pictures.shape[1:3]), restored.numpy()))
    if not all(np.isfinite(expected).all() for _, expected in pairs):
        raise CheckpointError("the autoencoder gives infinities or NaN in float32", hint="check its weights")
    error = max(_difference(*pair) for pair in pairs)
    if not error <= TOLERANCE:
        raise BackendError(f"encoder or decoder differs from torch by {error:.1e} of the largest output")
    return np.ascontiguousarray(latents.numpy())


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
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
