"""A GPU and chains, as far as a worker looks at them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

from mrs.runtime.device import Stream
from mrs.runtime.networks import Networks
from mrs.runtime.plan import Plan
from mrs.runtime.shared import Shared
from mrs.runtime.worker import Worker

BYTES = ("uint8", "uint8")
PLENTY = 1 << 30


class FakeDevice:
    """A GPU, as far as a worker looks at it."""

    Failure = RuntimeError

    def __init__(self) -> None:
        self.released = 0

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None:
        self.released += 1


class FakeChain:
    def __init__(self, network: Any, size: tuple[int, ...], dtypes: tuple[str, str], bound: Any, shared: Any) -> None:
        self.network, self.size, self.dtypes, self.bound = network, size, dtypes, bound
        self.shared = shared or Shared(network, cast(Stream, object()))
        self.stream = self.shared.stream
        self.closed, self.checked, self.unfinished = False, 0, False
        self.error: Exception | None = None

    def close(self) -> None:
        self.closed = True

    def check(self) -> None:
        self.checked += 1
        if self.error is not None:
            raise self.error


class Made(list[FakeChain]):
    """All chains that were made.

    Attributes:
        errors: raised instead of making the next ones, when their networks are there.
        kept: how many were not closed when each was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []
        self.kept: list[int] = []

    def make(self, device: Any, network: Any, loop: Any, shape: Any, threads: int, **options: Any) -> FakeChain:
        self.kept.append(len(self.open()))
        shared = options["shared"]
        compiled = network() if shared is None else shared.network
        if self.errors:
            raise self.errors.pop(0)
        count, _, height, width = shape
        size = count, height, width
        self.append(FakeChain(compiled, size, options["dtypes"], options["bound"], shared))
        return self[-1]

    def open(self) -> list[FakeChain]:
        return [chain for chain in self if not chain.closed]


def worker_of(plan: Plan, backend: Any, pixels: int = PLENTY, device: FakeDevice | None = None) -> Worker:
    return Worker(Networks(plan, backend, "fp32", 1), pixels, device)


def bound(address: int) -> Any:
    return tuple(SimpleNamespace(data_ptr=lambda a=address + offset: a) for offset in (0, 1000))
