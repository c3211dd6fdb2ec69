"""Solvers tried one after the other on the same pictures, with one compiled network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrs.export.graph import GraphShape, build_graph
from mrs.export.modulation import modulation_table
from mrs.export.nafnet import ConditionalNAFNet
from mrs.kernels.row import Row
from mrs.runtime import backends
from mrs.runtime.chain import Chain
from mrs.runtime.errors import BackendError

F32 = NDArray[np.float32]


class Trial:
    """A network compiled once for pictures of one size.

    Args:
        net: the network.
        pictures: degraded pictures, (N, H, W, C) uint8.
        precision: of the engine.
        threads: most threads to use.
        batch: pictures at once; the last batch may be smaller.

    Raises:
        BackendError: where no backend can run here.
    """

    def __init__(
        self, net: ConditionalNAFNet, pictures: NDArray[np.uint8], precision: str, threads: int, batch: int = 1
    ) -> None:
        usable = backends.available()
        if not usable:
            raise BackendError("no backend can run here", hint="pip install openvino")
        engine = usable[0]
        self.net = net
        self.pictures = np.ascontiguousarray(pictures)
        self._threads = threads
        state = {key: value.numpy() for key, value in net.state_dict().items()}
        graph = build_graph(state, net.arch, shape=GraphShape(engine.norm, engine.gate)).SerializeToString()
        count, height, width, channels = self.pictures.shape
        padded = [-(-side // net.arch.multiple) * net.arch.multiple for side in (height, width)]
        self._parts = [slice(low, min(low + batch, count)) for low in range(0, count, batch)]
        unused = modulation_table(net, [1.0])
        self._networks = {
            size: engine.compile(graph, unused, (size, 2 * channels, *padded), precision, threads)  # type: ignore[arg-type]
            for size in {part.stop - part.start for part in self._parts}
        }

    def run(self, times: Sequence[float], rows: Sequence[Row], start: float, clamp: str, seed: int = 0) -> F32:
        """Restore all pictures with a table; each batch draws the noise of its own seed, counted up from `seed`.

        Returns:
            (N, H, W, C) float32 in [0, 1].
        """
        count, height, width, channels = self.pictures.shape
        out = np.empty(self.pictures.shape, np.float32)
        modulation = modulation_table(self.net, times[: len(rows)])
        chains = {}
        for size, network in self._networks.items():
            network.retime(modulation)
            chains[size] = Chain(network, rows, start, clamp, (size, channels, height, width), self._threads)
        for index, part in enumerate(self._parts):
            chains[part.stop - part.start].restore_into(self.pictures[part], out[part], seed + index)
        return out
