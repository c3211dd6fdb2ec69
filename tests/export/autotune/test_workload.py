"""What is measured and for what: refusals, and the pictures that time is taken on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrs.export.autotune.workload import Pair, Target, Workload
from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.errors import InputError


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"precision": "float32"}, "precision 'float32' is unknown"),
        ({"precision": "int4"}, "precision 'int4' is unknown"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"backend": "cuda"}, "backend 'cuda' is unknown"),
        ({"backend": "openvino", "device": "cuda"}, "backend openvino runs on cpu, not on cuda"),
        ({"backend": "torch", "device": "cpu"}, "backend torch runs on cuda, not on cpu"),
    ],
    ids=str,
)
def test_a_target_that_cannot_be(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        Target(**asked)
    assert caught.value.message == says
    assert caught.value.hint


def test_other_options_leave_the_rest() -> None:
    lines: list[str] = []
    target = Target("tensorrt", "fp16", settings=CompileSettings(3, report=lines.append))
    changed = target.with_options(EngineOptions(5))
    assert (changed.backend, changed.precision, changed.settings.threads) == ("tensorrt", "fp16", 3)
    assert changed.settings.options == EngineOptions(5)
    changed.report("a line")
    assert lines == ["a line"]


def test_pictures_are_repeated_over_the_plans_size() -> None:
    source = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    reference: Any = None
    repeated = Workload({}, [Pair(source)], (2, 5, 4), reference).picture
    assert repeated.shape == (2, 5, 4, 3)
    assert repeated.flags.c_contiguous
    for y in range(5):
        for x in range(4):
            assert (repeated[:, y, x] == source[y % 2, x % 3]).all()
