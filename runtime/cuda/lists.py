"""The lists of nodes that a chain carries out: run until nothing happens for the first time, captured, replayed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from mrs.runtime.cuda.alone import alone
from mrs.runtime.cuda.failures import translate_errors
from mrs.runtime.cuda.graphs import graph_of
from mrs.runtime.cuda.nodes import Arrays, Node
from mrs.runtime.device import Device, Graph, Stream

if TYPE_CHECKING:
    from mrs.runtime.cuda.conditioner import CudaConditioner

# The first run of a network compiles, chooses algorithms and fills caches; the second shows that it has done so.
WARM_UPS = 2
# Lists for pictures of the host.
WHOLE_OR_PART = frozenset({"host", "part"})


class Lists:
    """Lists by name, on one stream.

    Args:
        device: a `Cuda`.
        stream: on which everything happens.
        shape: (N, C, H, W) of the pictures.
        nodes: the lists.
        arrays: what they work on.
        graphs: whether they are captured.
        bound: whether pictures and results are the caller's tensors.
        looker: what makes contexts on the device, which other chains use too; None where nothing does.
    """

    def __init__(
        self,
        device: Device,
        stream: Stream,
        shape: Sequence[int],
        nodes: dict[str, list[Node]],
        arrays: Arrays,
        *,
        graphs: bool,
        bound: bool,
        looker: CudaConditioner | None,
    ) -> None:
        self._device, self._stream, self._shape, self._nodes, self._arrays = device, stream, shape, nodes, arrays
        self._captures, self._bound, self._looker = graphs, bound, looker
        self._graphs: dict[str, Graph] = {}
        self._prepared: set[str] = set()

    def __getitem__(self, name: str) -> list[Node]:
        return self._nodes[name]

    def __contains__(self, name: str) -> bool:
        """Whether a list is prepared."""
        return name in self._prepared

    @property
    def captured(self) -> bool:
        """Whether any is a graph."""
        return bool(self._graphs)

    def add(self, name: str, nodes: list[Node]) -> None:
        """One more list, not prepared."""
        self._nodes[name] = nodes

    def prepare(self, name: str) -> None:
        """Run a list until nothing happens for the first time any more, capture it, and replay that once.

        Raises:
            CaptureError: where it cannot be captured; says why.
            DeviceMemoryError: where the device's memory does not suffice.
            BackendError: where anything else fails.
        """
        work = self._nodes[name]
        with alone():
            if name in WHOLE_OR_PART:
                # Pictures of a size are whole or parts, seldom both: one graph holds memory for activations.
                for other in WHOLE_OR_PART - {name}:
                    self._prepared.discard(other)
                    self._graphs.pop(other, None)
            with self._trying():
                self.take()
                for _ in range(WARM_UPS):
                    carry_out(work)
            if self._captures:
                with self.working():
                    graph = graph_of(self._device, self._stream, lambda: carry_out(work), self._shape)
                with self._trying():
                    # The first replay uploads the graph.
                    graph.replay()
                self._graphs[name] = graph
        self._prepared.add(name)

    def run(self, name: str) -> None:
        """Give a prepared list to the stream, which is the current one."""
        self.take()
        if name in self._graphs:
            self._graphs[name].replay()
        else:
            carry_out(self._nodes[name])

    def run_and_wait(self, name: str) -> None:
        """Run a prepared list, and wait until it is done."""
        with self.working():
            self.run(name)
            self._device.wait(self._stream)

    def take(self) -> None:
        """Other chains use what looks at the whole picture, too."""
        if self._looker is not None:
            self._looker.take(self._stream)

    def clear(self) -> None:
        """Let go of all graphs."""
        self._graphs.clear()

    @contextmanager
    def working(self) -> Iterator[None]:
        """On the stream; tensors made in any mode of torch may be written."""
        with torch.inference_mode(), self._device.on(self._stream):
            yield

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """On the stream; what is restored inside leaves no trace but in the result."""
        with translate_errors(self._device, self._shape, "during its first run"), self.working():
            # A tensor that is restored in place must not be restored yet.
            kept = self._arrays.source.clone() if self._bound else None
            yield
            if kept is not None:
                self._arrays.source.copy_(kept)
            self._device.wait(self._stream)
            # What was found was found in an empty picture.
            self._arrays.status.zero_()


def carry_out(nodes: Sequence[Node]) -> None:
    """Give all nodes to the current stream, one by one."""
    for node in nodes:
        node.work()
