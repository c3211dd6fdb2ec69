"""Time that passes only where somebody takes it: runs of minutes are rehearsed in none, however busy the machine is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Time:
    """A clock as `processes.Clock`, whose seconds pass by `sleep`, or by `take` where something takes them.

    Attributes:
        interrupted: when Ctrl-C is pressed; None for never.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.interrupted: float | None = None

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.interrupted is not None and self.seconds >= self.interrupted:
            raise KeyboardInterrupt

    take = sleep


class Running:
    """A process that ends by itself `seconds` after now; `inf` for one that hangs."""

    def __init__(self, time: Time, seconds: float, code: int = 0, output: str = "") -> None:
        self.time, self.ends, self.code, self.said = time, time.now() + seconds, code, output
        self.stopped: float | None = None

    def poll(self) -> int | None:
        return self.code if self.time.now() >= self.ends else None

    def stop(self) -> None:
        self.stopped = self.time.now()

    def output(self) -> str:
        return self.said


def synchronous(time: Time, work: Callable[[], int], output: str = "") -> Running:
    """A process that does its work on this clock; meanwhile time passes for others as if it had not begun."""
    begin = time.now()
    code = work()
    seconds, time.seconds = time.now() - begin, begin
    return Running(time, seconds, code, output)


def starter(time: Time, script: dict[str, Any]) -> tuple[Callable[..., Running], list[tuple[float, str]]]:
    """Starts jobs by their names' seconds, or seconds, code and output; and when each was started."""
    started: list[tuple[float, str]] = []

    def start(job: Any, limit: float) -> Running:
        started.append((time.now(), job.name))
        given = script[job.name]
        return Running(time, *(given if isinstance(given, tuple) else (given,)))

    return start, started


class Memory:
    """Rows as `kept.Kept` has them, in a list, with the second at which each was known.

    Attributes:
        rows: (second, case, settings, figures).
        known: rows that were measured before, likewise.
    """

    def __init__(self, time: Time | None = None, known: list[Any] | None = None) -> None:
        self.time, self.rows, self.known = time or Time(), [], known or []  # type: tuple[Time, list[Any], list[Any]]

    def find(self, case: str, settings: Any) -> Any:
        return next((row[3] for row in self.known if (row[1], row[2]) == (case, settings)), None)

    def add(self, case: str, settings: Any, figures: Any) -> None:
        self.rows.append((self.time.seconds, case, settings, figures))
