"""One thread at a time compiles for a GPU, runs for the first time, or captures.

Compilers choose algorithms by timing them, and wait for the whole device: that invalidates whatever any thread of the
process captures at the time. A capture itself begins in the same way.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from mrs.runtime.pool import Pool
from mrs.runtime.request import Request

# A pool of one, not a lock: an interrupt ends the wait, and wherever it comes it leaves nothing taken for ever. Whoever
# is inside takes no worker of another pool.
_TURN: Pool[None] = Pool([None], sys.maxsize)


def alone() -> AbstractContextManager[None]:
    """A context in which no other thread is; for `with` itself. A thread may enter it again within."""
    return nullcontext() if _TURN.mine else _TURN.worker(Request())


@contextmanager
def no_collections() -> Iterator[None]:
    """A context in which Python collects no garbage, for a capture; one at a time, as `alone` has it.

    A collection may find an older graph, in the traceback of an error that was kept for example. To destroy one gives
    memory back to the GPU, which ends a capture.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
