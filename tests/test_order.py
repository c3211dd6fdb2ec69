"""Dear files come first, by what their marks say, and each stays together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.order import pytest_collection_modifyitems


def item(name: str, *seconds: float) -> Any:
    marks = [SimpleNamespace(args=(each,)) for each in seconds]
    return SimpleNamespace(nodeid=name, iter_markers=lambda kind: marks if kind == "slow" else [])


def test_the_dearest_file_comes_first_and_all_others_stay_as_they_were() -> None:
    items = [
        item("a.py::test_1"), item("b.py::test_1"), item("b.py::test_2", 5), item("c.py::test_1", 20, 3),
        item("c.py::test_2"), item("d.py::test_1"),
    ]  # fmt: skip
    pytest_collection_modifyitems(items)
    assert [each.nodeid.replace("::test_", "") for each in items] == [
        "c.py1",
        "c.py2",
        "b.py1",
        "b.py2",
        "a.py1",
        "d.py1",
    ]
