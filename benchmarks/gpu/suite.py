"""The tests that run on a GPU: a process for each file and a few at a time, as most of their time is compilation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrs.kernels.threads import Hands, Task
from mrs.runtime import machine

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("tests/kernels/gpu")
MARK = "mark.gpu"
NO_TESTS = 5  # pytest's exit code where none was chosen
SHOWN = 60  # lines of a failure


@dataclass(frozen=True)
class Outcome:
    """Of one file.

    Attributes:
        file: from the root.
        passed, failed, skipped: tests; an error counts as a failure.
        seconds: until it ended.
        trouble: why the file does not count as passed; "" where it does.
        output: what pytest said.
    """

    file: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    trouble: str
    output: str

    def __str__(self) -> str:
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped in {self.seconds:.0f} s"
        return f"{self.file}: {counts}" + (f"; {self.trouble}" if self.trouble else "")


def commands(root: Path = ROOT) -> dict[str, list[str]]:
    """Arguments for pytest by file: the kernels' tests, and what is marked elsewhere."""
    found = {path: [] for path in sorted((root / FOLDER).rglob("test_*.py"))}
    for path in sorted((root / "tests").rglob("test_*.py")):
        if path not in found and MARK in path.read_text(encoding="utf-8"):
            found[path] = ["-m", "gpu"]
    # Warnings of other versions of libraries than those developed with are no failures of ours.
    always = ["--quiet", "-W", "default", "-p", "no:cacheprovider", "--tb=short"]
    return {
        path.relative_to(root).as_posix(): [*always, *chosen, path.relative_to(root).as_posix()]
        for path, chosen in found.items()
    }


def run(seconds: float, root: Path = ROOT, at_once: int | None = None, python: str = sys.executable) -> list[Outcome]:
    """Run all files; what has not ended after `seconds` is stopped."""
    end = time.monotonic() + seconds
    threads = Hands(at_once or max(1, min(4, machine.threads() // 2)))
    tasks = [
        Task(_run, file, [python, "-m", "pytest", *arguments], root, end) for file, arguments in commands(root).items()
    ]
    try:
        for task in tasks:
            threads.give(task)
        return [task.result() for task in tasks]
    except BaseException:
        # Those that run end with Ctrl-C themselves, or with the time.
        for task in tasks:
            task.cancel()
        raise


def _run(file: str, command: list[str], root: Path, end: float) -> Outcome:
    begin = time.monotonic()
    if begin >= end:
        return Outcome(file, 0, 0, 0, 0.0, "not started, no time left", "")
    # Plugins that happen to be installed are none of the project's.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    code: int | None = None
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, timeout=end - begin, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        code, printed = done.returncode, done.stdout
    except subprocess.TimeoutExpired as stopped:
        printed = stopped.stdout or b""
    output = printed.decode(errors="replace")
    passed, failed, skipped = (_count(output, kind) for kind in ("passed", "failed|errors?", "skipped"))
    trouble = ""
    if code is None:
        trouble = "stopped, no time left"
    elif code not in (0, NO_TESTS):
        trouble = f"pytest ended with code {code}"
    elif not passed and file.startswith(FOLDER.as_posix()):
        # Skipped tests prove nothing of the device.
        trouble = "nothing was run"
    return Outcome(file, passed, failed, skipped, time.monotonic() - begin, trouble, output)


def _count(output: str, kind: str) -> int:
    """Number of tests that pytest's last line says; all of that kind."""
    last = next((line for line in reversed(output.splitlines()) if " in " in line), "")
    return sum(int(number) for number in re.findall(rf"(\d+) (?:{kind})\b", last))


def shown(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines for the screen: all files, then the end of what the failures said."""
    found = [str(outcome) for outcome in outcomes]
    for outcome in outcomes:
        if outcome.trouble:
            found += [f"--- {outcome.file}", *outcome.output.splitlines()[-SHOWN:]]
    return found
