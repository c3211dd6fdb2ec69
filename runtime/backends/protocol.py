"""What the runtime asks of an engine: two small classes. docs/backends.md tells how to add one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mrs.runtime.backends.settings import CompileSettings

F32 = NDArray[np.float32]
Shape = tuple[int, int, int, int]
# How names of the weights of convolutions begin that are a norm's means: these stay float32 in every precision.
MEANS = "mean."
# Precisions that need a graph of their own, with what was calibrated in it.
QUANTISED = frozenset({"int8", "fp8"})


class Network(Protocol):
    """A compiled network for one shape, with buffers of its own that live as long as it does.

    Attributes:
        packed: (N, 2C, H, W), zero at first: the caller writes x - mu and mu here. NumPy float32, dense, where the
            backend's `device` is `cpu`; on a GPU a tensor of torch, float32, float16 or bfloat16, as planes or with
            channels last.
        output: (N, C, H, W), of the same type and layout: `evaluate` writes here.
        context: (N, K, 1, 1) float32 where the network is told of the whole picture: the caller writes that here. None
            for all others.

    An engine on a GPU that replays graphs of its own has one attribute more, `stream`: the stream that it is bound to,
    on which it works wherever it is called. A chain works on that stream too, and captures nothing.
    """

    packed: Any
    output: Any
    context: Any

    def evaluate(self, step: int) -> None:
        """Run the network on `packed` with the modulation of row `step`; copies and allocates nothing.

        On a GPU: give the work to the current stream and return. It is called once or twice before it is captured, so
        that what happens only the first time has happened, and must not wait for the device.

        Raises:
            BackendError: where the engine fails.
        """

    def retime(self, modulation: F32) -> None:
        """Evaluate at the times of these rows from now on: (steps, M) float32. Compiles nothing."""

    def export(self) -> bytes | None:
        """The compiled engine for `Backend.restore` on the same kind of machine; None where the engine has no form."""


class Graph(Protocol):
    """A compiled graph of any inputs and outputs for one shape, in float32: what stands around a network.

    Attributes:
        outputs: every output by its name, dense; `evaluate` writes there. NumPy's arrays, or tensors of the GPU where
            the inputs are such.
    """

    @property
    def outputs(self) -> Mapping[str, Any]: ...

    def evaluate(self) -> None:
        """Run it on its inputs, which are the caller's own arrays.

        On a GPU as `Network.evaluate`: on the current stream, without waiting, and it may be captured unless the
        engine replays graphs of its own.

        Raises:
            BackendError: where the engine fails.
        """


class GraphCompiler(Protocol):
    """What an engine offers besides `Backend`: all of them do."""

    def compile_graph(
        self, graph: bytes, inputs: Mapping[str, Any], sides: Mapping[str, int], settings: CompileSettings
    ) -> Graph:
        """Compile a graph for one shape.

        Args:
            graph: an ONNX model, float32.
            inputs: every input by its name, float32, dense: read where they are, each time. Tensors of the current GPU
                where the backend's `device` is `cuda`.
            sides: lengths of all sides that the graph leaves open, by their names.
            settings: threads, and options of engines that are built ahead of time.

        Raises:
            BackendError: where the engine refuses the graph.
        """


class KeptGraph(Graph, Protocol):
    """A graph whose engine can be kept."""

    def export(self) -> bytes:
        """The compiled engine for `GraphKeeper.restore_graph` on the same kind of machine."""


@runtime_checkable
class GraphKeeper(GraphCompiler, Protocol):
    """An engine that takes long to compile, and keeps what it made."""

    def compile_graph(
        self, graph: bytes, inputs: Mapping[str, Any], sides: Mapping[str, int], settings: CompileSettings
    ) -> KeptGraph: ...

    def restore_graph(self, engine: bytes, inputs: Mapping[str, Any]) -> KeptGraph:
        """A graph from what `KeptGraph.export` gave.

        Raises:
            BackendError: where the engine refuses it.
        """


class Backend(Protocol):
    """An engine on this machine.

    Attributes:
        name: as in plans and options.
        device: `cpu`, or `cuda` for an NVIDIA GPU.
        variants: of a graph, that it may run fastest, (norm, gate) of mrs.export.graph_variant.GraphVariant
            each. A build measures them all; the first is used where nothing is measured.
    """

    name: str
    device: str
    variants: tuple[tuple[str, str], ...]

    def missing(self) -> str | None:
        """Why it cannot run here and what to do about it, in one line; None where it can."""

    def version(self) -> str:
        """Version of the engine's library, or "" where it is not installed."""

    def precisions(self) -> tuple[str, ...]:
        """Of `fp32`, `bf16`, `fp16`, `int8` and `fp8`, those that this device computes natively."""

    def compile(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> Network:
        """Compile a graph for one shape.

        Args:
            graph: an ONNX model with inputs `packed`, `modulation` and perhaps `context`, output `output`: float32, or
                for int8 and fp8 the one that was quantised for it. On a CPU also one with `packed` alone, which is
                compiled for its shape as it is.
            modulation: (steps, M) float32, a row per step.
            shape: (N, 2C, H, W) of `packed`.
            precision: one of `precisions()`.
            settings: threads, and options of engines that are built ahead of time.

        Raises:
            BackendError: where the engine refuses the graph.
        """

    def restore(
        self, engine: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> Network:
        """A network from what `Network.export` gave.

        Raises:
            BackendError: where the engine refuses it.
        """
