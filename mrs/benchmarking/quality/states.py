"""The solver's state after each evaluation of one restore, to be looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.update import finish, mirror
from mrs.numerics.reference import sample
from mrs.runtime import backends
from mrs.runtime.backends import Backend
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.conditioner import conditioner_of
from mrs.runtime.enlarging import enlarged
from mrs.runtime.padding import padded_size
from mrs.runtime.plan import Plan

U8 = NDArray[np.uint8]


def states(plan: Plan, picture: U8, seed: int, threads: int, most: int) -> list[tuple[int, U8]] | str:
    """The state after some evaluations, from the noise at the start to the result, by the reference loop in float32.

    Args:
        plan: what restores.
        picture: degraded, (H, W, C) uint8.
        seed: of the noise.
        threads: most threads of the network.
        most: states, which lie evenly over the evaluations; at least 2.

    Returns:
        Evaluations done and the state (factor H, factor W, C) uint8, clamped to what a picture can be; or in words why
        there is none to see.

    Raises:
        BackendError: where the engine fails.
    """
    if plan.facts.latent is not None:
        return "the states of a network for latents are no pictures"
    engine = _on_cpu(plan)
    if engine is None:
        return "no engine evaluates the network on the processor here, so that its states cannot be shown"
    mu = np.ascontiguousarray(enlarged(picture[None], plan.facts.upscale).transpose(0, 3, 1, 2))
    _, channels, height, width = mu.shape
    facts, table = plan.facts.network, plan.table
    shape = (1, 2 * channels, *padded_size(height, width, facts.multiple))
    network = engine.compile(plan.graph, plan.modulation, shape, "fp32", CompileSettings(threads))
    condition = conditioner_of(plan, threads)
    if condition is not None:
        # As restores of enlarged pictures see them.
        seen = picture[None] if plan.facts.upscale == 1 else np.ascontiguousarray(mu.transpose(0, 2, 3, 1))
        network.context[...] = condition(seen).reshape(network.context.shape)
    steps = len(table.rows)
    shown = {round(index * steps / (most - 1)) for index in range(most)}
    found: list[tuple[int, U8]] = []
    done = 0

    def keep(x: NDArray[Any]) -> None:
        if done in shown:
            state = np.empty((1, height, width, channels), np.uint8)
            finish(x, state)
            found.append((done, state[0]))

    def denoise(x: NDArray[Any], mu: NDArray[Any], t: float) -> NDArray[Any]:
        nonlocal done
        keep(x)
        network.packed[:, :channels, :height, :width] = x - mu
        network.packed[:, channels:, :height, :width] = mu
        if facts.padding == "reflect":
            mirror(network.packed, (height, width))
        network.evaluate(done)
        done += 1
        return network.output[:, :, :height, :width].copy()

    keep(sample(denoise, mu, table, seed=seed))
    return found


def _on_cpu(plan: Plan) -> Backend | None:
    """The plan's own engine, or the first that runs on the processor."""
    usable = [entry for entry in backends.available() if entry.device == "cpu"]
    return next((entry for entry in usable if entry.name == plan.facts.backend), next(iter(usable), None))
