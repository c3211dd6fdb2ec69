"""Which process runs which tests: a file stays together, as its tests share what they make, and dear files come first.

Then no process makes what another has made, and none waits long for another in the end.
"""

from __future__ import annotations

from typing import Any

import pytest

# Folders whose files share what they make.
TOGETHER = ("tests/kernels/aot/",)
# Beginnings of the names of files that take longer than ten seconds of a processor, the dearest first.
DEAR = (
    "tests/kernels/aot/",
    "tests/runtime/backends/tensorrt/test_quantised.py",
    "tests/mrs/commands/test_build.py",
    "tests/export/test_sampler_graph.py",
    "tests/mrs/test_train.py",
    "tests/mrs/test_builder.py",
    "tests/mrs/commands/test_export.py",
    "tests/kernels/gpu/test_threshold.py",
    "tests/runtime/test_session.py",
    "tests/export/test_trial.py",
    "tests/runtime/backends/",
    "tests/export/test_graph.py",
    "tests/runtime/test_backends.py",
    "tests/benchmarks/gpu/test_re",
    "tests/kernels/gpu/",
    "tests/runtime/cuda/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, dear in enumerate(DEAR) if item.nodeid.startswith(dear)), len(DEAR)))


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
