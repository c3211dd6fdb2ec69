"""Where a plan runs: which backend and precision this machine has for it, and how much memory."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

from mrs.runtime import backends
from mrs.runtime.backends import Backend, mixed, onnxruntime_attention
from mrs.runtime.device import Device
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.pace import Pace
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine

log = logging.getLogger("mrs")

# Memory for the network's activations; larger pictures are cut into tiles. Half of what is free counts where less is.
MEMORY = 2 << 30
# Engines that compute the attention of all pixels to all as a matrix in memory; ONNX Runtime on CPUs only where it
# cannot help it.
WRITES_ATTENTION = frozenset({"onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"})
# Engines whose graphs have memory of their own for activations, each as long as it lives.
KEEPS_ACTIVATIONS = frozenset({"onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"})
# Bytes for each channel of a picture's pixel on a GPU around encoder and decoder: planes in and out, a state, what a
# first network would read, picture and result (`runtime/cuda/coder.py`).
AROUND_LATENTS = 24


class Choice(NamedTuple):
    """What a plan runs on: its backend, a precision, and whether that was asked for by name."""

    backend: Backend
    precision: str
    settled: bool


def choose(plan: Plan, asked: str | None, asked_precision: str | None = None) -> Choice:
    """Backend and precision to run a plan with here; says so where they are not the plan's.

    Raises:
        InputError: for a backend that is unknown, or a precision that it does not run.
        BackendError: where nothing can run here.
    """
    facts = plan.facts
    backend = _first_that_runs(facts.backend) if asked is None else _named(asked)
    if asked_precision is not None:
        if not mixed.runs(backend, asked_precision):
            known = ", ".join(backend.precisions())
            raise InputError(f"{backend.name} runs no {asked_precision!r} here", hint=f"use one of {known}")
        return Choice(backend, asked_precision, settled=True)
    precision = facts.precision if mixed.runs(backend, facts.precision) else "fp32"
    made_for = machine.fingerprint(facts.backend, backend.version(), backend.device)
    if precision != facts.precision or (asked is None and backend.name != facts.backend):
        log.warning(
            "plan is for %s %s, which this machine does not run: using %s %s",
            facts.backend, facts.precision, backend.name, precision,
        )  # fmt: skip
    elif asked is None and not machine.serves(facts.fingerprint, made_for):
        log.warning("plan was built on another machine or version: compiling from its graph")
    return Choice(backend, precision, settled=False)


def default_memory(device: Device | None) -> int:
    """Bytes for the network's activations where nobody gave any; `device` is a `Cuda`, or None for the CPU."""
    if device is not None:
        return max(1 << 20, int(device.free_memory()) // 2)
    free = machine.free_memory()
    return MEMORY if free is None else max(1 << 20, min(MEMORY, free // 2))


def pixels_that_fit(plan: Plan, choice: Choice, memory: int, workers: int) -> int:
    """Of a batch, padded, that each of so many workers may have at once on what a plan runs on."""
    facts, backend, each = plan.facts, choice.backend.name, memory // workers
    pair, pixel = facts.network.bytes_per_pair, facts.bytes_on(backend, choice.precision)
    if facts.latent is not None and choice.backend.device != "cpu":
        # Encoder and decoder each have what either needs, where one capture does not let the two share it.
        pixel *= 2 if backend in KEEPS_ACTIVATIONS else 1
        pixel += AROUND_LATENTS * facts.latent.channels
    pixels = each / pixel
    if pair and backend in WRITES_ATTENTION and not (backend == "onnxruntime" and onnxruntime_attention.is_linear()):
        # pair p^2 + pixel p is what there is.
        half = pixel / (2 * pair)
        pixels = math.sqrt(half**2 + each / pair) - half
    return max(1, int(pixels))


def pace_of(plan: Plan, choice: Choice) -> Pace:
    """Time by size of picture, where the plan's build measured it on what it runs on here; else all are alike."""
    facts, backend = plan.facts, choice.backend
    if (
        not facts.pace
        or backend.device != "cpu"
        or (backend.name, choice.precision) != (facts.backend, facts.precision)
    ):
        return Pace()
    here = machine.fingerprint(backend.name, backend.version(), backend.device)
    return Pace(facts.pace if machine.serves(facts.fingerprint, here) else ())


def _named(name: str) -> Backend:
    backend = backends.get(name)
    reason = backend.missing()
    if reason is not None:
        raise BackendError(f"backend {name} cannot run here: {reason}")
    return backend


def _first_that_runs(preferred: str) -> Backend:
    # The plan's own first, and only as far as needed: to ask a backend whether it can run loads its library.
    ordered = sorted(backends.BACKENDS.values(), key=lambda entry: entry.name != preferred)
    usable = next((entry for entry in ordered if entry.missing() is None), None)
    if usable is None:
        reasons = "; ".join(str(entry.missing()) for entry in ordered)
        raise BackendError(f"no backend can run here: {reasons}")
    return usable
