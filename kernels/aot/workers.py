"""Cases compiled in several processes. Compiled functions cannot travel between processes; names and figures can."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager

from mrs.kernels.aot.binary import Binary
from mrs.kernels.aot.cases import cases
from mrs.kernels.aot.machine_code import MachineCode
from mrs.kernels.aot.report import Figures, measure
from mrs.kernels.threads import NOTICE


def measure_all(pool: Executor, names: list[str], capability: int) -> list[Figures]:
    """Figures of the cases of these names, in their order."""
    by_name = {case.name: case for case in cases()}
    with _no_interrupt():
        found = [pool.submit(_compile, name, capability) for name in names]
    try:
        return [Figures(by_name[name], *_result(future)) for name, future in zip(names, found, strict=True)]
    finally:
        for future in found:
            future.cancel()


def _result(future: Future[tuple[Binary, MachineCode]]) -> tuple[Binary, MachineCode]:
    # Without a timeout Ctrl-C just before it waits would not be seen.
    while wait([future], NOTICE).not_done:
        pass
    return future.result()


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Processes begun in here never see Ctrl-C, which is for their parent; itself it reaches afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _compile(name: str, capability: int) -> tuple[Binary, MachineCode]:
    case = next(case for case in cases() if case.name == name)
    figures = measure(case, capability)
    return figures.binary, figures.code
