"""The example of docs/runtime.md is a program that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.mrs.conftest import hurry

pytestmark = pytest.mark.slow(5)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mrs import Solver, build

    path = tmp_path_factory.mktemp("plan") / "rain.mrsplan"
    with pytest.MonkeyPatch.context() as monkeypatch:
        hurry(monkeypatch)
        build("rain", path, size=(64, 64), solver=Solver(steps=2), backend="onnxruntime", precision="fp32", threads=1)
    return path


def test_the_example_restores_pictures_and_reports_what_it_cannot(plan: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8"), re.S)
    assert len(program.splitlines()) <= 25
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (40, 48, 3), np.uint8)).save(path)
    ended = subprocess.run(
        [sys.executable, "-c", program, plan, *paths],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{path}: restored" for path in paths]
    for path in paths:
        with Image.open(f"{path}.restored.png") as restored:
            assert restored.size == (48, 40)
