"""Operations of torch on the double's memory: in their turn on a stream, or into a graph that is being captured."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.runtime.cuda.behaviour import CAPTURING, WAITING, Behaviour, FailureError, Graph


class _Plain(TorchDispatchMode):
    """A mode without torch's wrapper against its own compiler: nothing is compiled here, and it loads all of that."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class InTurn(_Plain):
    """Lets torch's operations, which happen at once, come after what their stream was given."""

    def __init__(self, device: Behaviour) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.device.capturing is None and (not _may_be_view(func) or _may_copy(func)):
            self.device.catch_up(self.device.current())
        return func(*args, **(kwargs or {}))


class Recorder(_Plain):
    """Records torch's operations during a capture, whose results lie in memory of the graph's own."""

    def __init__(self, device: Behaviour, graph: Graph) -> None:
        super().__init__()
        self.device, self.graph = device, graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in WAITING:
            raise FailureError(f"{CAPTURING}: {name}")
        if _may_be_view(func):
            result = func(*args, **kwargs)
            if not _may_copy(func) or _is_of(result, args):
                return result
        self.device.check_captured(name)
        if func._schema.is_mutable:
            # What is written keeps its values until the first replay.
            assert name.endswith("_"), name
            self.graph.calls.append((name, lambda: func(*args, **kwargs)))
            return args[0]
        # Carried out once for the shapes of its results.
        result = func(*args, **kwargs)

        def again() -> None:
            for old, new in zip(_tensors(result), _tensors(func(*args, **kwargs)), strict=True):
                old.copy_(new)

        self.graph.calls.append((name, again))
        return result


def _may_be_view(func: Any) -> bool:
    schema = func._schema
    return not schema.is_mutable and any(alias.alias_info is not None for alias in schema.returns)


def _may_copy(func: Any) -> bool:
    """Whether an operation is a view where it can be one, and a copy otherwise, such as `reshape`."""
    return bool(func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def _is_of(result: Any, given: Any) -> bool:
    """Whether a result is memory of what was given."""
    addresses = {tensor.untyped_storage().data_ptr() for tensor in _tensors(list(given))}
    return all(tensor.untyped_storage().data_ptr() in addresses for tensor in _tensors(result))


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for entry in value for tensor in _tensors(entry)] if isinstance(value, (list, tuple)) else []
