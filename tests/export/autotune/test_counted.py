"""A build that takes minutes says how far it is; one of seconds says nothing more than it did."""

from __future__ import annotations

from mrs.export.autotune.counted import Counted


def test_a_line_now_and_then() -> None:
    lines: list[str] = []
    now = iter([0.0, 1.0, 4.9, 5.0, 5.0, 9.9, 10.1, 10.1])
    counted = Counted("reference", 5, lines.append, lambda: next(now))
    for _ in range(7):
        counted()
    # Beyond what was to be counted there is no line, nor a look at the clock.
    assert lines == ["reference: 2/5 evaluations", "reference: 4/5 evaluations"]


def test_a_short_build_says_nothing() -> None:
    lines: list[str] = []
    counted = Counted("reference", 100, lines.append, lambda: 4.9)
    for _ in range(100):
        counted()
    assert lines == []
