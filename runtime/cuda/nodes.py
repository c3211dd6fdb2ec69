"""What a restore launches, in order: the list that is captured, or carried out one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from mrs.kernels.gpu.audit import launch as audit_launch
from mrs.kernels.gpu.finish import launch as finish_launch
from mrs.kernels.gpu.launch import Launch
from mrs.kernels.gpu.mirror import launch as mirror_launch
from mrs.kernels.gpu.start import launch as start_launch
from mrs.kernels.gpu.step import launch as step_launch
from mrs.kernels.gpu.threshold import launches as threshold_launches
from mrs.runtime.backends.protocol import Network
from mrs.runtime.device import Device


@dataclass(frozen=True)
class Node:
    """One entry of the list.

    Attributes:
        name: such as `start`, `network`, `step`.
        step: the row that it belongs to; -1 before the first.
        work: carries it out on the current stream.
        launch: of a kernel of ours; None for copies and for the network.
        made: what a network writes, which must be finite; None for all others.
    """

    name: str
    step: int
    work: Callable[[], None]
    launch: Launch | None = None
    made: Tensor | None = None


@dataclass(frozen=True)
class Arrays:
    """What the nodes work on; see `mrs.kernels.gpu.step` for the arrays' meaning.

    Attributes:
        source, result: (N, H, W, C), uint8 or float32.
        mu, x, history: of pictures, or of their latents where the network restores these.
        context: (N, K) float32, what the network is told of these pictures; None for one that is told nothing.
        steps: rows of the table.
        threshold: whether predictions are clamped by the dynamic threshold.
        mirrors: whether the network's padding is the picture's reflection, not zeros.
    """

    source: Tensor
    result: Tensor
    mu: Tensor
    x: Tensor
    history: Tensor
    records: Tensor
    key: Tensor
    counts: Tensor
    bounds: Tensor
    status: Tensor
    context: Tensor | None
    steps: int
    threshold: bool
    mirrors: bool = False


def nodes_of(device: Device, network: Network, arrays: Arrays, latents: Tensor | None = None) -> list[Node]:
    """A restore from `source` to `result`, once the network is told of the picture; every address is fixed here.

    Args:
        device: a `Cuda`.
        network: whose `packed`, `output` and `context` lie on the device.
        arrays: all others.
        latents: (N, H, W, C) float32, restored instead of `source`; the last state stays in `x` then.
    """
    a, source = arrays, arrays.source if latents is None else latents
    size = (source.shape[1], source.shape[2])
    return [
        kernel_of(device, "start", -1, start_launch(source, a.mu, a.x, network.packed, a.records, a.key)),
        *(
            node
            for step in range(a.steps)
            for node in _step(device, network, a, step, size, latents is None and step == a.steps - 1)
        ),
    ]


def audit_of(device: Device, made: Tensor, status: Tensor, step: int) -> Node:
    """A look at what a network has made: `status` tells where it is not finite."""
    return kernel_of(device, "audit", step, audit_launch(made, status))


def copy_of(device: Device, name: str, target: Tensor, source: Tensor) -> Node:
    """A copy before the first row."""
    return Node(name, -1, lambda: device.copy(target, source))


def told_of(device: Device, network: Network, arrays: Arrays) -> Iterator[Node]:
    """What gives a network the context that the host has made. It may be shared: each restore gives it its own."""
    given = arrays.context
    if given is not None:
        yield copy_of(device, "context", network.context.view(given.shape), given)


def _step(
    device: Device, network: Network, arrays: Arrays, step: int, size: tuple[int, int], finishes: bool
) -> Iterator[Node]:
    """A row, on pictures or latents of a size (H, W); whether it makes the result."""
    a = arrays
    mirror = mirror_launch(network.packed, size) if a.mirrors else None
    if mirror is not None:
        yield kernel_of(device, "mirror", step, mirror)
    yield Node("network", step, lambda: network.evaluate(step), made=network.output)
    bounds = None
    if a.threshold:
        bounds = a.bounds
        each = threshold_launches(a.x, a.mu, network.output, a.records, a.counts, a.bounds, step, size)
        yield from (kernel_of(device, "threshold", step, launch) for launch in each)
    if step == a.steps - 1:
        yield audit_of(device, network.output, a.status, step)
    if finishes:
        launch = finish_launch(a.x, a.mu, network.output, a.history, a.result, a.records, a.key, bounds, step)
        yield kernel_of(device, "finish", step, launch)
    else:
        launch = step_launch(a.x, a.mu, network.output, a.history, network.packed, a.records, a.key, bounds, step, size)
        yield kernel_of(device, "step", step, launch)


def kernel_of(device: Device, name: str, step: int, launch: Launch) -> Node:
    """A launch of a kernel of ours."""
    return Node(name, step, lambda: device.launch(launch), launch)


def shown(nodes: Sequence[Node]) -> list[str]:
    """A line for each node: its name, its step, and the addresses of its arguments where it is a kernel of ours."""
    lines = []
    for node in nodes:
        where = "" if node.step < 0 else f" {node.step}"
        given = node.launch.arguments if node.launch else ()
        addresses = [value if isinstance(value, int) else f"0x{value.data_ptr():x}" for value in given]
        lines.append(" ".join([f"{node.name}{where}", *map(str, addresses)]))
    return lines
