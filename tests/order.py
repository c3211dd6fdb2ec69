"""Which process runs which tests: a file stays together, as its tests share what they make, and dear files come first.

Then no process makes what another has made, and none waits long for another in the end.
"""

from __future__ import annotations

from typing import Any

import pytest

# Folders whose files share what they make.
TOGETHER = ("tests/kernels/aot/",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What a file costs stands in its marks, so that it moves with the file.
    dear: dict[str, float] = {}
    for item in items:
        seconds = (mark.args[0] for mark in item.iter_markers("slow"))
        dear[_file(item)] = max(dear.get(_file(item), 0), *seconds, 0)
    items.sort(key=lambda item: -dear[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "load":
        return None  # what was asked for
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])

    # Dear files have few tests.
    config.option.loadscopereorder = False
    return ByFile(config, log)
