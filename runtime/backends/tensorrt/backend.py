"""TensorRT as a backend; see `protocol.Backend` and docs/engines.md."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.backends.tensorrt.builder import build_engine, build_graph, major
from mrs.runtime.backends.tensorrt.runner import TensorRtGraph, TensorRtNetwork
from mrs.runtime.backends.torch import Torch
from mrs.runtime.device import Device
from mrs.runtime.errors import BackendError
from mrs.runtime.system import machine
from mrs.runtime.system.libraries import first_line, installed_version

if TYPE_CHECKING:
    from torch import Tensor

MAJORS = (10, 11)
# Compute capability of the first GPUs whose tensor cores have a type: Turing, Ada.
QUANTISED_FROM = {"int8": (7, 5), "fp8": (8, 9)}
INSTALL = "pip install 'mrs-trt[tensorrt]'"
# The metapackage and what it stands for; a wheel from elsewhere may come alone.
DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
# Bytes of engines kept on the host. A build measures the same engine several times, and every worker has its own.
KEPT = 2 << 30


class TensorRt:
    """See `protocol.Backend`.

    Args:
        torch: what tells whether torch has a GPU, and what that computes.
        device: a `Cuda`; by default the current GPU.
    """

    name = "tensorrt"
    device = "cuda"
    # Only a LayerNormalization node is fused as a norm.
    variants: tuple[tuple[str, str], ...] = (("layernorm", "split"), ("layernorm", "weights"))

    def __init__(self, torch: Torch | None = None, device: Device | None = None) -> None:
        self._torch, self._given = torch or Torch("torch", compiled=False), device
        self._engines: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def missing(self) -> str | None:
        if importlib.util.find_spec("tensorrt") is None:
            return f"tensorrt is not installed: {INSTALL}"
        # Its memory and streams are torch's.
        reason = self._torch.missing()
        if reason is not None:
            return reason
        try:
            import tensorrt as trt
        except (ImportError, OSError) as error:
            return f"tensorrt does not load, a library is missing: {first_line(error)}: {INSTALL}"
        if major(trt.__version__) not in MAJORS:
            return f"tensorrt {trt.__version__} is not supported: {INSTALL}"
        return None

    def version(self) -> str:
        return installed_version(*DISTRIBUTIONS)

    def precisions(self) -> tuple[str, ...]:
        found = self._torch.precisions()
        capability = machine.capability() or (0, 0)
        return (*found, *(name for name, first in QUANTISED_FROM.items() if capability >= first))

    def compile(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> TensorRtNetwork:
        if precision not in self.precisions():
            raise BackendError(f"tensorrt runs no {precision} on this GPU", hint="use precision fp32")
        options, report = settings.options, settings.report
        sizes = options.size_range if options.covers((shape[0], *shape[2:])) else shape
        key = (hashlib.sha256(graph).digest(), shape[1], precision, options, sizes)
        engine = self._recent(key)
        if engine is None:
            report(f"building a TensorRT engine for {precision}, {shape[2]}x{shape[3]}; this may take minutes")
            engine = build_engine(graph, shape, precision, options, self._device(), report)
            self._remember(key, engine)
        return TensorRtNetwork(engine, modulation, shape, precision, self._device())

    def restore(
        self, engine: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> TensorRtNetwork:
        if precision not in self.precisions():
            raise BackendError(f"tensorrt runs no {precision} on this GPU", hint="use precision fp32")
        return TensorRtNetwork(engine, modulation, shape, precision, self._device())

    def compile_graph(
        self, graph: bytes, inputs: Mapping[str, Tensor], sides: Mapping[str, int], settings: CompileSettings
    ) -> TensorRtGraph:
        """See `protocol.GraphKeeper`."""
        key = (hashlib.sha256(graph).digest(), settings.options, *sorted(sides.items()))
        engine = self._recent(key)
        if engine is None:
            settings.report("building a TensorRT engine for a graph around the network; this may take minutes")
            engine = build_graph(graph, sides, settings.options, self._device(), settings.report)
            self._remember(key, engine)
        return TensorRtGraph(engine, inputs, self._device())

    def restore_graph(self, engine: bytes, inputs: Mapping[str, Tensor]) -> TensorRtGraph:
        """See `protocol.GraphKeeper`."""
        return TensorRtGraph(engine, inputs, self._device())

    def _device(self) -> Device:
        if self._given is None:
            from mrs.runtime.cuda.device import Cuda

            return Cuda()
        return self._given

    def _recent(self, key: Hashable) -> bytes | None:
        with self._lock:
            if key in self._engines:
                self._engines.move_to_end(key)
            return self._engines.get(key)

    def _remember(self, key: Hashable, engine: bytes) -> None:
        with self._lock:
            self._engines[key] = engine
            while len(self._engines) > 1 and sum(map(len, self._engines.values())) > KEPT:
                self._engines.popitem(last=False)
