"""Commands that must fail, and the restorers that commands load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrs.runtime.session import Restorer


def of_a_checkpoint(refuse: Any, command: str, weights: Path, made: Path) -> Callable[..., str]:
    """A command that must fail, of these weights into this place unless others are named."""

    def call(*arguments: object, says: object, checkpoint: object = weights, output: object = None) -> str:
        return refuse(command, checkpoint, "-o", output or made, *arguments, says=says)

    return call


@pytest.fixture
def refuse_build(refuse, golden, tmp_path):
    return of_a_checkpoint(refuse, "build", golden.weights, tmp_path / "new.mrsplan")


@pytest.fixture
def refuse_export(refuse, golden, tmp_path):
    return of_a_checkpoint(refuse, "export", golden.weights, tmp_path / "new.onnx")


@pytest.fixture
def refuse_deploy(refuse, golden, tmp_path):
    return of_a_checkpoint(refuse, "deploy", golden.weights, tmp_path / "models")


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
