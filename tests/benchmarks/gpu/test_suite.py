"""The tests on the device: each file on its own, in time, and nothing skipped counts as passed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.gpu import suite
from benchmarks.gpu.suite import Outcome

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
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_files_are_those_of_the_kernels_and_those_with_marks(tmp_path: Path) -> None:
    found = suite.commands(tree(tmp_path, FILES))
    assert list(found) == [
        "tests/kernels/gpu/deep/test_d.py", "tests/kernels/gpu/test_a.py", "tests/kernels/gpu/test_b.py",
        "tests/kernels/gpu/test_c.py", "tests/mrs/test_f.py", "tests/mrs/test_g.py",
    ]  # fmt: skip
    assert [name for name, arguments in found.items() if "-m" in arguments] == [
        "tests/mrs/test_f.py", "tests/mrs/test_g.py"
    ]  # fmt: skip


def test_this_checkouts_kernels_have_tests() -> None:
    assert any(name.startswith("tests/kernels/gpu/") for name in suite.commands())


def test_every_file_is_run_and_judged(tmp_path: Path) -> None:
    outcomes = {outcome.file: outcome for outcome in suite.run(60, tree(tmp_path, FILES), at_once=2)}
    counts = {
        Path(name).stem: (outcome.passed, outcome.failed, outcome.skipped, outcome.trouble)
        for name, outcome in outcomes.items()
    }
    assert counts == {
        "test_a": (2, 0, 0, ""),
        "test_b": (1, 1, 0, "pytest ended with code 1"),
        "test_c": (0, 0, 1, "nothing was run"),
        "test_d": (0, 1, 0, "pytest ended with code 2"),
        "test_f": (1, 0, 0, ""),
        "test_g": (0, 0, 0, ""),
    }
    lines = suite.shown(list(outcomes.values()))
    assert lines[: len(outcomes)] == [str(outcome) for outcome in outcomes.values()]
    text = "\n".join(lines)
    assert "no luck" in text
    assert "no_such_module" in text
    assert "test_two" not in text


def test_what_does_not_end_is_stopped_and_the_rest_not_started(tmp_path: Path) -> None:
    slow = "import time\n\ndef test_slow():\n    print('begun', flush=True)\n    time.sleep(1000)\n"
    root = tree(tmp_path, {f"tests/kernels/gpu/test_{name}.py": slow for name in "ab"})
    begin = time.monotonic()
    outcomes = suite.run(3, root, at_once=1)
    assert time.monotonic() - begin < 240
    assert [outcome.trouble for outcome in outcomes] == ["stopped, no time left", "not started, no time left"]


def test_warnings_of_libraries_do_not_fail_a_test(tmp_path: Path) -> None:
    text = "import warnings\n\ndef test_warns():\n    warnings.warn('deprecated', DeprecationWarning)\n"
    root = tree(tmp_path, {
        "tests/kernels/gpu/test_a.py": text,
        "pyproject.toml": "[tool.pytest.ini_options]\nfilterwarnings = ['error']\n",
    })  # fmt: skip
    assert [outcome.trouble for outcome in suite.run(60, root)] == [""]


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
