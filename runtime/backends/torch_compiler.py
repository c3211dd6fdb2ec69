"""torch.compile for networks: compiled once for each structure, shape and precision, and its failures as ours."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from types import FunctionType
from typing import TypeVar, cast

from mrs.runtime.errors import BackendError
from mrs.runtime.system.handlers import let_through
from mrs.runtime.system.libraries import first_line
from mrs.runtime.system.toolchain import missing_tool

# Of compiled functions that are kept, networks or none: making one takes half a minute, keeping one some megabytes.
MOST = 64
# What torch would advise where float32 is asked for.
ADVICE = "TensorFloat32 tensor cores"

F = TypeVar("F", bound=Callable[..., object])
_KEPT: OrderedDict[Hashable, Compiled] = OrderedDict()
# Also held while something is compiled: two threads that need the same would both compile it.
_LOCK = threading.RLock()


class Compiled:
    """A function through torch.compile, for arguments of one kind.

    Args:
        function: has shown that it runs without being compiled, so that whatever fails at first is the compiler's.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        import torch

        # Replays are ours: graphs of torch's own would copy inputs and outputs.
        self._function: Callable[..., object] = torch.compile(_with_own_code(function), fullgraph=True, dynamic=False)
        self._ready = False

    def __call__(self, *arguments: object) -> None:
        """Call it, compiled.

        Raises:
            BackendError: where it cannot be compiled.
            OutOfMemoryError: of torch, where memory does not suffice.
        """
        if self._ready:
            self._run(arguments)
            return
        with _LOCK, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=ADVICE)
            self._run(arguments)
            self._ready = True

    def _run(self, arguments: tuple[object, ...]) -> None:
        import torch

        try:
            self._function(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            let_through(error)
            reasons = list(_reasons(error))
            for reason in reasons:
                if isinstance(reason, torch.OutOfMemoryError):
                    raise reason from error
            # Once it has run, this may be the device's failure, which the caller looks into.
            if self._ready and len(reasons) == 1 and isinstance(error, RuntimeError):
                raise
            raise _failure(reasons[-1]) from error


def compiled(key: Hashable, function: Callable[[], Callable[..., object]]) -> Compiled:
    """The compiled function of a key, made where there is none.

    Args:
        key: of everything that changes what is compiled: structure, shape, types, device.
        function: makes the function to compile; it must hold nothing of a single network.
    """
    with _LOCK:
        if key not in _KEPT:
            _KEPT[key] = Compiled(function())
            while len(_KEPT) > MOST:
                _KEPT.popitem(last=False)
        _KEPT.move_to_end(key)
        return _KEPT[key]


def _with_own_code(function: F) -> F:
    """The same function with a code object of its own.

    torch counts by code objects how often something was compiled anew, and refuses the ninth time.
    """
    plain = cast(FunctionType, function)
    return cast(
        F,
        FunctionType(
            plain.__code__.replace(), plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
        ),
    )


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the first cause last; torch has it as an attribute of its own, too."""
    seen: set[int] = set()
    reason: BaseException | None = error
    while reason is not None and id(reason) not in seen:
        seen.add(id(reason))
        yield reason
        reason = getattr(reason, "inner_exception", None) or reason.__cause__


def _failure(reason: BaseException) -> BackendError:
    said = first_line(reason)
    kind = type(reason).__name__
    tool = missing_tool()
    return BackendError(
        f"torch.compile failed: {said if said == kind else f'{kind}: {said}'}",
        hint=tool or "use the backend torch-eager, which compiles nothing",
    )
