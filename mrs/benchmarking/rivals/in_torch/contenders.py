"""The rivals in torch: the plan's own loop eager and through torch.compile, and the published posterior sampler."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._inductor.utils import fresh_cache

from mrs.benchmarking.results import Parity
from mrs.benchmarking.rivals.gate import bar_of, exact_engine, parity_of
from mrs.benchmarking.rivals.in_torch import loop
from mrs.benchmarking.rivals.in_torch.network import SIDE, PublishedNetwork
from mrs.benchmarking.rivals.rival import SEED, Pictures, Rival, failures
from mrs.building.loops import loop_of
from mrs.export.autotune.parity import ENOUGH
from mrs.export.autotune.timing import chain_of
from mrs.kernels.table import Table
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError
from mrs.runtime.padding import padded_size
from mrs.runtime.plan import Plan
from mrs.runtime.system import machine

Size = tuple[int, int, int]
# Of the published posterior sampler.
PUBLISHED_STEPS = 100
# As many samples of it are enough: it takes as long as dozens of restores.
PUBLISHED_ROUNDS = 2
# What computes bfloat16 by itself, not by way of float32.
NATIVE = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# A graph of torch's own is recorded in the second call and replayed from the third on.
WARM_UP = 3
# Of torch.compile; another has no modes.
INDUCTOR = COMPILER = "inductor"


def contender(name: str, plan: Plan, published: PublishedNetwork, size: Size, threads: int) -> Rival:
    """A rival, compiled and warm.

    Args:
        name: `eager`, `compile` or `published`.
        plan: what it is measured against.
        published: the network of its checkpoint.
        size: (N, H, W) of pictures.
        threads: most threads of the engine that the published sampler is compared with.

    Raises:
        BackendError: where it cannot run here.
    """
    if published.device == "cuda" and not torch.cuda.is_available():
        raise BackendError("the plan is for a GPU, and torch sees none here", hint="install torch for CUDA")
    if name == "published":
        return _posterior(plan, published, size, threads)
    return _same_solver(name, plan, published, size)


def _same_solver(name: str, plan: Plan, published: PublishedNetwork, size: Size) -> Rival:
    table, shape = plan.table, published.shape(size)
    noise = loop.SameNoise(SEED, table, shape, published.device)
    begin = time.perf_counter()
    precision = native_precision(published.device) if name == "compile" else "fp32"
    with failures(f"torch.compile for {size[1]}x{size[2]}" if name == "compile" else "torch"):
        evaluate = compiled(published, precision) if name == "compile" else eager(published)
        # What torch compiled before, for another process, would not be waited for.
        with fresh_cache() if name == "compile" else nullcontext():
            loop.restore(published, table.first(WARM_UP), evaluate, noise, _blank(published, size))
    how = "eager, float32" if name == "eager" else f"torch.compile max-autotune, channels last, {_said(precision)}"
    return Rival(
        name=name,
        label=f"MR Sampler's loop in torch {torch.__version__}, {how}",
        backend="torch",
        precision=precision,
        evaluations=len(table.rows),
        setup_seconds=time.perf_counter() - begin,
        bar_db=bar_of(plan),
        run=_guarded(partial(loop.restore, published, table, evaluate, noise)),
    )


def eager(published: PublishedNetwork) -> loop.Evaluate:
    """The network as the published code calls it."""
    network = published.network

    def evaluate(x: Tensor, mu: Tensor, at: Tensor, *told: Tensor) -> Tensor:
        output: Tensor = network(x, mu, at, *told) if published.source.arch.condition else network(x, at)
        return output

    return evaluate


def compiled(published: PublishedNetwork, precision: str) -> loop.Evaluate:
    """The network through torch.compile, for calls as of `loop.Evaluate`.

    Args:
        published: the network.
        precision: `bf16` or `fp32`.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    network: Any = deepcopy(published.network)
    network = network.to(dtype=dtype, memory_format=torch.channels_last)
    mode = "max-autotune" if COMPILER == INDUCTOR else None
    fused: Callable[..., Tensor] = torch.compile(network, dynamic=False, backend=COMPILER, mode=mode)
    replays = published.device == "cuda"

    def evaluate(x: Tensor, mu: Tensor, at: Tensor, *told: Tensor) -> Tensor:
        inputs = [x.to(dtype, memory_format=torch.channels_last)]
        if published.source.arch.condition:
            inputs.append(mu.to(dtype, memory_format=torch.channels_last))
        if replays:
            torch.compiler.cudagraph_mark_step_begin()
        output = fused(*inputs, at, *(each.to(dtype) for each in told)).float()
        # Memory of a graph of torch's own is written again by the next call.
        return output.clone() if replays else output

    return evaluate


def _posterior(plan: Plan, published: PublishedNetwork, size: Size, threads: int) -> Rival:
    """IR-SDE's posterior sampler: a hundred evaluations, one after each single step of the process."""
    source = published.source
    if source.schedule.denoises:
        raise BackendError("no posterior sampler is published for the process that takes noise away")
    solver = Solver("posterior-published", order=1, steps=min(PUBLISHED_STEPS, source.schedule.T))
    table = tableau(source.schedule, solver, source.output)
    evaluate = eager(published)
    begin = time.perf_counter()
    with failures("torch"):
        noise = loop.TorchNoise(SEED, published.device)
        loop.restore(published, table.first(1), evaluate, noise, _blank(published, size))
        seconds = time.perf_counter() - begin
        parity = _posterior_parity(plan, published, table, threads)
    return Rival(
        name="published",
        label=f"posterior sampler as published, {len(table.rows)} evaluations, torch {torch.__version__} eager float32",
        backend="torch",
        precision="fp32",
        evaluations=len(table.rows),
        setup_seconds=seconds,
        bar_db=parity.bar_db,
        run=_guarded(partial(loop.restore, published, table, evaluate, noise)),
        rounds=PUBLISHED_ROUNDS,
        own_parity=parity,
    )


def _posterior_parity(plan: Plan, published: PublishedNetwork, table: Table, threads: int) -> Parity:
    """Its loop on a small picture beside our runtime's, both in float32 with the same table and noise."""
    source = published.source
    sides = padded_size(SIDE, SIDE, source.multiple)
    picture = np.random.default_rng(0).integers(0, 256, (1, *sides, source.channels), np.uint8)
    noise = loop.SameNoise(SEED, table, published.shape((1, *sides)), published.device)
    found = loop.restore(published, table, eager(published), noise, picture)
    chain = chain_of(
        exact_engine(plan), plan.graph, "fp32", loop_of(source, table), picture.shape, CompileSettings(threads)
    )
    expected = np.asarray(chain.restore_into(picture, np.empty_like(picture), SEED), np.uint8)
    words = f"our runtime in float32 with its table and noise, at {sides[0]}x{sides[1]}"
    return parity_of(found, expected, ENOUGH, words)


def native_precision(device: str) -> str:
    """`bf16` where the device computes it natively, else `fp32`."""
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = not NATIVE.isdisjoint(machine.instructions())
    return "bf16" if native else "fp32"


def _said(precision: str) -> str:
    return "bfloat16" if precision == "bf16" else "float32, for there is no bfloat16 here"


def _guarded(run: Callable[[Pictures], Pictures]) -> Callable[[Pictures], Pictures]:
    def guarded(pictures: Pictures) -> Pictures:
        with failures("torch"):
            return run(pictures)

    return guarded


def _blank(published: PublishedNetwork, size: Size) -> Pictures:
    return np.zeros((*size, published.source.channels), np.uint8)
