"""ONNX Runtime on GPUs: what is missing is named before any session, and what is called exists in its module."""

from __future__ import annotations

import ctypes
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mrs.runtime import backends
from mrs.runtime.backends.onnxruntime_gpu import backend as module
from mrs.runtime.backends.onnxruntime_gpu import installation
from mrs.runtime.backends.torch import Torch

CUDA, TENSORRT = installation.CUDA, installation.TENSORRT
CPU = "CPUExecutionProvider"
ROOT = Path(__file__).resolve().parents[3]


class Machine:
    """A machine on which everything is there; `lacks` are libraries that do not load.

    Attributes:
        sessions: how many were made.
        preloaded: how often ONNX Runtime was asked to find libraries itself, and which ones it finds.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.lacks: set[str] = set()
        self.torch_says: str | None = None
        self.sessions, self.preloaded, self.finds = 0, 0, set()  # type: ignore[var-annotated]
        self.runtime = SimpleNamespace(
            __version__="1.31.1", __file__=str(folder / "__init__.py"), cuda_version="13.0",
            get_available_providers=lambda: [TENSORRT, CUDA, CPU], preload_dlls=self.preload,
            InferenceSession=self.session,
        )  # fmt: skip
        (folder / "capi").mkdir()
        library = b"\0libcublas.so.13\0libnvinfer.so.10\0libnvonnxparser.so.10\0libcudnn.so.9\0"
        (folder / "capi" / "libonnxruntime_providers_tensorrt.so").write_bytes(library)
        self.torch = SimpleNamespace(version=SimpleNamespace(cuda="13.0"))
        monkeypatch.setitem(sys.modules, "onnxruntime", self.runtime)
        monkeypatch.setitem(sys.modules, "torch", self.torch)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        monkeypatch.setattr(installation, "installed_version", lambda: "1.31.1")
        monkeypatch.setattr(Torch, "missing", lambda _: self.torch_says)
        monkeypatch.setattr(ctypes, "CDLL", self.load)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")

    def load(self, name: str) -> None:
        if name in self.lacks:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    def preload(self, directory: str | None = None) -> None:
        assert directory == ""
        print("Failed to load libcublasLt.so.13")
        self.preloaded += 1
        self.lacks -= self.finds

    def session(self, *_: object, **__: object) -> None:
        self.sessions += 1


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_where_all_is_there_nothing_is_missing_and_no_session_is_made(machine: Machine, name: str, capsys: Any) -> None:
    assert backends.get(name).missing() is None
    assert (machine.sessions, machine.preloaded) == (0, 0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_without_the_package(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert installation.missing(provider) == f"onnxruntime-gpu is not installed: {installation.INSTALL}"


def test_a_package_that_does_not_load(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert str(installation.missing(CUDA)).startswith("onnxruntime does not load: ")


@pytest.mark.parametrize(
    ("version", "old"),
    [("1.30.9", True), ("1.9.0", True), ("0.31.1", True), ("", True), ("1.31.0", False), ("1.31.0rc1", False),
     ("1.100", False), ("2.0.0", False)],
)  # fmt: skip
def test_an_old_version_is_told(machine: Machine, version: str, old: bool) -> None:
    machine.runtime.__version__ = version
    said = f"onnxruntime {version} is too old, 1.31 is needed: pip install -U onnxruntime-gpu"
    assert installation.missing(CUDA) == (said if old else None)


@pytest.mark.parametrize(
    ("providers", "provider", "other", "says"),
    [
        ([CPU], CUDA, "", "this onnxruntime is a build for CPUs: pip uninstall onnxruntime, then "),
        ([CPU], TENSORRT, "", "this onnxruntime is a build for CPUs: pip uninstall onnxruntime, then "),
        ([CPU], CUDA, "1.31.1", "onnxruntime hides onnxruntime-gpu: pip uninstall both, then "),
        ([CUDA, CPU], TENSORRT, "1.31.1", "this onnxruntime is built without TensorRT: "),
    ],
    ids=["for CPUs", "for CPUs, TensorRT", "both installed", "without TensorRT"],
)
def test_another_build_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, providers: list[str], provider: str, other: str, says: str
) -> None:
    machine.runtime.get_available_providers = lambda: providers
    monkeypatch.setattr(installation, "installed_version", lambda: other)
    assert installation.missing(provider) == f"{says}{installation.INSTALL}"


def test_without_a_gpu_torch_says_why(machine: Machine) -> None:
    machine.torch_says = "no NVIDIA GPU is found: check its driver with nvidia-smi"
    assert installation.missing(CUDA) == machine.torch_says


@pytest.mark.parametrize("library", ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10",
                                     "libcudnn.so.9"])  # fmt: skip
@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_a_missing_library_is_named(machine: Machine, provider: str, library: str, capsys: Any) -> None:
    machine.lacks = {library}
    says = f"{library} does not load: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    assert installation.missing(provider) == says
    # ONNX Runtime looked where pip puts them, and what it prints is not ours.
    assert machine.preloaded == 1
    assert capsys.readouterr().out == ""


def test_a_library_that_onnxruntime_finds_is_there(machine: Machine) -> None:
    machine.lacks, machine.finds = {"libcublas.so.13"}, {"libcublas.so.13"}
    assert installation.missing(CUDA) is None


def test_another_cuda_than_torchs_is_why(machine: Machine) -> None:
    machine.torch.version.cuda = "12.8"
    machine.lacks = {"libcublasLt.so.13"}
    says = "libcublasLt.so.13 does not load, as onnxruntime is built for CUDA 13 and torch for CUDA 12: pip install "
    assert str(installation.missing(CUDA)).startswith(says)
    # Where the libraries are there all the same, all is well.
    machine.lacks = set()
    assert installation.missing(CUDA) is None


@pytest.mark.parametrize("library", ["libnvinfer.so.10", "libnvonnxparser.so.10"])
def test_tensorrt_in_the_version_that_onnxruntime_was_linked_with(machine: Machine, monkeypatch, library: str) -> None:
    machine.lacks = {library}
    monkeypatch.setitem(sys.modules, "tensorrt_libs", None)
    assert installation.missing(TENSORRT) == f"{library} does not load: pip install 'tensorrt-cu13==10.*'"
    assert installation.missing(CUDA) is None


def test_a_library_of_tensorrts_wheels_is_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.lacks = {"libnvinfer.so.10"}
    real = importlib.import_module

    def load(name: str) -> Any:
        if name != "tensorrt_libs":
            return real(name)
        machine.lacks = set()
        return None

    monkeypatch.setattr(importlib, "import_module", load)
    assert installation.missing(TENSORRT) is None


@pytest.mark.parametrize("value", [None, "1", ""])
def test_tensorrt_without_exact_float32_is_refused(machine: Machine, monkeypatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    else:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    assert "round float32 to TF32: set NVIDIA_TF32_OVERRIDE=0" in str(installation.missing(TENSORRT))
    assert installation.missing(CUDA) is None


def test_elsewhere_a_session_must_tell(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.lacks = {"libcudart.so.13"}
    monkeypatch.setattr(sys, "platform", "win32")
    assert installation.missing(CUDA) is None


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_the_real_onnxruntime_here_is_told_as_what_it_is(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("a build for GPUs")
    reason = str(backends.get(name).missing())
    assert reason.startswith("this onnxruntime is a build for CPUs")
    assert "\n" not in reason
    assert backends.get(name) not in backends.available()


def test_nothing_heavy_is_loaded_to_know_the_backends() -> None:
    code = "import sys; from mrs.runtime import backends; sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


# Options, and the names of ONNX Runtime's module


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_options_are_those_that_onnxruntime_reads(provider: str, precision: str) -> None:
    pytest.importorskip("onnxruntime")
    from tests.runtime.backends.onnxruntime_double import OPTIONS

    given = module.provider_options(provider, precision, 5, 1, 4096)
    assert set(given) <= OPTIONS[provider]
    assert all(isinstance(value, str) for value in given.values())
    assert (given["device_id"], given["user_compute_stream"]) == ("1", "4096")


def test_float32_is_exact_and_only_float16_has_channels_last() -> None:
    given = {name: module.provider_options(CUDA, name, 3, 0, 1) for name in ("fp32", "fp16", "bf16")}
    assert {options["use_tf32"] for options in given.values()} == {"0"}
    assert {name: options["prefer_nhwc"] for name, options in given.items()} == {"fp32": "0", "fp16": "1", "bf16": "0"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_types_of_the_graph_are_those_of_tensorrts_engine(precision: str) -> None:
    given = module.provider_options(TENSORRT, precision, 5, 0, 1)
    assert given["trt_builder_optimization_level"] == "5"
    # Each of these makes the network weakly typed.
    assert not {"trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"} & set(given)
    # And these load native code from a folder.
    assert not {name for name in given if "cache" in name}


def test_every_call_exists_in_the_installed_module() -> None:
    """Of builds for CPUs and GPUs the Python files are the same."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    module.session_options(ort)
    assert options.intra_op_num_threads == 0
    assert "enable_fallback" in inspect.getsource(ort.InferenceSession.__init__)
    named = set(inspect.signature(ort.InferenceSession.__init__).parameters)
    assert {"path_or_bytes", "sess_options", "providers", "kwargs"} <= named
    places = ["name", "device_type", "device_id", "element_type", "shape", "buffer_ptr"]
    for method in (ort.IOBinding.bind_input, ort.IOBinding.bind_output):
        assert list(inspect.signature(method).parameters)[1:] == places
    assert list(inspect.signature(ort.InferenceSession.run_with_iobinding).parameters)[1:] == [
        "iobinding",
        "run_options",
    ]
    given = ort.RunOptions()
    given.add_run_config_entry("disable_synchronize_execution_providers", "1")
    assert given.get_run_config_entry("disable_synchronize_execution_providers") == "1"
    assert "directory" in inspect.signature(ort.preload_dlls).parameters
    assert isinstance(ort.cuda_version, str)
    for name in ("get_available_providers", "io_binding", "get_inputs", "get_outputs", "get_providers"):
        assert callable(getattr(ort, name, None) or getattr(ort.InferenceSession, name))


def test_a_session_without_its_provider_is_refused_by_onnxruntime_itself(tiny) -> None:
    """The real session options, on a build that has no GPU."""
    ort = pytest.importorskip("onnxruntime")
    if CUDA in ort.get_available_providers():
        pytest.skip("a build for GPUs")
    with pytest.warns(UserWarning, match="not in available provider"), pytest.raises(Exception, match="CPU EP"):
        ort.InferenceSession(tiny.graph, module.session_options(ort), providers=[(CUDA, {})], enable_fallback=0)
