"""What a fork leaves of this process: one thread, and libraries that believe their own threads are still there."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Hashable
from typing import TypeVar

T = TypeVar("T")


class _Forks:
    """Of the processes that this one comes from.

    Attributes:
        count: how many forks lie between the first process and this one.
        survivor: the thread that is left of the process before, by its `get_ident`.
        libraries: every `Library`.
    """

    count = 0
    survivor = 0

    def __init__(self) -> None:
        self.libraries: list[Library] = []

    def happened(self) -> None:
        self.count, self.survivor = self.count + 1, threading.get_ident()
        for library in self.libraries:
            library.forked()


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


class Library:
    """What a library with threads of its own has made.

    In a forked process none of it is ever freed, not even when that ends: it would wait for threads that are not there.

    Attributes:
        lost: whether the library may give a new thing the threads of one that was freed before this process was forked.
    """

    def __init__(self) -> None:
        self._alive: dict[Hashable, list[weakref.ref[object]]] = {}
        self._most: dict[Hashable, int] = {}
        self.lost = False
        _FORKS.libraries.append(self)

    def kept(self, thing: T, kind: Hashable = None) -> T:
        """Know of a thing that has threads; `kind` tells apart those that never get each other's."""
        alive = self._alive.setdefault(kind, [])
        alive.append(weakref.ref(thing, alive.remove))
        self._most[kind] = max(self._most.get(kind, 0), len(alive))
        return thing

    def forked(self) -> None:
        """In the child: keep all for ever, and note what threads nobody has."""
        for kind, alive in self._alive.items():
            if len(alive) < self._most[kind]:
                self.lost = True
            for reference in alive:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(reference()))
            self._most[kind] = 0
            alive.clear()
