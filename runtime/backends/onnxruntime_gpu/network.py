"""The network on a session of ONNX Runtime, and graphs around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mrs.runtime.backends.onnxruntime_gpu.session import BoundSession
from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.device import Device

if TYPE_CHECKING:
    from torch import Tensor


class OnnxRuntimeGpuNetwork:
    """See `protocol.Network`.

    Args:
        session: of the network's graph.
        device: a `Cuda`.
        modulation, shape: as of `protocol.Backend.compile`.

    Attributes:
        stream: that the session is bound to.
    """

    def __init__(self, session: BoundSession, device: Device, modulation: F32, shape: Shape) -> None:
        import torch

        self.name, self._device, self.stream, self._session = session.name, device, session.stream, session
        count, halves, height, width = shape
        with torch.inference_mode(False), device.on(self.stream):
            self.packed = session.zeros("packed", shape)
            self.output = session.zeros("output", (count, halves // 2, height, width))
            # The graph reads one address, or one for each part of the row.
            self._row = torch.zeros((1, modulation.shape[1], 1, 1), device=device.place)
            told = next((value for value in session.inputs if value.name == "context"), None)
            self.context = None if told is None else session.zeros("context", told.shape)
        session.bind("packed", self.packed)
        if self.context is not None:
            session.bind("context", self.context)
        parts = [value for value in session.inputs if value.name not in ("packed", "context")]
        for value, part in zip(parts, self._row.split([value.shape[1] for value in parts], 1), strict=True):
            session.bind(value.name, part)
        session.bind("output", self.output)
        self._rows: Tensor
        self.retime(modulation)
        session.prepare(lambda: self.evaluate(0))
        with torch.inference_mode(), device.on(self.stream):
            self.output.zero_()
            device.wait(self.stream)

    def evaluate(self, step: int) -> None:
        self._session.run(f"at step {step}", lambda: self._device.copy(self._row, self._rows[step]))

    def retime(self, modulation: F32) -> None:
        import torch

        rows = torch.from_numpy(modulation[:, None, :, None, None].copy())
        # Memory of this stream: the old rows may still be read on it, and nothing else gets them before.
        with torch.inference_mode(False), self._device.on(self.stream):
            self._rows = rows.to(self._row.device)

    def export(self) -> bytes | None:
        return None


class OnnxRuntimeGpuGraph:
    """See `protocol.Graph`. It replays a graph of its own, on a stream of its own, wherever it is evaluated.

    Args:
        session: of the graph, whose sides are fixed.
        inputs: tensors of the device by their names, dense.
        device: a `Cuda`.
    """

    def __init__(self, session: BoundSession, inputs: Mapping[str, Tensor], device: Device) -> None:
        import torch

        self._session, self._inputs = session, dict(inputs)
        with torch.inference_mode(False), device.on(session.stream):
            self.outputs = {value.name: session.zeros(value.name, value.shape) for value in session.outputs}
        for name, tensor in (*inputs.items(), *self.outputs.items()):
            session.bind(name, tensor)
        session.prepare(self.evaluate)

    def evaluate(self) -> None:
        """See `protocol.Graph`."""
        self._session.run("around the network")
