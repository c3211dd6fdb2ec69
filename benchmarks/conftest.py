from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmarks import rows


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rows", type=Path, help="append a row per case to this file, such as benchmarks/results/cpu.jsonl"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    # The limit of the tests is none of measurements, which take their time.
    item.add_marker(pytest.mark.timeout(0))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[str, Mapping[str, object], Mapping[str, object]], None]:
    """Prints a case's figures and, with --rows, keeps them."""
    path: Path | None = request.config.getoption("--rows")

    def keep(case: str, settings: Mapping[str, object], figures: Mapping[str, object]) -> None:
        shown = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
        )
        print(f"\n{case}: {shown}")
        if path is not None:
            rows.append(path, case, settings, figures)

    return keep
