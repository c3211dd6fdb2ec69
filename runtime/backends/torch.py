"""torch on an NVIDIA GPU: needs no engine. The plan's ONNX graph as calls of torch, channels last.

Weights and activations between convolutions have the plan's precision. What lies between a convolution and the next is
computed in float32: the norms with their statistics and epsilon, the modulation by time, the means of the attention.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mrs.runtime.backends.protocol import F32, MEANS, Shape
from mrs.runtime.driver import why_unseen
from mrs.runtime.errors import BackendError
from mrs.runtime.libraries import first_line, installed_version

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# The flags of cuDNN belong to the whole process: two threads would undo each other's.
_FLAGS = threading.Lock()
# The first GPU that computes bfloat16, by compute capability.
AMPERE = (8, 0)


class TorchNetwork:
    """A graph as calls of torch on buffers of its own."""

    def __init__(
        self, graph: bytes, modulation: F32, shape: Shape, precision: str, device: str, compiled: bool
    ) -> None:
        import torch

        dtype = getattr(torch, DTYPES[precision])
        count, halves, height, width = shape
        layout = torch.channels_last
        self.packed = torch.zeros(shape, dtype=dtype, device=device).contiguous(memory_format=layout)
        output = (count, halves // 2, height, width)
        self.output = torch.zeros(output, dtype=dtype, device=device).contiguous(memory_format=layout)
        function = graph_function(graph, dtype, device)

        def into(packed: Tensor, vectors: Tensor, out: Tensor) -> None:
            out.copy_(function(packed, vectors))

        self._rows: Any = None
        self.retime(modulation)
        # What does not fit together is found now, before it is compiled.
        self._into: Callable[[Tensor, Tensor, Tensor], None] = into
        self.evaluate(0)
        self.output.zero_()
        if compiled:
            # Replays are ours: graphs of torch's own would copy inputs and outputs.
            self._into = torch.compile(into, fullgraph=True, dynamic=False)

    def evaluate(self, step: int) -> None:
        import torch

        try:
            # Tensor cores round float32 to 10 bits where they may; other algorithms sum in another order each time.
            exactly = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            with _FLAGS, torch.inference_mode(), exactly:
                self._into(self.packed, self._rows[step], self.output)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError) as error:
            raise BackendError(f"torch failed at step {step}: {first_line(error)}") from error

    def retime(self, modulation: F32) -> None:
        import torch

        # One array, a row per step: choosing a step copies nothing. Captured graphs keep the addresses.
        rows = torch.from_numpy(modulation[:, None, :, None, None].copy())
        if self._rows is not None and self._rows.shape == rows.shape:
            self._rows.copy_(rows)
        else:
            self._rows = rows.to(self.packed.device)

    def export(self) -> bytes | None:
        return None


class Torch:
    """See `protocol.Backend`.

    Args:
        name: as in plans and options.
        compiled: run through torch.compile, which fuses; otherwise operation by operation.
        place: torch's name of the device.
    """

    device = "cuda"
    # Halves of one output are views here.
    forms: tuple[tuple[str, str], ...] = (("layernorm", "split"),)

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
        if self._place == "cpu" or torch.cuda.is_available():
            return None
        if torch.version.cuda is None:
            return "this torch is a build for CPUs: install one for CUDA"
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

    def compile(self, graph: bytes, modulation: F32, shape: Shape, precision: str, threads: int) -> TorchNetwork:
        import torch

        if precision not in self.precisions():
            raise BackendError(f"{self.name} runs no {precision} on this GPU", hint="use precision fp32")
        try:
            return TorchNetwork(graph, modulation, shape, precision, self._place, self._compiled)
        except (BackendError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:
            raise BackendError(f"{self.name} cannot run the graph for {shape}: {first_line(error)}") from error

    def restore(self, engine: bytes, modulation: F32, shape: Shape, precision: str, threads: int) -> TorchNetwork:
        raise BackendError(f"{self.name} has no compiled engines")


def graph_function(graph: bytes, dtype: Any, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of `packed` and `modulation` that computes the graph's `output`.

    Args:
        graph: an ONNX model as export/graph.py writes it.
        dtype: of torch, of convolutions.
        device: where the weights go.

    Raises:
        BackendError: for an operation that is none of that file's.
    """
    import onnx
    import torch
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import numpy_helper

    try:
        model = onnx.load_from_string(graph).graph
    except DecodeError as error:
        raise BackendError(f"the graph cannot be read: {first_line(error)}") from None
    if not model.node:
        raise BackendError("the graph is empty", hint="build the plan again")
    values: dict[str, Any] = {}
    for tensor in model.initializer:
        array = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        if array.ndim == 4 and tensor.name.startswith(MEANS):
            array = array.contiguous(memory_format=torch.channels_last)
        elif array.ndim == 4:
            array = array.to(device, dtype).contiguous(memory_format=torch.channels_last)
        # Sizes and axes are numbers to torch.
        values[tensor.name] = array.to(device) if array.is_floating_point() else array.tolist()
    steps: list[tuple[Callable[..., Any], list[str], list[str]]] = []
    for node in model.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        constants = {name: values[name] for name in node.input if name in values}
        if node.op_type not in OPERATIONS:
            raise BackendError(f"torch does not know the graph's operation {node.op_type}", hint="build the plan again")
        bias = constants.get(node.input[2]) if node.op_type == "Conv" and len(node.input) > 2 else None
        if bias is not None:
            values[node.input[2]] = bias.to(dtype)
        steps.append((OPERATIONS[node.op_type](attributes), list(node.input), list(node.output)))
    # What a step no longer needs is let go: a network's skips alone fill memory enough.
    last = {name: number for number, (_, inputs, _) in enumerate(steps) for name in inputs}

    def run(packed: Tensor, modulation: Tensor) -> Tensor:
        known = {**values, "packed": packed, "modulation": modulation}
        for number, (operation, inputs, outputs) in enumerate(steps):
            made = operation(*(known[name] for name in inputs))
            known.update(zip(outputs, made if len(outputs) > 1 else (made,), strict=True))
            for name in set(inputs):
                if last[name] == number and name not in values:
                    del known[name]
        output: Tensor = known["output"]
        return output

    return run


Attributes = dict[str, Any]
Operation = Callable[..., Any]


def _conv(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    stride, pad, groups = attributes["strides"], attributes["pads"][:2], attributes["group"]

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x.to(weight.dtype), weight, bias, stride, pad, 1, groups)

    return conv


def _split(attributes: Attributes) -> Operation:
    return lambda x, sizes: x.split(sizes, attributes["axis"])


def _transpose(attributes: Attributes) -> Operation:
    return lambda x: x.permute(attributes["perm"])


def _layer_norm(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    return lambda x, gain: F.layer_norm(x.float(), gain.shape, gain, None, attributes["epsilon"])


def _mean(attributes: Attributes) -> Operation:
    return lambda x, axes: x.float().mean(axes, keepdim=bool(attributes["keepdims"]))


def _length(attributes: Attributes) -> Operation:
    import torch

    return lambda x, axes: torch.linalg.vector_norm(x.float(), dim=axes, keepdim=bool(attributes["keepdims"]))


def _pixel_shuffle(attributes: Attributes) -> Operation:
    import torch.nn.functional as F

    return lambda x: F.pixel_shuffle(x, attributes["blocksize"])


def _plain(function: Operation) -> Callable[[Attributes], Operation]:
    return lambda attributes: function


# By the names of ONNX. Sums and products take the wider of two types, as torch does: float32 wherever a norm's
# statistics or the modulation take part, until the next convolution.
OPERATIONS: dict[str, Callable[[Attributes], Operation]] = {
    "Add": _plain(lambda x, y: x + y),
    "Conv": _conv,
    "DepthToSpace": _pixel_shuffle,
    "Div": _plain(lambda x, y: x / y),
    "GlobalAveragePool": _plain(lambda x: x.float().mean((2, 3), keepdim=True)),
    "LayerNormalization": _layer_norm,
    "Max": _plain(lambda x, y: x.maximum(y)),
    "Mul": _plain(lambda x, y: x * y),
    "ReduceL2": _length,
    "ReduceMean": _mean,
    "Split": _split,
    "Sqrt": _plain(lambda x: x.sqrt()),
    "Sub": _plain(lambda x, y: x - y),
    "Transpose": _transpose,
}
