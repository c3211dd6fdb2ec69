"""`import mrs` and the help of the command line are cheap: the heavy libraries stay on the disk."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mrs import cli
from mrs._version import __version__

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = {"torch", "triton", "tensorrt"}
HEAVY = FRAMEWORKS | {"onnx", "onnxruntime", "openvino", "PIL"}


def loaded(source: str, *argv: str) -> tuple[set[str], str]:
    """Run source in a new interpreter; the top-level names of the modules it loaded, and what it printed."""
    report = "import sys\nprint(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    program = f"try:\n    exec({source!r})\nfinally:\n    exec({report!r})"
    done = subprocess.run([sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()), done.stdout


def test_importing_mrs_loads_no_heavy_library() -> None:
    modules, _ = loaded("import mrs")
    assert "mrs" in modules
    assert not modules & HEAVY


def test_describing_a_solver_loads_no_heavy_library(tmp_path: Path) -> None:
    """As a table, and in a file."""
    source = """
import mrs
from mrs.numerics.solver_file import read_solver, write_solver
solver = mrs.Solver("unipc-b2", 3, steps=5)
write_solver("{0}", solver, mrs.Schedule(), {{}})
print(read_solver("{0}")[0] == solver, len(mrs.tableau(mrs.Schedule(), solver).rows))
""".format(tmp_path / "solver.json")
    modules, text = loaded(source)
    assert text == "True 5\n"
    assert not modules & HEAVY


def test_every_public_name_is_there() -> None:
    import mrs

    assert {"Solver", "tableau", "sample", "build", "load", "tune"} <= set(mrs.__all__) == set(dir(mrs))
    for name in mrs.__all__:
        assert getattr(mrs, name) is not None
        # Importing a module of the same name would hide the function.
        assert not (ROOT / "mrs" / f"{name}.py").exists()
    with pytest.raises(AttributeError, match="module 'mrs' has no attribute 'polish'"):
        _ = mrs.polish


@pytest.mark.parametrize("command", ["", *(module.__name__.rpartition(".")[2] for module in cli.COMMANDS)])
def test_help_loads_no_framework(command: str) -> None:
    modules, text = loaded(
        "import runpy; runpy.run_module('mrs.cli', run_name='__main__', alter_sys=True)", *command.split(), "--help"
    )
    assert "mrs-trt" in text
    assert not modules & FRAMEWORKS


def test_openvino_is_used_without_its_telemetry() -> None:
    modules, text = loaded("from mrs.runtime import backends; print(backends.get('openvino').missing())")
    assert text == "None\n"
    assert "openvino" in modules
    # It would send usage data over the network while it is imported.
    assert "openvino_telemetry" not in modules


def test_a_heavy_library_would_be_noticed() -> None:
    modules, _ = loaded("import mrs, PIL.Image")
    assert modules & HEAVY == {"PIL"}


def test_the_installed_version_is_the_one_in_the_source() -> None:
    try:
        installed = metadata.version("mrs-trt")
    except metadata.PackageNotFoundError:
        pytest.skip("the project is not installed")
    assert installed == __version__
