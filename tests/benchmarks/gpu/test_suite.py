"""The tests on the device: each file on its own, in time, and nothing skipped counts as passed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.gpu import suite
from benchmarks.gpu.processes import NOT_STARTED, Ended, Job, Process, SystemClock, run
from benchmarks.gpu.suite import Outcome

pytestmark = pytest.mark.slow(6)

FILES = {
    "tests/kernels/gpu/test_a.py": "def test_one():\n    pass\n\ndef test_two():\n    pass\n",
    "tests/kernels/gpu/test_b.py": "def test_good():\n    pass\n\ndef test_bad():\n    assert 1 == 2, 'no luck'\n",
    "tests/kernels/gpu/test_c.py": "import pytest\n\ndef test_one():\n    pytest.skip('no GPU')\n",
    "tests/kernels/gpu/deep/test_d.py": "import no_such_module\n",
    "tests/kernels/test_e.py": "def test_of_the_cpu():\n    assert False\n",
    "tests/mrs/test_f.py": (
        "import pytest\n\ndef test_of_the_cpu():\n    assert False\n\n@pytest.mark.gpu\ndef test_marked():\n    pass\n"
    ),
    "tests/mrs/test_g.py": "'''Says mark.gpu, but has none.'''\ndef test_of_the_cpu():\n    assert False\n",
    "tests/mrs/test_h.py": (
        "import pytest\n\npytestmark = pytest.mark.gpu\n\ndef test_marked():\n    pytest.skip('not installed')\n"
    ),
    "tests/runtime/cuda/test_gpu.py": (
        "import pytest\n\npytestmark = pytest.mark.gpu\n\n@pytest.mark.parametrize('n', [1, 2])\ndef test_z(n):\n"
        "    pass\n"
        "\ndef helper():\n    pass\n\ndef test_y():\n    assert helper() is None\n"
    ),
}
# What a project may demand of pytest, and of plugins that are not loaded there.
DEMANDS = (
    "[tool.pytest.ini_options]\naddopts = ['--strict-config', '--strict-markers']\ntimeout = 60\n"
    "filterwarnings = ['error']\n"
)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def outcomes(root: Path, seconds: float = 120.0, at_once: int = 2) -> dict[str, Outcome]:
    """Of all jobs, run as the command runs them."""

    def start(job: Job, limit: float) -> Process:
        command = [sys.executable, "-m", "pytest", *job.given["arguments"]]
        return Process(command, job.environment, job.shown, root)

    clock = SystemClock()
    ended = run(suite.jobs(seconds, {}, root), clock.now() + seconds, at_once, start, clock)
    return {each.job.name: suite.outcome(each) for each in ended}


def ended(name: str, code: int | None, output: str = "", trouble: str = "") -> Ended:
    return Ended(Job(name, "tests"), code, 4.4, trouble, output)


def test_the_runtime_comes_first_test_by_test_then_the_kernels_then_what_is_marked(tmp_path: Path) -> None:
    found = suite.jobs(90, {"THREADS": "2"}, tree(tmp_path, FILES))
    assert [job.name for job in found] == [
        "tests/runtime/cuda/test_gpu.py::test_z", "tests/runtime/cuda/test_gpu.py::test_y",
        "tests/kernels/gpu/deep/test_d.py", "tests/kernels/gpu/test_a.py", "tests/kernels/gpu/test_b.py",
        "tests/kernels/gpu/test_c.py", "tests/mrs/test_f.py", "tests/mrs/test_h.py",
    ]  # fmt: skip
    assert [job.name for job in found if "-m" in job.given["arguments"]] == [
        "tests/mrs/test_f.py",
        "tests/mrs/test_h.py",
    ]
    assert {(job.longest, job.shown, job.environment["THREADS"]) for job in found} == {(90, False, "2")}


def test_this_checkouts_runtime_and_kernels_have_tests() -> None:
    names = [job.name for job in suite.jobs(90, {})]
    assert names[0].startswith("tests/runtime/cuda/test_gpu.py::")
    assert "tests/kernels/gpu/test_step.py" in names
    assert "tests/runtime/backends/test_onnxruntime_gpu_device.py" in names
    assert not any(name.startswith("tests/benchmarks/") for name in names)


def test_every_file_is_run_and_judged(tmp_path: Path) -> None:
    found = outcomes(tree(tmp_path, FILES | {"pyproject.toml": DEMANDS}))
    counts = {
        name.rpartition("/")[2]: (outcome.passed, outcome.failed, outcome.skipped, outcome.trouble)
        for name, outcome in found.items()
    }
    assert counts == {
        "test_gpu.py::test_z": (2, 0, 0, ""),
        "test_gpu.py::test_y": (1, 0, 0, ""),
        "test_a.py": (2, 0, 0, ""),
        "test_b.py": (1, 1, 0, "ended with code 1"),
        "test_c.py": (0, 0, 1, "nothing was run"),
        "test_d.py": (0, 1, 0, "ended with code 2"),
        "test_f.py": (1, 0, 0, ""),
        "test_h.py": (0, 0, 1, ""),
    }
    lines = [line for outcome in found.values() for line in outcome.lines()]
    assert {str(outcome) for outcome in found.values()} <= set(lines)
    text = "\n".join(lines)
    assert "no luck" in text
    assert "no_such_module" in text
    assert "test_two" not in text


def test_warnings_of_libraries_do_not_fail_a_test(tmp_path: Path) -> None:
    text = "import warnings\n\ndef test_warns():\n    warnings.warn('deprecated', DeprecationWarning)\n"
    root = tree(tmp_path, {"tests/kernels/gpu/test_a.py": text, "pyproject.toml": DEMANDS})
    assert [outcome.trouble for outcome in outcomes(root).values()] == [""]


def test_what_does_not_end_says_where_it_was(tmp_path: Path) -> None:
    output = "begun\n  File a.py, line 3 in test_slow\n"
    outcome = suite.outcome(ended("tests/kernels/gpu/test_a.py", None, output, "stopped after 90 s, its limit"))
    assert outcome.lines() == [str(outcome), *output.splitlines()]
    assert str(outcome).endswith("0 skipped in 4 s; stopped after 90 s, its limit")
    outcome = suite.outcome(ended("tests/kernels/gpu/test_a.py", None, "", NOT_STARTED))
    assert outcome.trouble == NOT_STARTED


def test_a_file_of_which_nothing_is_marked_for_here_is_no_trouble() -> None:
    assert suite.outcome(ended("tests/mrs/test_f.py", suite.NO_TESTS, "", "ended with code 5")).trouble == ""
    assert suite.outcome(ended(suite.FIRST, suite.NO_TESTS, "", "ended with code 5")).trouble == "nothing was run"


def test_an_outcome_is_a_line() -> None:
    assert str(Outcome("a.py", 3, 1, 2, 4.4, "stopped", "")) == "a.py: 3 passed, 1 failed, 2 skipped in 4 s; stopped"


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("12 passed in 3.21s", (12, 0, 0)),
        ("1 failed, 2 passed, 3 skipped, 4 errors in 5.00s", (2, 5, 3)),
        ("=== 7 passed, 1 warning in 100.00s (0:01:40) ===", (7, 0, 0)),
        ("1 error in 0.10s", (0, 1, 0)),
        ("no summary", (0, 0, 0)),
    ],
)
def test_counts_are_read_off_the_last_line(line: str, counts: tuple[int, int, int]) -> None:
    output = f"9 passed in the middle\n{line}\n" if " in " in line else line
    assert tuple(suite._count(output, kind) for kind in ("passed", "failed|errors?", "skipped")) == counts
