"""Every graph on every engine, held to the torch network that it was written from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from mrs.building.source import Source
from mrs.export.autotune.workload import Pair, Target
from mrs.export.graph_variant import GraphVariant, distinct
from mrs.runtime import backends
from mrs.runtime.backends import Network
from mrs.runtime.errors import BackendError, CheckpointError

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
    noise = np.random.default_rng(0).standard_normal(mu.shape, dtype=np.float32)
    x = (mu + np.float32(source.schedule.S) * noise).astype(np.float32)
    time = float(source.schedule.T)
    context = None if source.condition is None else source.condition(pair.degraded[None])
    expected = source.evaluate(x, mu, time, pair.degraded)
    if not np.isfinite(expected).all():
        raise CheckpointError("the network gives infinities or NaN in float32", hint="check its weights")
    packed = np.concatenate([x - mu, mu], axis=1)
    modulation = source.modulation([time])
    for engine in backends.available():
        if target.backend not in ("auto", engine.name) or target.device not in ("auto", engine.device):
            continue
        for variant in distinct(engine, graphs):
            network = engine.compile(graphs[variant], modulation, packed.shape, "fp32", target.settings)
            error = _difference(_evaluated(network, packed, context), expected)
            if not error <= TOLERANCE:
                raise BackendError(f"{engine.name} ({variant}) differs from torch by {error:.1e} of the largest output")


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
