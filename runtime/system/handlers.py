"""Errors that the handlers of signals raise: they may come out of any code of Python, and are the caller's own."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from functools import partial
from types import CodeType


def let_through(error: BaseException) -> None:
    """Raise what a signal's handler raised, where an error was made of that."""
    found = of_a_handler(error)
    if found is not None:
        raise found


def of_a_handler(error: BaseException) -> BaseException | None:
    """What a signal's handler raised, of which an error was made; the error itself where that is it; None otherwise.

    It is told by the code that the error has come through, for its class may be any. An error that is handled already,
    within which another one was raised, does not count.
    """
    codes = set(_codes())
    found, seen = None, set()
    reason: BaseException | None = error
    while reason is not None and id(reason) not in seen:
        seen.add(id(reason))
        through = any(frame.f_code in codes for frame, _ in traceback.walk_tb(reason.__traceback__))
        if through:
            found = reason
        # torch has the first cause as an attribute, or gives its traceback to an error of its own and hides it.
        cause = getattr(reason, "inner_exception", None) or reason.__cause__
        reason = cause or (reason.__context__ if through else None)
    return found


def _codes() -> Iterator[CodeType]:
    """The code of every handler that is set now."""
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        if callable(handler):
            # Of a function or a method, or of what can be called like one.
            code = getattr(handler, "__code__", None) or getattr(handler.__call__, "__code__", None)
            if isinstance(code, CodeType):
                yield code
