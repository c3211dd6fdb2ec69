"""What the tests launch themselves is compiled as the product's kernels are: other options give other instructions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
KERNEL = "@triton.jit\ndef kernel(x, SIZE): pass\n"


def launches(text: str) -> list[ast.Call]:
    """Calls of a file's own kernels."""
    nodes = list(ast.walk(ast.parse(text)))
    kernels = {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef) and any("triton.jit" in ast.unparse(each) for each in node.decorator_list)
    }
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)]
    return [call for call in calls if ast.unparse(call.func.value) in kernels]


def is_products(call: ast.Call) -> bool:
    """Whether a launch says to the compiler what the product's do: constants are in capitals."""
    options = [ast.unparse(word) for word in call.keywords if word.arg is None or word.arg.islower()]
    return len(options) == 1 and options[0].startswith("**options(")


def test_every_launch_of_a_test_has_the_products_options() -> None:
    found = {path.name: launches(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.py"))}
    assert {"test_interleave.py", "test_noise.py"} <= {name for name, calls in found.items() if calls}
    others = [
        f"{name}: {ast.unparse(call)}" for name, calls in found.items() for call in calls if not is_products(call)
    ]
    assert others == []


@pytest.mark.parametrize(
    ("given", "right"),
    [("SIZE=8, **options(4)", True), ("SIZE=8, num_warps=8", False), ("SIZE=8, **options(4), num_stages=2", False),
     ("SIZE=8, **{'num_warps': 4}", False), ("SIZE=8", False)],
)  # fmt: skip
def test_other_options_would_be_noticed(given: str, right: bool) -> None:
    (call,) = launches(f"{KERNEL}kernel[(1,)](x, {given})")
    assert is_products(call) == right
