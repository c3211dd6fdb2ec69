"""What a fork leaves of this process: one thread, and libraries that believe their threads are still there."""

from __future__ import annotations

import os
import threading


class _Forks:
    """Of the processes that this one comes from.

    Attributes:
        count: how many forks lie between the first process and this one.
        survivor: the thread that is left of the process before, by its `get_ident`.
    """

    count = 0
    survivor = 0

    def happened(self) -> None:
        self.count, self.survivor = self.count + 1, threading.get_ident()


_FORKS = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_FORKS.happened)


class Origin:
    """The thread and the process in which it was made."""

    def __init__(self) -> None:
        self.thread, self._count = threading.get_ident(), _FORKS.count

    @property
    def here(self) -> bool:
        """Whether that thread may be one of this process: of a process that forked, only the one that did is left."""
        return self._count == _FORKS.count or self.thread == _FORKS.survivor
