"""What a network's calls of torch launch on a GPU, counted without one: on tensors that have shapes and no memory.

A call that only looks at memory in another way launches nothing. A convolution by cuDNN leaves its bias to a kernel of
its own; a product of matrices adds it, unless there is one row. All else is one kernel. What a kernel must read and
write is every number of its arguments and results once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from mrs.runtime.backends import torch_graph

# What gives another look at the same memory.
VIEWS = frozenset({
    "_unsafe_view", "alias", "as_strided", "detach", "expand", "permute", "select", "slice", "split",
    "split_with_sizes", "squeeze", "t", "transpose", "unsqueeze", "view",
})  # fmt: skip
PRODUCTS = frozenset({"addmm", "convolution", "mm"})
OVER_PIXELS = "mean"
# Of memory formats, the one that all arrays have.
LAST = torch.channels_last


@dataclass(frozen=True)
class Call:
    """A call that launches something.

    Attributes:
        name: of torch's operation.
        launches: kernels.
        read, written: bytes.
        operations: of floating point that tensor cores do, a product and a sum being two.
        inputs, outputs: numbers of the memory that it reads and writes, the same for all views.
        sums: whether it sums over what several programs compute, so that what follows must wait for a kernel's end.
    """

    name: str
    launches: int
    read: int
    written: int
    operations: int
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    sums: bool

    @property
    def product(self) -> bool:
        """Whether it is one for tensor cores."""
        return self.name in PRODUCTS


def network_calls(graph: bytes, shape: tuple[int, int, int, int], dtype: torch.dtype, compiled: bool) -> list[Call]:
    """The calls of one evaluation.

    Args:
        graph: as an architecture of mrs.export writes it.
        shape: (N, 2C, H, W) of the input.
        dtype: of convolutions.
        compiled: those that `torch` gives to the compiler, otherwise those that `torch-eager` makes.
    """
    structure, arrays = torch_graph.read(graph)
    weights = torch_graph.weights_of(structure, arrays, dtype, "meta")
    program = torch_graph.program_of(structure, compiled)
    count, halves, height, width = shape
    packed = torch.empty(shape, dtype=dtype, device="meta").contiguous(memory_format=LAST)
    output = torch.empty((count, halves // 2, height, width), dtype=dtype, device="meta").contiguous(memory_format=LAST)
    vectors = torch.empty((1, vectors_of(graph), 1, 1), device="meta")
    return calls_of(lambda: output.copy_(program(packed, vectors, weights)))


def vectors_of(graph: bytes) -> int:
    """Numbers of the input `modulation`."""
    import onnx

    (found,) = (value for value in onnx.load_from_string(graph).graph.input if value.name == "modulation")
    return int(found.type.tensor_type.shape.dim[1].dim_value)


def calls_of(work: Callable[[], object]) -> list[Call]:
    """What `work` launches; its tensors are on the device `meta`."""
    with torch.no_grad(), _Recorder() as recorder:
        work()
    return recorder.calls


@dataclass(frozen=True)
class Kernel:
    """What at best is one launch of compiled calls.

    Attributes:
        moved: bytes, each array read once and written once.
        operations: as of a `Call`.
    """

    moved: int
    operations: int


def fused(calls: Sequence[Call]) -> list[Kernel]:
    """The fewest launches and bytes of a compiler that keeps products as they are.

    Everything between two products is one kernel, which reads and writes what other kernels need. A mean over all
    pixels takes a second one, for what the programs of the first have summed; its bytes are not counted.
    """
    uses = Counter(each for call in calls for each, _ in call.inputs)
    depths: dict[int, int] = {}
    makers: dict[int, int] = {}
    groups: list[int] = []
    for number, call in enumerate(calls):
        depth = max((depths.get(each, 0) for each, _ in call.inputs), default=0)
        groups.append(number)
        if not call.product:
            for each, _ in call.inputs:
                maker = makers.get(each)
                if maker is None or calls[maker].product or calls[maker].sums:
                    continue
                # Nothing that the one needs can need the other.
                if depths[each] == depth or uses[each] == 1:
                    old, new = groups[maker], groups[number]
                    groups = [new if group == old else group for group in groups]
        for each, _ in call.outputs:
            makers[each], depths[each] = number, depth + (call.product or call.sums)
    users: dict[int, set[int]] = {}
    for number, call in enumerate(calls):
        for each, _ in call.inputs:
            users.setdefault(each, set()).add(groups[number])
    kernels = []
    for group in dict.fromkeys(groups):
        members = [call for number, call in enumerate(calls) if groups[number] == group]
        sizes: dict[int, int] = {}
        for call in members:
            for each, size in (*call.inputs, *call.outputs):
                sizes[each] = max(size, sizes.get(each, 0))
        own = {each for call in members for each, _ in call.outputs}
        # What nobody uses is the result.
        kept = {each for each in own if users.get(each, {None}) != {group}}
        inputs = {each for call in members for each, _ in call.inputs} - own
        moved = sum(sizes[each] for each in inputs | kept)
        kernels.append(Kernel(moved, sum(call.operations for call in members)))
        kernels += [Kernel(0, 0)] * sum(call.name == OVER_PIXELS for call in members)
    return kernels


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._numbers: dict[int, int] = {}
        # Kept, so that no other gets the same number.
        self._tensors: list[Tensor] = []

    def __torch_dispatch__(
        self, function: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        name = str(function.overloadpacket.__name__)
        if name == "convolution":
            # As cuDNN does for inputs with their channels last.
            made = made.contiguous(memory_format=LAST) if args[0].is_contiguous(memory_format=LAST) else made
        if name not in VIEWS:
            self._note(name, args, made)
        return made

    def _note(self, name: str, args: tuple[Any, ...], made: object) -> None:
        given = list(_tensors(args))
        results = list(_tensors((made,)))
        if name == "copy_":
            results, given = given[:1], given[1:]
        if name == "native_layer_norm":
            # The others, a number for each pixel, are for training.
            results = results[:1]
        launches, again = 1, 0
        if name == "convolution" and args[2] is not None:
            # Its bias is added in place.
            launches, again = 2, _bytes(results[0])
        if name == "addmm" and args[1].shape[0] == 1:
            launches, again = 2, _bytes(results[0])
        self.calls.append(
            Call(
                name,
                launches,
                sum(map(_bytes, given)) + again,
                sum(map(_bytes, results)) + again,
                _operations(name, args, results),
                tuple((self._number(each), _bytes(each)) for each in given),
                tuple((self._number(each), _bytes(each)) for each in results),
                name in (OVER_PIXELS, "sum"),
            )
        )

    def _number(self, tensor: Tensor) -> int:
        self._tensors.append(tensor)
        return self._numbers.setdefault(tensor.untyped_storage()._cdata, len(self._numbers))


def _tensors(values: Iterable[object]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _operations(name: str, args: tuple[Any, ...], results: list[Tensor]) -> int:
    if name == "convolution":
        return 2 * results[0].numel() * prod(args[1].shape[1:])
    if name in PRODUCTS:
        return 2 * results[0].numel() * args[-2].shape[1]
    return 0
