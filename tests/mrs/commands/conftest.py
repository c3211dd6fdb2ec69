"""Commands that must fail."""

from __future__ import annotations

import pytest


@pytest.fixture
def refuse_build(refuse, golden, tmp_path):
    """`build` that must fail, of the tiny checkpoint unless another is named."""

    def call(*arguments: object, says: object, checkpoint: object = golden.weights, output: object = None) -> str:
        return refuse("build", checkpoint, "-o", output or tmp_path / "new.mrsplan", *arguments, says=says)

    return call
