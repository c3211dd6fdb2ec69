"""The command: every kernel compiles for every GPU without a spill, a narrow access or a byte too many."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

# Compiling takes a minute or two, and several times that where other programs keep the cores busy.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow(290)]


def rows_of(report: Any) -> dict[tuple[str, str], dict[str, str]]:
    return {(target, name): row for target, rows in report.tables.items() for name, row in rows.items()}


@pytest.mark.parametrize(
    ("which", "targets", "kernels"),
    [("wide", 1, 45), ("half", 6, 7), ("rest", 1, 14)],
    ids=["every wide kernel", "every other GPU", "the other kinds"],
)
def test_the_machine_code_is_as_it_should_be(
    request: pytest.FixtureRequest, which: str, targets: int, kernels: int
) -> None:
    report = request.getfixturevalue(which)
    assert (report.code, report.err) == (0, "")
    assert report.out.endswith(f"{targets * kernels} kernels compiled, 0 faults\n")
    assert {target: len(rows) for target, rows in report.tables.items()} == dict.fromkeys(report.tables, kernels)
    assert len(report.tables) == targets
    for where, row in rows_of(report).items():
        assert 0 < int(row["registers"]) <= 255, where
        assert int(row["spilled"]) == 0, where
        assert row["bytes/element"] == row["minimum"], where


@pytest.mark.parametrize("which", ["wide", "half"])
def test_wide_kernels_have_wide_accesses_alone(request: pytest.FixtureRequest, which: str) -> None:
    for where, row in rows_of(request.getfixturevalue(which)).items():
        accesses = [access.split("x") for access in f"{row['loads x bytes']} {row['stores x bytes']}".split()]
        assert all(access == ["none"] or int(access[1]) >= 16 for access in accesses), where


def test_the_summary_follows_where_there_are_several_targets(half: Any, wide: Any) -> None:
    summary = half.out.partition("\nall\n\n")[2].partition("\n\n")[0].splitlines()
    head = [cell.strip() for cell in summary[0].split("|")[1:-1]]
    assert head[:5] == ["kernel", "bytes/element", "minimum", "narrowest", "spilled"]
    assert head[5:] == ["sm_75", "sm_80", "sm_86", "sm_89", "sm_100", "sm_120"]
    assert len(summary) == 2 + 7
    assert "\nall\n" not in wide.out


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (["--target", "sm_12"], {}, "target 'sm_12' is unknown"),
        (["--kernel", "nothing"], {}, "no kernel has 'nothing' in its name"),
        (["--jobs", "0"], {}, "not a whole number of at least 1"),
        (["--jobs", "two"], {}, "not a whole number of at least 1"),
        (["--write", "/dev/null/x"], {}, "cannot write /dev/null/x"),
        (["stray"], {}, "unrecognized arguments: stray"),
        ([], {"TRITON_INTERPRET": "1"}, "TRITON_INTERPRET is set"),
    ],
    ids=["target", "kernel", "jobs", "jobs in words", "folder", "argument", "interpreter"],
)
def test_a_wrong_input_is_one_error_and_one_hint(
    python: Callable[..., subprocess.CompletedProcess[str]],
    arguments: list[str],
    changes: dict[str, str],
    said: str,
) -> None:
    ended = python("-m", "mrs.kernels.aot", *arguments, **changes)
    error, hint = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")
