"""A solver's table as a plain loop in torch: what users of the published code run, in as few operations as it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from mrs.benchmarking.rivals.in_torch.network import PublishedNetwork
from mrs.benchmarking.rivals.rival import Pictures
from mrs.kernels.noise import normal
from mrs.kernels.table import Table
from mrs.kernels.update import LARGEST_THRESHOLD, QUANTILE
from mrs.runtime.errors import BackendError
from mrs.runtime.system import machine

Shape = tuple[int, int, int, int]
# The network's output for (x, mu, time, what it is told of the picture).
Evaluate = Callable[..., Tensor]


class Noise(Protocol):
    """Standard normal noise."""

    def __call__(self, number: int, shape: Shape) -> Tensor:
        """A draw: 0 is x_T's, i + 1 belongs to row i."""


class SameNoise:
    """The runtime's own noise, so that results can be compared; drawn beforehand, which is in the rival's favour.

    Args:
        seed: of a restore.
        table: what draws.
        shape: (N, C, H, W) of the state.
        device: where it is needed.

    Raises:
        BackendError: where the memory does not suffice.
    """

    def __init__(self, seed: int, table: Table, shape: Shape, device: str) -> None:
        needed = [0] * bool(table.start) + [index + 1 for index, row in enumerate(table.rows) if row.n]
        size, free = 4 * math.prod(shape) * len(needed), machine.free_memory()
        if free is not None and size > free:
            raise BackendError(f"noise of {len(needed)} draws needs {size / 2**30:.0f} GiB of memory")
        self._drawn = {number: torch.from_numpy(normal(seed, number, shape)).to(device) for number in needed}

    def __call__(self, number: int, shape: Shape) -> Tensor:
        return self._drawn[number]


class TorchNoise:
    """torch's own, drawn as it is needed, as the published code does."""

    def __init__(self, seed: int, device: str) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._device = device

    def __call__(self, number: int, shape: Shape) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._device)


def restore(
    published: PublishedNetwork, table: Table, evaluate: Evaluate, noise: Noise, pictures: Pictures
) -> Pictures:
    """Pictures on the host, (N, H, W, C) uint8, to their results there, which waits for a GPU."""
    with torch.inference_mode():
        planes = torch.from_numpy(pictures).to(published.device).permute(0, 3, 1, 2).contiguous().float() / 255
        told = published.told(pictures)
        coder = published.autoencoder
        if coder is None:
            x = solve(table, planes, evaluate, noise, told)
        else:
            latents, hidden = coder.encode(planes)
            x = coder.decode(solve(table, latents, evaluate, noise, told), hidden)
        made = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return made.cpu().numpy()


def solve(table: Table, mu: Tensor, evaluate: Evaluate, noise: Noise, told: Iterable[Tensor] = ()) -> Tensor:
    """The last state of a table, (N, C, H, W) as `mu` is: `mrs.numerics.reference.sample` in torch."""
    shape, told = (mu.shape[0], mu.shape[1], mu.shape[2], mu.shape[3]), tuple(told)
    times = torch.tensor(table.times, dtype=torch.float32, device=mu.device).split(1)
    x = mu + table.start * noise(0, shape) if table.start else mu
    earlier: list[Tensor] = []
    for index, row in enumerate(table.rows):
        q = _sum((row.cx, x), (row.cm, mu), (row.cf, evaluate(x, mu, times[index], *told)))
        if table.clamp == "unit":
            q = q.clamp(0, 1)
        elif table.clamp == "threshold":
            bound = threshold(q)
            q = torch.minimum(torch.maximum(q, -bound), bound) / bound
        if row.m:
            q = q + row.m * (earlier[0] - q)
        history = zip((row.b1, row.b2, row.b3), earlier, strict=False)
        drawn = [(row.n, noise(index + 1, shape))] if row.n else []
        x = _sum((row.ax, x), (row.am, mu), (row.b0, q), *history, *drawn)
        earlier = [q, *earlier[:2]]
    return x


def threshold(q: Tensor) -> Tensor:
    """MR Sampler's dynamic threshold of each picture, (N, 1, 1, 1): see `mrs.kernels.update.threshold`."""
    values = q.abs().reshape(len(q), -1)
    rank = QUANTILE * (values.shape[1] - 1)
    # torch.quantile refuses pictures of more than 16 million numbers; the largest few tell as much.
    largest = values.topk(values.shape[1] - math.floor(rank), dim=1).values
    low, high = largest[:, -1], largest[:, -1 - (math.ceil(rank) - math.floor(rank))]
    found = low + (high - low) * (rank - math.floor(rank))
    return found.clamp(1, LARGEST_THRESHOLD)[:, None, None, None]


def _sum(*terms: tuple[float, Tensor]) -> Tensor:
    """The weighted sum without what counts for nothing."""
    total: Tensor | None = None
    for weight, tensor in terms:
        if weight:
            total = weight * tensor if total is None else total.add(tensor, alpha=weight)
    return terms[0][1] * 0 if total is None else total
