"""Imports point one way, mrs -> export -> runtime -> kernels, between modules too, and what restores on a CPU loads no
heavy library.

The files are parsed, never imported, so imports inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple, TypeGuard

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("kernels", "runtime", "export", "mrs")  # a layer may import itself and those before it
OUTSIDE = {"tests", "benchmarks", "conftest"}
HEAVY = {"torch", "triton", "tensorrt", "onnx"}
# Folders of kernels/ and runtime/ that a restore on a CPU never loads, and which may therefore load HEAVY themselves.
MAY_LOAD_HEAVY = ("kernels/gpu/", "kernels/aot/", "runtime/cuda/")


class Import(NamedTuple):
    file: str  # from the root, with forward slashes
    line: int
    module: str  # absolute; `from mrs import runtime` is mrs.runtime
    at_load: bool  # carried out when the file is imported, not in a function or for the type checker only
    for_types: bool  # for the type checker only


def layer_of(module: str) -> str | None:
    """The layer that owns an absolute module name; None for everything that is not ours."""
    first, *rest = module.split(".")
    if first != "mrs":
        return None
    return rest[0] if rest and rest[0] in LAYERS[:-1] else "mrs"


def imported(node: ast.AST, package: str) -> Iterator[str]:
    """Absolute names of the modules that one node imports, by statement or by a literal import_module/__import__."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package)
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        target = node.args[0]
        if (
            name in {"import_module", "__import__"}
            and isinstance(target, ast.Constant)
            and isinstance(target.value, str)
        ):
            yield resolve_name(target.value, package)


def is_type_checking(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


@cache
def imports(root: Path) -> list[Import]:
    """Every import of every file of the four folders under root; links between the folders are not followed."""
    found: list[Import] = []

    def visit(node: ast.AST, file: Path, package: str, at_load: bool, for_types: bool) -> None:
        for module in imported(node, package):
            found.append(Import(file.as_posix(), getattr(node, "lineno", 0), module, at_load, for_types))
        # The children that nothing carries out, and those that loading does not.
        types = node.body if is_type_checking(node) else []
        lazy = node.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else types
        for child in ast.iter_child_nodes(node):
            visit(child, file, package, at_load and child not in lazy, for_types or child in types)

    for layer in LAYERS:
        for path in sorted((root / layer).rglob("*.py")):
            file = path.relative_to(root)
            folders = file.parent.parts if layer == "mrs" else ("mrs", *file.parent.parts)
            if layer == "mrs" and len(folders) > 1 and folders[1] in LAYERS:
                continue  # seen through a link
            visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), file, ".".join(folders), True, False)
    return found


def wrong_direction(root: Path) -> list[str]:
    """One line for every import that points the wrong way, or at what nothing may import."""
    problems = []
    for file, line, module, _, _ in imports(root):
        here, there, first = file.split("/")[0], layer_of(module), module.split(".")[0]
        if first in OUTSIDE:
            problems.append(f"{file}:{line} imports {module}: nothing imports {first}")
        elif first in LAYERS[:-1]:
            problems.append(f"{file}:{line} imports {module}: its name is mrs.{module}")
        elif there is not None and LAYERS.index(there) > LAYERS.index(here):
            problems.append(f"{file}:{line} imports {module}: {here} may not import {there}")
    return problems


def heavy_at_load(root: Path) -> dict[str, str]:
    """File of kernels/ or runtime/ -> what it imports too early."""
    return {
        file: f"{file}:{line} loads {module}"
        for file, line, module, at_load, _ in imports(root)
        if at_load and file.split("/")[0] in {"kernels", "runtime"} and module.split(".")[0] in HEAVY
    }


def module_of(file: str) -> str:
    """The name by which a file is imported."""
    parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(parts if parts[0] == "mrs" else ["mrs", *parts])


def circle(root: Path) -> list[str]:
    """Modules of which each imports the one before it, the last and the first being the same; [] where there are none.

    Imports inside functions count: they only put off what goes round. That a module's packages are loaded before it
    does not count.
    """
    found = [(module_of(each.file), each.module) for each in imports(root) if not each.for_types]
    ours = {importer for importer, _ in found}
    graph: dict[str, set[str]] = {}
    for importer, module in found:
        # What is no module is a name in one.
        target = next((name for name in (module, module.rpartition(".")[0]) if name in ours), importer)
        if target != importer:
            graph.setdefault(importer, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        modules: list[str] = error.args[1]
        return modules
    return []


def test_imports_point_one_way() -> None:
    assert wrong_direction(ROOT) == []


def test_no_imports_go_round_in_a_circle() -> None:
    assert circle(ROOT) == []


def test_kernels_and_runtime_load_no_heavy_library() -> None:
    loaded = heavy_at_load(ROOT)
    assert [text for file, text in loaded.items() if not file.startswith(MAY_LOAD_HEAVY)] == []
    for folder in MAY_LOAD_HEAVY:
        assert any(file.startswith(folder) for file in loaded), "an exception that is not needed any more"


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_was_read(layer: str) -> None:
    assert any(found.file.startswith(f"{layer}/") for found in imports(ROOT))


def project(root: Path, file: str, source: str) -> Path:
    """A tree with the real one's folders and links, and one file in it."""
    (root / "mrs").mkdir()
    for layer in LAYERS[:-1]:
        (root / layer).mkdir()
        (root / "mrs" / layer).symlink_to(f"../{layer}")
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(source, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("kernels/a.py", "import mrs"),
        ("kernels/a.py", "import mrs.runtime.errors as e"),
        ("kernels/a.py", "from mrs.runtime import errors"),
        ("kernels/a.py", "from mrs import runtime"),
        ("kernels/a.py", "from ..runtime import errors"),
        ("kernels/deep/a.py", "from ...runtime.errors import PictureError"),
        ("kernels/a.py", "import importlib\nimportlib.import_module('mrs.export')"),
        ("kernels/a.py", "from importlib import import_module\nimport_module('..export.onnx', __package__)"),
        ("runtime/a.py", "def f():\n    from mrs.export import nafnet"),
        ("runtime/a.py", "from mrs import *"),
        (
            "runtime/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mrs.numerics.schedule import Schedule",
        ),
        ("runtime/backends/a.py", "from mrs import runtime, Schedule"),
        ("export/a.py", "from .. import Schedule"),
        ("export/a.py", "class A:\n    try:\n        from mrs import table\n    except ImportError:\n        pass"),
        ("mrs/a.py", "import tests.helpers"),
        ("mrs/a.py", "from benchmarks import cases"),
        ("mrs/a.py", "import runtime"),
        ("mrs/methods/a.py", "from kernels.row import Row"),
    ],
)
def test_a_wrong_import_is_reported_once(tmp_path: Path, file: str, source: str) -> None:
    problems = wrong_direction(project(tmp_path, file, source))
    assert len(problems) == 1
    assert problems[0].startswith(f"{file}:")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "kernels/a.py",
            "import numpy, mrs.kernels.table\nfrom mrs.kernels import row\nfrom . import row\nfrom .row import Row",
        ),
        (
            "runtime/a.py",
            "from mrs import kernels, runtime\nfrom ..kernels import row\nfrom mrs.runtime.errors import Error",
        ),
        ("export/a.py", "from mrs.runtime import errors\nfrom mrs.kernels import row\nimport torch"),
        (
            "mrs/a.py",
            "import mrs.export\nfrom mrs import schedule\nfrom .export import nafnet\nimport mrstools, exporter",
        ),
    ],
)
def test_a_right_import_is_not_reported(tmp_path: Path, file: str, source: str) -> None:
    assert wrong_direction(project(tmp_path, file, source)) == []


@pytest.mark.parametrize(
    ("file", "source", "reported"),
    [
        ("runtime/a.py", "import torch", True),
        ("runtime/deep/a.py", "from torch.nn import functional", True),
        ("kernels/a.py", "try:\n    import triton\nexcept ImportError:\n    triton = None", True),
        ("kernels/a.py", "class A:\n    import onnx", True),
        (
            "kernels/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import torch",
            True,
        ),
        ("kernels/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", False),
        ("runtime/a.py", "def f():\n    import tensorrt", False),
        ("runtime/a.py", "import onnxruntime", False),
        ("export/a.py", "import torch", False),
    ],
)
def test_a_heavy_import_is_reported_where_it_is_carried_out(
    tmp_path: Path, file: str, source: str, reported: bool
) -> None:
    assert list(heavy_at_load(project(tmp_path, file, source))) == ([file] if reported else [])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from mrs.a import go", {"mrs.a", "mrs.b"}),
        ("def f():\n    from mrs import a", {"mrs.a", "mrs.b"}),
        ("from importlib import import_module\nimport_module('mrs.a')", {"mrs.a", "mrs.b"}),
        ("import mrs.kernels.k", set()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mrs import a", set()),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    from mrs import a",
            {"mrs.a", "mrs.b"},
        ),
    ],
)
def test_a_circle_is_reported(tmp_path: Path, source: str, expected: set[str]) -> None:
    root = project(tmp_path, "mrs/a.py", "def go():\n    from .b import name")
    (root / "mrs" / "b.py").write_text(source, encoding="utf-8")
    (root / "kernels" / "k.py").write_text("import numpy", encoding="utf-8")
    assert set(circle(root)) == expected


def test_a_package_takes_part_in_a_circle(tmp_path: Path) -> None:
    root = project(tmp_path, "runtime/deep/__init__.py", "from .a import name\nfrom . import name")
    (root / "runtime" / "deep" / "a.py").write_text("from mrs.runtime.deep import other", encoding="utf-8")
    assert set(circle(root)) == {"mrs.runtime.deep", "mrs.runtime.deep.a"}
