"""ONNX Runtime on CPUs, in float32: the fallback where OpenVINO does not run."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache

import numpy as np

from mrs.runtime.backends.onnxruntime_attention import fused
from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError
from mrs.runtime.system import forks
from mrs.runtime.system.libraries import (
    CPLUSPLUS,
    OrtSession,
    first_line,
    import_onnxruntime,
    installed_version,
    telling,
)

# The GPU build installs the same module under another distribution name.
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
OTHERWISE = "use backend openvino"


class OnnxRuntimeNetwork:
    """A session whose inputs and output are bound to our own arrays, one binding per step."""

    def __init__(self, session: OrtSession, modulation: F32, shape: Shape) -> None:
        self.packed = np.zeros(shape, np.float32)
        self.output = np.empty(session.get_outputs()[0].shape, np.float32)
        sides = {value.name: value.shape for value in session.get_inputs()}
        self.context = np.zeros(sides["context"], np.float32) if "context" in sides else None
        self._timed = "modulation" in sides
        self._session = session
        self.retime(modulation)
        _LIBRARY.kept(self)

    def retime(self, modulation: F32) -> None:
        self._rows = np.ascontiguousarray(modulation[:, None, :, None, None])
        self._bindings = []
        for row in self._rows:
            binding = self._session.io_binding()
            for bind, name, array in (
                (binding.bind_input, "packed", self.packed),
                *([(binding.bind_input, "modulation", row)] if self._timed else []),
                *([(binding.bind_input, "context", self.context)] if self.context is not None else []),
                (binding.bind_output, "output", self.output),
            ):
                bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            self._bindings.append(binding)

    def evaluate(self, step: int) -> None:
        with telling(f"onnxruntime failed at step {step}", OTHERWISE, _kinds()):
            self._session.run_with_iobinding(self._bindings[step])

    def export(self) -> bytes | None:
        return None


class OnnxRuntimeGraph:
    """See `protocol.Graph`."""

    def __init__(self, session: OrtSession, inputs: Mapping[str, F32]) -> None:
        self._inputs, self._session = inputs, session
        self.outputs = {value.name: np.empty(value.shape, np.float32) for value in session.get_outputs()}
        self._binding = session.io_binding()
        for bind, arrays in ((self._binding.bind_input, inputs), (self._binding.bind_output, self.outputs)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        _LIBRARY.kept(self)

    def evaluate(self) -> None:
        with telling("onnxruntime failed around the network", OTHERWISE, _kinds()):
            self._session.run_with_iobinding(self._binding)


_LIBRARY = forks.Library()


class OnnxRuntime:
    """See `protocol.Backend`."""

    name = "onnxruntime"
    device = "cpu"
    # Which is the fastest depends on the network: docs/export.md.
    variants: tuple[tuple[str, str], ...] = (("moments", "weights"), ("length", "weights"))

    def missing(self) -> str | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install onnxruntime"
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            return f"onnxruntime does not load: {first_line(error)}"
        providers = onnxruntime.get_available_providers()
        return None if "CPUExecutionProvider" in providers else "onnxruntime has no CPU provider: reinstall onnxruntime"

    def version(self) -> str:
        return installed_version(*DISTRIBUTIONS)

    def precisions(self) -> tuple[str, ...]:
        return ("fp32",)

    def compile(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> OnnxRuntimeNetwork:
        if precision != "fp32":
            raise BackendError(f"onnxruntime runs no {precision} on this processor", hint="use precision fp32")
        sides = {"batch": shape[0], "height": shape[2], "width": shape[3]}
        with telling(f"onnxruntime cannot compile the graph for {shape}", OTHERWISE, _kinds()):
            return OnnxRuntimeNetwork(_session(fused(graph), sides, settings.threads), modulation, shape)

    def compile_graph(
        self, graph: bytes, inputs: Mapping[str, F32], sides: Mapping[str, int], settings: CompileSettings
    ) -> OnnxRuntimeGraph:
        """See `protocol.GraphCompiler`."""
        with telling("onnxruntime cannot compile a graph around the network", OTHERWISE, _kinds()):
            return OnnxRuntimeGraph(_session(graph, sides, settings.threads), inputs)

    def restore(
        self, engine: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> OnnxRuntimeNetwork:
        raise BackendError("onnxruntime has no compiled engines on a CPU")


def _session(graph: bytes, sides: Mapping[str, int], threads: int) -> OrtSession:
    """A session for sides of these lengths, by their names."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Otherwise it guesses from the bytes, and its own format is not what onnx_guard has looked at.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # From the second evaluation on it would keep one block for all values beside what the first was given: twice the
    # memory and more, for no time that could be measured.
    options.enable_mem_pattern = False
    # Threads that spin between evaluations would starve the sampler's update.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in sides.items():
        options.add_free_dimension_override_by_name(name, value)
    session: OrtSession = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session


@cache
def _kinds() -> tuple[type[Exception], ...]:
    """What it raises: classes of its own, which share no base below Exception."""
    native = import_onnxruntime().capi.onnxruntime_pybind11_state
    own = (each for each in vars(native).values() if isinstance(each, type) and issubclass(each, Exception))
    return (*CPLUSPLUS, *own)
