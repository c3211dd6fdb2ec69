"""torch on an NVIDIA GPU: needs no engine. The plan's ONNX graph as calls of torch, see torch_graph.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mrs.runtime.backends.onnx_graph import context_length, parse
from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.backends.torch_compiler import compiled as compiled_once
from mrs.runtime.backends.torch_graph import function_of, program_of, read, weights_of
from mrs.runtime.backends.torch_settings import exactly
from mrs.runtime.errors import BackendError
from mrs.runtime.system.handlers import let_through
from mrs.runtime.system.libraries import first_line, installed_version
from mrs.runtime.system.nvidia_driver import why_unseen
from mrs.runtime.system.toolchain import missing_tool

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
FOR_CPUS = "this torch is a build for CPUs: pip uninstall torch, then pip install 'mrs-trt[gpu]'"
# The first GPU that computes bfloat16, by compute capability.
AMPERE = (8, 0)

Into = Callable[["Tensor", "Tensor", "Tensor", "Sequence[Tensor]"], None]


class TorchNetwork:
    """A graph as calls of torch on buffers of its own."""

    def __init__(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, device: str, compiled: bool
    ) -> None:
        import torch

        dtype = getattr(torch, DTYPES[precision])
        count, halves, height, width = shape
        layout = torch.channels_last
        self._kind = torch.device(device).type
        self.packed = torch.zeros(shape, dtype=dtype, device=device).contiguous(memory_format=layout)
        output = (count, halves // 2, height, width)
        self.output = torch.zeros(output, dtype=dtype, device=device).contiguous(memory_format=layout)
        structure, arrays = read(graph)
        self._weights = weights_of(structure, arrays, dtype, device)
        length = context_length(parse(structure))
        self.context = torch.zeros((count, length, 1, 1), device=device) if length else None
        if self.context is not None:
            self._weights.append(self.context)
        self._rows = torch.empty(0)
        self.retime(modulation)
        # What does not fit together is found now, before it is compiled.
        self._into = _into(structure, compiled=False)
        self.evaluate(0)
        self.output.zero_()
        if compiled:
            self._into = compiled_once((structure, shape, precision, device), lambda: _into(structure, compiled=True))

    def evaluate(self, step: int) -> None:
        import torch

        with (
            _told(f"torch failed at step {step}"),
            exactly(),
            torch.inference_mode(),
            torch.autocast(self._kind, enabled=False),
        ):
            self._into(self.packed, self._rows[step], self.output, self._weights)

    def retime(self, modulation: F32) -> None:
        import torch

        # Whatever mode of torch the caller is in, they may be written in all.
        with torch.inference_mode(False):
            # One array, a row per step: choosing a step copies nothing. Captured graphs keep the addresses.
            rows = torch.from_numpy(modulation[:, None, :, None, None].copy())
            if self._rows.shape == rows.shape:
                self._rows.copy_(rows)
            else:
                self._rows = rows.to(self.packed.device)

    def export(self) -> bytes | None:
        return None


class TorchGraph:
    """See `protocol.Graph`."""

    def __init__(self, graph: bytes, inputs: Mapping[str, Tensor], device: str, compiled: bool) -> None:
        import torch

        structure, arrays = read(graph)
        weights = weights_of(structure, arrays, torch.float32, device)
        names = [value.name for value in parse(structure).graph.output]
        self._inputs, self._weights = tuple(inputs.values()), weights
        self._kind = torch.device(device).type
        function = function_of(structure, False, tuple(inputs))
        # What does not fit together is found now, before it is compiled, and so are the sides.
        with exactly(), torch.inference_mode():
            shapes = [tuple(made.shape) for made in function(self._inputs, weights)]
        self.outputs = {name: torch.zeros(shape, device=device) for name, shape in zip(names, shapes, strict=True)}
        self._made = tuple(self.outputs.values())
        if compiled:
            key = (structure, tuple((name, tuple(given.shape)) for name, given in inputs.items()), device)
            self._into: Callable[..., object] = compiled_once(key, lambda: _all_into(structure, True, tuple(inputs)))
        else:
            self._into = _all_into(structure, False, tuple(inputs))

    def evaluate(self) -> None:
        """See `protocol.Graph`."""
        import torch

        with (
            _told("torch failed around the network"),
            exactly(),
            torch.inference_mode(),
            torch.autocast(self._kind, enabled=False),
        ):
            self._into(self._inputs, self._made, self._weights)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what torch raises into ours, but for a lack of memory, which is the chain's to tell."""
    import torch

    try:
        yield
    except (BackendError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, IndexError) as error:
        let_through(error)
        raise BackendError(f"{what}: {first_line(error)}") from error


class Torch:
    """See `protocol.Backend`.

    Args:
        name: as in plans and options.
        compiled: run through torch.compile, which fuses; otherwise operation by operation.
        place: torch's name of the device.
    """

    device = "cuda"
    # Halves of one output are views here.
    variants: tuple[tuple[str, str], ...] = (("layernorm", "split"),)

    def __init__(self, name: str, compiled: bool, place: str = "cuda") -> None:
        self.name, self._compiled, self._place = name, compiled, place

    def missing(self) -> str | None:
        for name in ("torch", "triton", "onnx"):
            if importlib.util.find_spec(name) is None:
                return f"{name} is not installed: pip install 'mrs-trt[gpu]'"
        try:
            import torch
        except (ImportError, OSError) as error:
            return f"torch does not load: {first_line(error)}"
        if self._place == "cpu":
            return None
        if torch.cuda.is_available():
            return missing_tool()
        if torch.version.cuda is None:
            return FOR_CPUS
        return why_unseen(torch.version.cuda)

    def version(self) -> str:
        return installed_version("torch")

    def precisions(self) -> tuple[str, ...]:
        import torch

        if self._place != "cpu" and not torch.cuda.is_available():
            return ("fp32",)
        if self._place == "cpu" or torch.cuda.get_device_capability() >= AMPERE:
            return ("fp32", "bf16", "fp16")
        return ("fp32", "fp16")

    def compile(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> TorchNetwork:
        import torch

        if precision not in self.precisions():
            raise BackendError(f"{self.name} runs no {precision} on this GPU", hint="use precision fp32")
        with _told(f"{self.name} cannot run the graph for {shape}"), torch.inference_mode(False):
            return TorchNetwork(graph, modulation, shape, precision, self._where(), self._compiled)

    def compile_graph(
        self, graph: bytes, inputs: Mapping[str, Tensor], sides: Mapping[str, int], settings: CompileSettings
    ) -> TorchGraph:
        """See `protocol.GraphCompiler`. The inputs tell the sides."""
        import torch

        with _told(f"{self.name} cannot run a graph around the network"), torch.inference_mode(False):
            return TorchGraph(graph, inputs, self._where(), self._compiled)

    def restore(
        self, engine: bytes, modulation: F32, shape: Shape, precision: str, settings: CompileSettings
    ) -> TorchNetwork:
        raise BackendError(f"{self.name} has no compiled engines")

    def _where(self) -> str:
        """The GPU by its number: the calling thread's own may be another one later."""
        import torch

        return self._place if self._place != "cuda" else f"cuda:{torch.cuda.current_device()}"


def _all_into(structure: bytes, compiled: bool, names: tuple[str, ...]) -> Callable[..., None]:
    """As `_into`, of a graph with any inputs and outputs."""
    function = function_of(structure, compiled, names)

    def into(inputs: Sequence[Tensor], outputs: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        for out, made in zip(outputs, function(inputs, weights), strict=True):
            out.copy_(made)

    return into


def _into(structure: bytes, compiled: bool) -> Into:
    """A function that writes the output of a graph, see `program_of`; it holds nothing of a single network."""
    program = program_of(structure, compiled)

    def into(packed: Tensor, vectors: Tensor, out: Tensor, weights: Sequence[Tensor]) -> None:
        out.copy_(program(packed, vectors, weights))

    return into
