"""How long a pixel takes in pictures of several sizes on the chosen engine: what tiles are chosen by."""

from __future__ import annotations

import time

import numpy as np

from mrs.export.autotune.calibrated import graph_of
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.workload import Target, Workload
from mrs.export.graph_variant import GraphVariant
from mrs.runtime import backends
from mrs.runtime.backends import mixed
from mrs.runtime.chain import Loop
from mrs.runtime.placement import default_memory

# Of square pictures. Where an evaluation of one is expected to take more seconds than that, or more memory than a
# restore may, neither it nor a larger one is measured.
SIDES, LONGEST = (256, 512, 1024), 4.0
# Evaluations that are timed, after one that is not.
TIMED = 3


def measure_pace(
    workload: Workload, target: Target, loop: Loop, chosen: Candidate, bytes_per_pixel: int
) -> tuple[tuple[int, float], ...]:
    """Sides and the microseconds of a pixel in one evaluation, the fastest of some; none where tiles are no matter.

    Args:
        workload, target: what was measured, and for what.
        loop: the solver that was chosen.
        chosen: the engine.
        bytes_per_pixel: of its activations.

    Raises:
        BackendError: where the engine fails.
    """
    backend = backends.get(chosen.backend)
    # On a GPU tiles are copied from the host and back; latents are made of whole pictures.
    if backend.device != "cpu" or loop.codec is not None:
        return ()
    count, height, width = workload.shape
    steps, channels = len(loop.modulation), workload.picture.shape[-1]
    expected = 1e3 * chosen.latency_ms / (steps * count * height * width)
    found: list[tuple[int, float]] = []
    graph = graph_of(workload.graphs, GraphVariant.parse(chosen.variant), chosen.precision)
    for side in SIDES:
        if not 1e-6 * expected * side**2 <= LONGEST or bytes_per_pixel * side**2 > default_memory(None):
            break
        shape = loop.packed((1, channels, side, side))
        network = mixed.compile_network(backend, graph, loop.modulation, shape, chosen.precision, target.settings)
        # The picture's own numbers, for denormal ones would cost time. The last evaluation is in the chosen precision.
        network.packed[:] = np.resize(workload.picture.astype(np.float32) / np.float32(255), shape)
        times = []
        for _ in range(1 + TIMED):
            begin = time.perf_counter()
            network.evaluate(steps - 1)
            times.append(time.perf_counter() - begin)
        expected = 1e6 * min(times[1:]) / side**2
        found.append((side, round(expected, 4)))
    return tuple(found) if len(found) > 1 else ()
