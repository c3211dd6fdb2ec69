"""OpenVINO on CPUs: bfloat16 on AMX or AVX-512 where the processor has it, float32 elsewhere."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType

import numpy as np

from mrs.runtime.backends.protocol import F32, Network, Shape
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError
from mrs.runtime.system import forks, machine
from mrs.runtime.system.libraries import CPLUSPLUS, OpenVinoCore, OpenVinoModel, first_line, installed_version, telling

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
OTHERWISE = "use backend onnxruntime"


class OpenVinoNetwork:
    """A compiled model whose input and output tensors are our own arrays."""

    def __init__(self, compiled: OpenVinoModel, modulation: F32, shape: Shape) -> None:
        self.packed = np.zeros(shape, np.float32)
        self.output = np.empty(tuple(compiled.output("output").shape), np.float32)
        sides = {value.any_name: tuple(value.shape) for value in compiled.inputs}
        self.context = np.zeros(sides["context"], np.float32) if "context" in sides else None
        self._timed = "modulation" in sides
        self.retime(modulation)
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._bind()
        _LIBRARY.kept(self, compiled.get_property("INFERENCE_NUM_THREADS"))

    def share(self, other: Network) -> None:
        """Work on the buffers of another network of the same shape."""
        self.packed, self.output, self.context = other.packed, other.output, other.context
        with telling("openvino cannot share the buffers of another network", hint="build the plan again"):
            self._bind()

    def _bind(self) -> None:
        import openvino

        self._request.set_tensor("packed", openvino.Tensor(self.packed, shared_memory=True))
        self._request.set_tensor("output", openvino.Tensor(self.output, shared_memory=True))
        if self.context is not None:
            self._request.set_tensor("context", openvino.Tensor(self.context, shared_memory=True))

    def evaluate(self, step: int) -> None:
        with telling(f"openvino failed at step {step}", hint=OTHERWISE):
            if self._timed:
                self._request.set_tensor("modulation", self._modulations[step])
            self._request.infer()

    def retime(self, modulation: F32) -> None:
        import openvino

        # One tensor per step over the rows of one array: choosing a step copies nothing.
        self._rows = np.ascontiguousarray(modulation[:, None, :, None, None])
        self._modulations = [openvino.Tensor(row, shared_memory=True) for row in self._rows]

    def export(self) -> bytes | None:
        with telling("openvino cannot export its engine", hint=OTHERWISE):
            exported: io.BytesIO = self._compiled.export_model()
            return exported.getvalue()


class OpenVinoGraph:
    """See `protocol.Graph`."""

    def __init__(self, compiled: OpenVinoModel, inputs: Mapping[str, F32]) -> None:
        import openvino

        self._inputs = inputs
        self.outputs = {value.any_name: np.empty(tuple(value.shape), np.float32) for value in compiled.outputs}
        self._request = compiled.create_infer_request()
        for name, array in {**inputs, **self.outputs}.items():
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        _LIBRARY.kept(self, compiled.get_property("INFERENCE_NUM_THREADS"))

    def evaluate(self) -> None:
        with telling("openvino failed around the network", hint=OTHERWISE):
            self._request.infer()


class OpenVino:
    """See `protocol.Backend`."""

    name = "openvino"
    device = "cpu"
    # Measured: a permuted LayerNormalization and a split output are slower on every network here (docs/export.md).
    variants: tuple[tuple[str, str], ...] = (("length", "weights"), ("raw", "weights"), ("convolution", "weights"))

    def missing(self) -> str | None:
        if importlib.util.find_spec("openvino") is None:
            return "openvino is not installed: pip install openvino"
        try:
            devices = core().available_devices
        except (ImportError, *CPLUSPLUS) as error:
            return f"openvino does not load: {first_line(error)}"
        return None if "CPU" in devices else "openvino has no CPU plugin here: reinstall openvino"

    def version(self) -> str:
        return installed_version("openvino")

    def precisions(self) -> tuple[str, ...]:
        with telling("openvino does not say what this processor computes", hint="reinstall openvino"):
            native = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("fp32", "bf16") if "BF16" in native else ("fp32",)

    def compile(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> OpenVinoNetwork:
        self._check(precision)
        with telling(f"openvino cannot compile the graph for {shape}", hint=_hint(precision)):
            model = core().read_model(graph)
            sides = {"packed": list(shape), "modulation": [1, modulation.shape[1], 1, 1]}
            names = {value.any_name for value in model.inputs}
            if "context" in names:
                sides["context"] = [shape[0], model.input("context").partial_shape[1].get_length(), 1, 1]
            model.reshape({name: sides[name] for name in names})
            compiled = core().compile_model(model, "CPU", _settings(precision, settings.threads))
            made = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            # Asked for bfloat16 it falls back without a word.
            if precision == "bf16" and made == PRECISIONS["fp32"]:
                raise BackendError("openvino computes in float32 here where bf16 is asked for", hint=_hint(precision))
            return OpenVinoNetwork(compiled, modulation, shape)

    def compile_graph(
        self, graph: bytes, inputs: Mapping[str, F32], sides: Mapping[str, int], settings: CompileSettings
    ) -> OpenVinoGraph:
        """See `protocol.GraphCompiler`. It makes out the sides by itself."""
        self._check("fp32")
        with telling("openvino cannot compile a graph around the network", hint=_hint("fp32")):
            model = core().read_model(graph)
            model.reshape({name: list(array.shape) for name, array in inputs.items()})
            return OpenVinoGraph(core().compile_model(model, "CPU", _settings("fp32", settings.threads)), inputs)

    def restore(
        self, engine: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> OpenVinoNetwork:
        self._check(precision)
        with telling(f"openvino cannot load its engine for {shape}", hint="build the plan again"):
            compiled = core().import_model(io.BytesIO(engine), "CPU", _settings(precision, settings.threads))
            return OpenVinoNetwork(compiled, modulation, shape)

    def _check(self, precision: str) -> None:
        # It would compile on the threads of a network that was let go of, and wait for them for ever.
        if _LIBRARY.lost:
            raise BackendError(
                "openvino can compile nothing here: this process was forked from one that let go of networks",
                hint="begin processes with spawn, not fork, or use backend onnxruntime",
            )
        # OpenVINO itself would emulate what the processor lacks, or fall back without a word.
        if precision not in self.precisions():
            raise BackendError(f"openvino runs no {precision} on this processor", hint=_hint(precision))


def _hint(precision: str) -> str:
    """What to do where a graph cannot be compiled."""
    limit = next((name for name in machine.INSTRUCTION_LIMITS if os.environ.get(name)), None)
    if limit is not None:
        return f"unset {limit}, which hides instructions of this processor"
    return OTHERWISE if precision == "fp32" else "use precision fp32"


_LIBRARY = forks.Library()


@cache
def core() -> OpenVinoCore:
    """OpenVINO's own object, one for this process."""
    return _LIBRARY.kept(_import_silently().Core(), "core")


def _import_silently() -> ModuleType:
    """OpenVINO without its telemetry, which sends usage data over the network when it is imported.

    OpenVINO does without that module where it is not installed, and `None` is how Python marks one that is not.
    """
    known = "openvino_telemetry" in sys.modules
    if not known:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if not known:
            del sys.modules["openvino_telemetry"]
    return openvino


def _settings(precision: str, threads: int) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Networks that leave processors to others would all be pinned to the same first ones.
        "ENABLE_CPU_PINNING": threads >= machine.threads(),
    }
