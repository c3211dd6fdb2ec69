"""Our calls held against the real bindings of two versions, which are fetched from the package index.

The bindings import once something defines the few functions of the libraries that they are linked to. Nothing can be
built or run with them, but every class tells its members and signatures.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.runtime.backends.tensorrt import calls, facts

pytestmark = pytest.mark.slow(4)

ROOT = Path(__file__).parents[4]
SOURCES = ROOT / "runtime" / "backends" / "tensorrt"
# The functions that the bindings look for, by library.
LIBRARIES = {
    "nvinfer": (
        "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry", "getPluginRegistry",
    ),
    "nvonnxparser": (
        "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}  # fmt: skip


def pinned(version: str) -> str:
    """The distribution that has the bindings of a version, as constraints.txt pins it."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if re.fullmatch(rf"tensorrt-cu\d+-bindings=={re.escape(version)}", line))


def needed() -> str | None:
    """Why the bindings cannot be loaded here."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return "there are bindings for Linux alone"
    return None if shutil.which("gcc") else "no gcc for the libraries' stand-ins"


@pytest.fixture(scope="module", params=facts.VERSIONS)
def bindings(request: pytest.FixtureRequest) -> Path:
    """A folder with the bindings of a version and what they need to be imported; it is kept between runs."""
    version: str = request.param
    if reason := needed():
        pytest.skip(reason)
    kept = (
        request.config.cache.mkdir("tensorrt-bindings") / f"{version}-{sys.version_info.major}{sys.version_info.minor}"
    )
    if (kept / "complete").exists():
        return kept
    shutil.rmtree(kept, ignore_errors=True)
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    fetched = subprocess.run([*fetch, "--dest", kept, pinned(version)], capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"{pinned(version)} cannot be fetched: {(fetched.stderr.splitlines() or ['no reason'])[-1]}")
    with zipfile.ZipFile(next(kept.glob("*.whl"))) as wheel:
        wheel.extractall(kept)
    for library, functions in LIBRARIES.items():
        source = kept / f"{library}.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
        target = kept / f"lib{library}.so.{version.split('.')[0]}"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source], check=True)
    (kept / "complete").touch()
    return kept


def run(bindings: Path, *command: str) -> str:
    """What Python prints with the bindings on its path; each version has a process, for both are one module."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(bindings), "PYTHONPATH": str(bindings)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_facts_are_those_of_the_bindings(bindings: Path) -> None:
    version = bindings.name.split("-")[0]
    written = (facts.FOLDER / f"{version}.json").read_text(encoding="utf-8")
    assert run(bindings, facts.__file__) == written
    assert facts.read(version)["__version__"] == version


def test_an_enumeration_is_no_mask_but_a_number(bindings: Path) -> None:
    # `1 << int(flag)` is what a network's flags are made of, and TF32 is a flag that can be cleared.
    code = (
        "import tensorrt_bindings as t; f = t.NetworkDefinitionCreationFlag.STRONGLY_TYPED; "
        "print(int(f) >= 0, t.ILogger.ERROR == t.ILogger.Severity.ERROR, t.ILogger.ERROR in (t.ILogger.ERROR,))"
    )
    assert run(bindings, "-c", code).split() == ["True"] * 3


def test_what_python_classes_derive_from_can_be_derived_from(bindings: Path) -> None:
    code = (
        "import sys, types, tensorrt_bindings as t; sys.modules['tensorrt'] = t\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from mrs.runtime.backends.tensorrt.messages import collected, logger\n"
        "from mrs.runtime.backends.tensorrt.progress import Progress, monitor\n"
        "made = logger()\n"
        "with collected() as said: made.log(t.ILogger.ERROR, 'a'); made.log(t.ILogger.INFO, 'b')\n"
        "done = Progress(print); seen = monitor(done); seen.phase_start('p', None, 2)\n"
        "print(said.error('x').message, isinstance(made, t.ILogger), isinstance(seen, t.IProgressMonitor))\n"
        "print(seen.step_complete('p', 0)); done.cancelled = True; print(seen.step_complete('p', 1))\n"
        "for make in (t.Builder, t.Runtime):\n"
        "    try: make(made)\n"
        "    except TypeError as error: print(error)\n"
    )
    lines = run(bindings, "-c", code).splitlines()
    assert lines[:3] == ["x: a True True", "True", "False"]
    # What the code takes for CUDA that does not start.
    assert all("factory function returned nullptr" in line for line in lines[3:])
    assert len(lines) == 5


@pytest.mark.parametrize("version", facts.VERSIONS)
def test_every_use_in_our_sources_is_in_the_facts(version: str) -> None:
    known = facts.read(version)
    found = calls.uses(SOURCES, known)
    assert [problem for use in found if (problem := use.problem(known))] == []
    # Nothing was overlooked that matters.
    assert {
        ("Builder", "build_serialized_network"), ("IBuilderConfig", "max_aux_streams"), ("BuilderFlag", "TF32"),
        ("IExecutionContext", "execute_async_v3"), ("ICudaEngine", "device_memory_size_v2"),
        ("ITimingCache", "combine"), ("OnnxParser", "get_error"), ("ILogger", "log"),
    } <= set(calls.pairs(found))  # fmt: skip


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("config.builder_optimisation_level = 3", "no builder_optimisation_level"),
        ("config.all_build_routes = ''", "(cannot be set|no all_build_routes)"),
        ("config.set_flag(trt.BuilderFlag.FP32)", "BuilderFlag has no FP32"),
        ("config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)", "takes other arguments"),
        ("config.set_timing_cache(None, mismatch=False)", "takes other arguments"),
        ("trt.Builder(None).create_network(1).get_everything()", "INetworkDefinition has no get_everything"),
        ("trt.Bilder(None)", "no class Bilder"),
        ("config.max_aux_streams()", "cannot be called"),
    ],
)
@pytest.mark.parametrize("version", facts.VERSIONS)
def test_a_wrong_use_is_found(tmp_path: Path, version: str, line: str, problem: str) -> None:
    (tmp_path / "a.py").write_text(f"def f(config: trt.IBuilderConfig):\n    {line}\n")
    known = facts.read(version)
    problems = [each for use in calls.uses(tmp_path, known) if (each := use.problem(known))]
    assert problems
    assert re.search(problem, " ".join(problems))
    assert all(each.startswith("a.py:2: ") for each in problems)
