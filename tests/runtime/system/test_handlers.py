"""What the handler of a signal raises is told from what other code raises, by whatever it was wrapped in."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from mrs.runtime.system.handlers import let_through, of_a_handler

pytestmark = pytest.mark.signals


class HandlerError(RuntimeError):
    """Of a handler."""


def fail() -> None:
    raise HandlerError("too late")


def function(*_: object) -> None:
    fail()


class Object:
    def method(self, *_: object) -> None:
        fail()

    def __call__(self, *_: object) -> None:
        fail()


def with_more(more: str, *_: object) -> None:
    fail()


HANDLERS: dict[str, Any] = {
    "function": function, "method": Object().method, "object": Object(), "partial": partial(with_more, "more"),
}  # fmt: skip


@pytest.fixture(params=HANDLERS)
def press(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Send a signal, whose handler raises."""
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def as_it_is(error: Exception) -> None:
    raise error


def with_a_cause(error: Exception) -> None:
    raise OSError("wrapped") from error


def as_an_attribute(error: Exception) -> None:
    wrapped = OSError("wrapped")
    wrapped.inner_exception = error  # type: ignore[attr-defined]
    raise wrapped


def hidden(error: Exception) -> None:
    raise OSError("wrapped").with_traceback(error.__traceback__) from None


@pytest.mark.parametrize("wrap", [as_it_is, with_a_cause, as_an_attribute, hidden])
def test_what_a_handler_raised_is_found(press: Callable[[], None], wrap: Callable[[Exception], None]) -> None:
    raised: list[Exception] = []

    def work() -> None:
        try:
            press()
        except HandlerError as error:
            raised.append(error)
            wrap(error)

    with pytest.raises((HandlerError, OSError)) as caught:
        work()
    assert of_a_handler(caught.value) is raised[0]
    with pytest.raises(HandlerError):
        let_through(caught.value)


def test_what_other_code_raises_is_not_a_handlers(press: Callable[[], None]) -> None:
    with pytest.raises(HandlerError) as caught:
        fail()
    assert of_a_handler(caught.value) is None
    let_through(caught.value)


def test_what_comes_later_is_not_a_handlers(press: Callable[[], None]) -> None:
    def work() -> None:
        try:
            press()
        except HandlerError:
            raise OSError("later")  # noqa: B904  # as whoever does not think of it

    with pytest.raises(OSError, match="later") as later:
        work()
    assert isinstance(later.value.__context__, HandlerError)
    assert of_a_handler(later.value) is None


def test_without_handlers_nothing_is_theirs() -> None:
    with pytest.raises(HandlerError) as caught:
        fail()
    assert of_a_handler(caught.value) is None
