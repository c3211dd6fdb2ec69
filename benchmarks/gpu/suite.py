"""The tests that run on a GPU: a process for each file, or for each test where every one compiles for long."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.processes import NOT_STARTED, ROOT, Ended, Job

FOLDER = "tests/kernels/gpu/"
# The runtime: first, and test by test.
FIRST = "tests/runtime/cuda/test_gpu.py"
MARK = re.compile(r"^(?:@|pytestmark = )pytest\.mark\.gpu$", re.MULTILINE)
NO_TESTS = 5  # pytest's exit code where none was chosen
SHOWN = 60  # lines of a failure
CONFIGURATION = Path(__file__).with_name("pytest.ini")


@dataclass(frozen=True)
class Outcome:
    """Of one job.

    Attributes:
        name: a file from the root, or one of its tests.
        passed, failed, skipped: tests; an error counts as a failure.
        seconds: until it ended.
        trouble: why it does not count as passed; "" where it does.
        output: what pytest said.
    """

    name: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    trouble: str
    output: str

    def __str__(self) -> str:
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped in {self.seconds:.0f} s"
        return f"{self.name}: {counts}" + (f"; {self.trouble}" if self.trouble else "")

    def lines(self) -> list[str]:
        """For the screen: one, and the end of what a failure said."""
        return [str(self), *(self.output.splitlines()[-SHOWN:] if self.trouble else [])]


def jobs(longest: float, environment: Mapping[str, str], root: Path = ROOT) -> list[Job]:
    """All that there is: the runtime's tests first, then the kernels', then what is marked elsewhere.

    Args:
        longest: seconds that one may take.
        environment: variables of each process.
        root: of the checkout.
    """
    files = {path.relative_to(root).as_posix(): path for path in sorted((root / "tests").rglob("test_*.py"))}
    chosen: dict[str, list[str]] = {}
    if FIRST in files:
        chosen |= {f"{FIRST}::{name}": [] for name in _tests(files.pop(FIRST))}
    chosen |= {name: [] for name in files if name.startswith(FOLDER)}
    marked = [name for name, path in files.items() if MARK.search(path.read_text(encoding="utf-8"))]
    chosen |= {name: ["-m", "gpu"] for name in marked if name not in chosen}
    always = ["-c", str(CONFIGURATION), "--rootdir", str(root), "--quiet", "-p", "no:cacheprovider", "--tb=short"]
    # Plugins that happen to be installed are none of the project's.
    variables = {**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return [
        Job(name, "tests", {"arguments": [*always, *more, name]}, variables, shown=False, longest=longest)
        for name, more in chosen.items()
    ]


def outcome(ended: Ended) -> Outcome:
    """What a job's end says."""
    name, output = ended.job.name, ended.output
    passed, failed, skipped = (_count(output, kind) for kind in ("passed", "failed|errors?", "skipped"))
    trouble = ended.trouble
    if ended.code == NO_TESTS:
        trouble = ""
    if not trouble and not passed and name.startswith((FOLDER, FIRST)):
        # Skipped tests prove nothing of the device.
        trouble = "nothing was run"
    if trouble == NOT_STARTED:
        output = ""
    return Outcome(name, passed, failed, skipped, ended.seconds, trouble, output)


def _tests(path: Path) -> list[str]:
    """Names of a file's tests, in their order."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def _count(output: str, kind: str) -> int:
    """Number of tests that pytest's last line says; all of that kind."""
    last = next((line for line in reversed(output.splitlines()) if " in " in line), "")
    return sum(int(number) for number in re.findall(rf"(\d+) (?:{kind})\b", last))
