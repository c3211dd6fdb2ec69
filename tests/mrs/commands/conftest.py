"""Commands that must fail, and the restorers that commands load."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrs.runtime.session import Restorer


@pytest.fixture
def refuse_build(refuse, golden, tmp_path):
    """`build` that must fail, of the tiny checkpoint unless another is named."""

    def call(*arguments: object, says: object, checkpoint: object = golden.weights, output: object = None) -> str:
        return refuse("build", checkpoint, "-o", output or tmp_path / "new.mrsplan", *arguments, says=says)

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A name that is free."""
    return tmp_path / "out.png"


@pytest.fixture
def refuse_restore(refuse, plan, picture, out):
    """`restore` that must fail, by default of a good picture with a good plan into a good file."""

    def call(*arguments: object, says: object, plan=plan, inputs=(picture,), output=out) -> str:
        return refuse("restore", plan, *inputs, "-o", output, *arguments, says=says)

    return call


@pytest.fixture
def loaded(monkeypatch) -> list[Restorer]:
    """The restorers that were made."""
    made = []
    real = Restorer.__init__

    def init(self, *arguments, **options) -> None:
        real(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Restorer, "__init__", init)
    return made
