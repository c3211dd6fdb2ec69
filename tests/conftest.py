"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.order import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401
from tests.time_limit import pytest_addoption, pytest_timeout_cancel_timer, pytest_timeout_set_timer  # noqa: F401

try:
    from hypothesis import settings
except ModuleNotFoundError:
    # The tests that run on a GPU need it not, and it may be missing there.
    pass
else:
    # The same examples in every run: a test that starts to fail does so because of a change.
    settings.register_profile("project", derandomize=True, database=None, deadline=None)
    settings.load_profile("project")

# Tests import ONNX Runtime themselves, which would send how it is used over the network, and keep files.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# What tests compute is tiny: torch on every core spends most of its time on waiting, above all beside other processes
# of the same tests. Whoever wants more threads asks for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has programs in the background ignore Ctrl-C, which some tests send themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Golden:
    """Published numbers, described in tests/golden/README.md.

    Attributes:
        arrays: `published.npz`, read-only arrays by name.
        cases: `published.json`; case k ends in `arrays[f"out_{k}"]`.
        weights: path of `nafnet_tiny.pth`.
    """

    arrays: dict[str, NDArray[Any]]
    cases: list[dict[str, Any]]
    weights: Path


@pytest.fixture(scope="session")
def golden() -> Golden:
    """The published numbers, loaded once."""
    with np.load(GOLDEN / "published.npz") as file:
        arrays = dict(file)
    for array in arrays.values():
        # Shared by the whole session: a test that writes into them would spoil the others.
        array.setflags(write=False)
    cases = json.loads((GOLDEN / "published.json").read_text(encoding="utf-8"))
    return Golden(arrays, cases, GOLDEN / "nafnet_tiny.pth")


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that do not exist: making one for each of all tests takes longer than most of them."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in count())


@pytest.fixture(scope="session", autouse=True)
def no_pace() -> Iterator[None]:
    """Builds measure no large pictures: it would be most of their time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("mrs.export.autotune.pace.SIDES", ())
        yield


@pytest.fixture(autouse=True)
def no_memory(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What this user's builds measured before is not there, and what tests measure is not kept for them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(next(caches)))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: tiny networks are hundreds of times faster so, where other programs keep the cores busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
