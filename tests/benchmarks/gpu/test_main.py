"""The command: which parts run, for how long, and what it ends with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.suite import Outcome


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that each part was given, on a machine that has a GPU; all go well."""
    given: dict[str, float] = {}

    def part(name: str) -> Callable[..., bool]:
        def run(seconds: float, *_: Any) -> bool:
            given[name] = seconds
            return False

        return run

    monkeypatch.setattr(command.device, "need", lambda: None)
    monkeypatch.setattr(command.device, "about", lambda commit: {"device": "A GPU", "commit": commit})
    for name in ("run_tests", "run_kernels", "run_restores"):
        monkeypatch.setattr(command, name, part(name))
    return given


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], {"run_tests": 48, "run_kernels": 50, "run_restores": 200}),
        (["tests", "kernels"], {"run_tests": 109, "run_kernels": 200}),
        (["tests"], {"run_tests": 200}),
        (["restores", "kernels"], {"run_kernels": 50, "run_restores": 200}),
    ],
    ids=lambda value: " ".join(value),
)
def test_parts_share_the_time(ran: dict[str, float], arguments: list[str], parts: dict[str, float]) -> None:
    assert command.main([*arguments, "--seconds", "200"]) == 0
    # The doubles take none of it.
    assert ran == pytest.approx(parts, abs=4)


def test_a_part_has_what_those_before_it_left(ran: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 70.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    assert command.main(["tests", "kernels", "--seconds", "200"]) == 0
    assert ran == {"run_tests": pytest.approx(190 * 120 / 220), "run_kernels": pytest.approx(130)}


def test_all_of_it_ends_in_time() -> None:
    """Four minutes for the kernels with their tests, nine with whole restores."""
    assert command.PARTS["tests"] + command.PARTS["kernels"] <= 225
    assert sum(command.PARTS.values()) <= 525


@pytest.mark.parametrize("part", ["run_tests", "run_kernels", "run_restores"])
def test_a_wrong_result_ends_with_code_1(ran: dict[str, float], monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(command, part, lambda *_: True)
    assert command.main([]) == 1
    # The other parts are still run.
    assert len(ran) == 2


def test_an_unknown_part_is_refused(ran: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["kernel"]) == 2
    assert capsys.readouterr().err == "error: part 'kernel' is unknown; hint: use tests, kernels, restores\n"
    assert ran == {}


@pytest.mark.parametrize(
    ("outcomes", "wrong"),
    [
        ([Outcome("a.py", 5, 0, 1, 2.0, "", "")], False),
        ([Outcome("a.py", 5, 0, 1, 2.0, "", ""), Outcome("b.py", 1, 2, 0, 1.0, "pytest ended with code 1", "E")], True),
        ([], True),
    ],
    ids=["passed", "failed", "none"],
)
def test_tests_leave_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, outcomes: Any, wrong: bool
) -> None:
    monkeypatch.setattr(command.device, "need", lambda: None)
    monkeypatch.setattr(command.device, "about", lambda commit: {"device": "A GPU", "commit": commit})
    monkeypatch.setattr(command.suite, "run", lambda seconds: outcomes)
    rows = tmp_path / "rows.jsonl"
    assert command.main(["tests", "--rows", str(rows), "--commit", "abc"]) == int(wrong)
    row = json.loads(rows.read_text())
    assert (row["case"], row["device"], row["commit"]) == ("gpu tests", "A GPU", "abc")
    assert row["figures"]["passed"] == sum(outcome.passed for outcome in outcomes)
    assert row["figures"]["trouble"] == [outcome.file for outcome in outcomes if outcome.trouble]
    printed = capsys.readouterr().out
    assert all(str(outcome) in printed for outcome in outcomes)


@pytest.mark.parametrize("wrong", [[], ["start: x is wrong"]], ids=["right", "wrong"])
def test_kernels_are_measured_in_order_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    from benchmarks.gpu import cases, kernels

    asked: list[Any] = []

    class Bench:
        def __init__(self, clock: Any, budget: Any, keep: Any) -> None:
            asked.extend([clock, round(budget.left), keep])

        def run(self, *groups: Any) -> Any:
            asked.extend(groups)
            return kernels.Findings(wrong=wrong)

    monkeypatch.setattr(kernels, "clock_of", lambda: "a clock")
    monkeypatch.setattr(kernels, "Bench", Bench)
    about = {"device": "A GPU", "driver": "", "commit": "", "versions": {"cuda": "", "torch": "", "triton": ""}}
    assert command.run_kernels(77, "a keep", about) == bool(wrong)
    assert asked == ["a clock", 77, "a keep", cases.bar_cases(), cases.rival_cases(), cases.other_cases()]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("A GPU, driver unknown")
    assert [line for line in printed if "WRONG" in line] == [f"WRONG: {line}" for line in wrong]
