"""The backend's face: what it can run, the graph that it gets, and the options of its two providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from mrs.runtime.backends.onnx_graph import with_sides
from mrs.runtime.backends.onnxruntime_gpu.graph import for_cuda
from mrs.runtime.backends.onnxruntime_gpu.installation import CUDA, TENSORRT, installed_version, missing
from mrs.runtime.backends.onnxruntime_gpu.network import OnnxRuntimeGpuGraph, OnnxRuntimeGpuNetwork
from mrs.runtime.backends.onnxruntime_gpu.session import BoundSession, failed
from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.backends.torch import Torch
from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import BackendError
from mrs.runtime.system.libraries import OrtSession, import_onnxruntime

if TYPE_CHECKING:
    from torch import Tensor


def the_gpu() -> Device:
    """The current one, a `Cuda`."""
    from mrs.runtime.cuda.device import Cuda

    return Cuda()


class OnnxRuntimeGpu:
    """See `protocol.Backend`.

    Args:
        name: as in plans and options.
        provider: ONNX Runtime's name of what runs the graph.
        device: gives the GPU.
    """

    device = "cuda"
    # A LayerNormalization is one kernel, and a split's halves need no second convolution; else with fewer copies.
    variants: tuple[tuple[str, str], ...] = (("layernorm", "split"), ("layernorm", "weights"), ("moments", "split"))

    def __init__(self, name: str, provider: str, device: Callable[[], Device] = the_gpu) -> None:
        self.name, self._provider, self._gpu = name, provider, device

    def missing(self) -> str | None:
        return missing(self._provider)

    def version(self) -> str:
        return installed_version()

    def precisions(self) -> tuple[str, ...]:
        # What the device computes natively does not depend on the engine.
        return Torch("torch", compiled=False).precisions()

    def compile(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> OnnxRuntimeGpuNetwork:
        if precision not in self.precisions():
            raise BackendError(f"{self.name} runs no {precision} on this GPU", hint="use precision fp32")
        device = self._gpu()
        typed = _typed(graph, precision, shape, self._provider)
        session = self._session(typed, precision, settings, device, f"the graph for {shape}")
        return OnnxRuntimeGpuNetwork(session, device, modulation, shape)

    def compile_graph(
        self, graph: bytes, inputs: Mapping[str, Tensor], sides: Mapping[str, int], settings: CompileSettings
    ) -> OnnxRuntimeGpuGraph:
        """See `protocol.GraphCompiler`."""
        device, fixed = self._gpu(), with_sides(graph, sides)
        session = self._session(fixed, "fp32", settings, device, "a graph around the network")
        return OnnxRuntimeGpuGraph(session, inputs, device)

    def restore(
        self, engine: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> OnnxRuntimeGpuNetwork:
        raise BackendError(f"{self.name} has no compiled engines")

    def _session(
        self, graph: bytes, precision: str, settings: CompileSettings, device: Device, what: str
    ) -> BoundSession:
        """A session for a graph whose types and sides are fixed."""
        onnxruntime = import_onnxruntime()
        level = settings.options.optimization_level

        def session(stream: Stream) -> OrtSession:
            where = device.place.index or 0, device.handle(stream)
            given = provider_options(self._provider, precision, level, *where)
            # Caught here, on the session's thread, where no signal's handler raises anything.
            try:
                # It would otherwise print, and go on without the provider.
                return onnxruntime.InferenceSession(
                    graph, session_options(onnxruntime), providers=[(self._provider, given)], enable_fallback=0
                )
            except Exception as error:
                # ONNX Runtime's exceptions share no base class below Exception.
                raise failed(f"{self.name} cannot compile {what}", error, device) from error

        return BoundSession(self.name, self._provider, session, device)


def provider_options(provider: str, precision: str, level: int, number: int, stream: int) -> dict[str, str]:
    """A provider's options; every one is in the tests' list of those that ONNX Runtime reads.

    Args:
        provider: CUDA or TENSORRT.
        precision: of the graph.
        level: of TensorRT's builder, 0 to 5.
        number: of the GPU.
        stream: address of the stream on which everything happens.
    """
    common = {"device_id": str(number), "user_compute_stream": str(stream)}
    if provider == TENSORRT:
        # None of the flags for half precision: without them the types of the graph hold. No cache of engines: ONNX
        # Runtime would load native code from a folder without a look at what it is.
        return {**common, "trt_cuda_graph_enable": "1", "trt_builder_optimization_level": str(level)}
    return {
        **common,
        "enable_cuda_graph": "1",
        "use_tf32": "0",
        # Tensor cores want channels last, of which it has kernels for float16 but none for bfloat16.
        "prefer_nhwc": "1" if precision == "fp16" else "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        # All sizes are fixed: what is asked for once is enough.
        "arena_extend_strategy": "kSameAsRequested",
    }


def session_options(onnxruntime: ModuleType) -> object:
    """Of a session that runs wholly on its provider, or is refused."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Otherwise it guesses from the bytes, and its own format is not what onnx_guard has looked at.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _typed(graph: bytes, precision: str, shape: Shape, provider: str) -> bytes:
    """The graph with its types and sizes, of operations that the provider has."""
    from mrs.runtime.backends.typed_graph import typed_graph

    typed = typed_graph(graph, precision, (shape[0], *shape[2:]))
    return for_cuda(typed, precision) if provider == CUDA else typed
