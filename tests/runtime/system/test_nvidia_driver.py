"""The driver is read as cuda.h says, and whatever is wrong with it becomes one line."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mrs.runtime.errors import BackendError
from mrs.runtime.system import nvidia_driver as driver
from mrs.runtime.system.nvidia_driver import Driver, Gpu, apart_from_captures, new_stream, read_driver, why_unseen

GPUS = [Gpu("NVIDIA H100", "9.0", 85 << 30), Gpu("NVIDIA A10", "8.6", 24 << 30)]
KERNEL_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (builder)\n"


class Library:
    """The driver's functions on GPUs of our own; a function named in `failing` gives that code."""

    def __init__(self, cuda: int = 13000, **failing: int) -> None:
        self._cuda, self._failing = cuda, failing
        self._ready = False
        self.streams: list[tuple[int, int]] = []
        self._contexts: list[int | None] = []
        # As each thread begins: captures of all of them count.
        self.mode = 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        work = getattr(self, f"_{name}")

        def call(*arguments: Any) -> int:
            if name not in ("cuDriverGetVersion", "cuInit", "cuGetErrorString", "cuThreadExchangeStreamCaptureMode"):
                assert self._ready, "cuInit comes first"
            return self._failing.get(name) or work(*arguments) or 0

        return call

    def _cuDriverGetVersion(self, number: Any) -> None:
        number._obj.value = self._cuda

    def _cuInit(self, flags: int) -> None:
        assert flags == 0
        self._ready = True

    def _cuDeviceGetCount(self, number: Any) -> None:
        number._obj.value = len(GPUS)

    def _cuDeviceGet(self, device: Any, index: int) -> None:
        device._obj.value = index + 10

    def _cuDeviceGetName(self, text: Any, length: int, device: Any) -> None:
        assert length == len(text)
        text.value = GPUS[device.value - 10].name.encode()

    def _cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> None:
        assert type(memory._obj) is ctypes.c_size_t
        memory._obj.value = GPUS[device.value - 10].memory

    def _cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> None:
        part = {75: 0, 76: 1}[attribute]
        number._obj.value = int(GPUS[device.value - 10].capability.split(".")[part])

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:
        context._obj.value = device.value + 100

    def _cuCtxPushCurrent_v2(self, context: Any) -> None:
        self._contexts.append(context.value)

    def _cuCtxPopCurrent_v2(self, context: Any) -> None:
        context._obj.value = self._contexts.pop()

    def _cuStreamCreate(self, stream: Any, flags: int) -> int:
        assert type(stream._obj) is ctypes.c_void_p
        if not self._contexts:
            # No context is current.
            return 201
        self.streams.append((self._contexts[-1], flags))
        stream._obj.value = (1 << 40) + len(self.streams)
        return 0

    def _cuThreadExchangeStreamCaptureMode(self, mode: Any) -> None:
        assert type(mode._obj) is ctypes.c_int
        self.mode, mode._obj.value = mode._obj.value, self.mode

    def _cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = {100: b"no CUDA-capable device is detected"}.get(code)
        return 0 if text._obj.value else 1


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a library, or an error, where the driver's would be."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "version").write_text(KERNEL_MODULE)
    monkeypatch.setattr(driver, "KERNEL_MODULE", tmp_path / "version")
    driver._exchange.cache_clear()

    def put(library: object) -> None:
        def load(name: str) -> object:
            assert name == driver.LIBRARY
            if isinstance(library, Exception):
                raise library
            return library

        monkeypatch.setattr(driver, "ctypes", SimpleNamespace(**{**vars(ctypes), "CDLL": load}))

    return put


def test_a_driver(machine) -> None:
    machine(Library())
    assert read_driver() == Driver("580.95.05", "13.0", tuple(GPUS))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\nGCC", "470.57.02"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  595.10  Release Build", "595.10"),
        ("something else", ""),
        (None, ""),
    ],
)
def test_versions_of_the_kernel_module(machine, text, version) -> None:
    machine(Library(12040))
    driver.KERNEL_MODULE.unlink() if text is None else driver.KERNEL_MODULE.write_text(text)
    assert (read_driver().version, read_driver().cuda) == (version, "12.4")


@pytest.mark.parametrize(
    ("library", "message", "hint"),
    [
        (OSError("cannot open shared object file"), "no NVIDIA driver is found", "install it"),
        (Library(cuInit=100), "does not work: no CUDA-capable device is detected", "--gpus all"),
        (Library(cuInit=803), "does not work: cuInit fails with 803", "reboot"),
        (Library(cuDeviceGetName=999), "cuDeviceGetName fails with 999", "nvidia-smi"),
        (SimpleNamespace(), "cuDriverGetVersion fails with 1", "nvidia-smi"),
    ],
    ids=["no driver", "no GPU", "mismatch", "later", "no driver's library"],
)
def test_what_is_wrong_with_a_driver(machine, library, message, hint) -> None:
    machine(library)
    with pytest.raises(BackendError) as caught:
        read_driver()
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert why_unseen("12.8") == f"{caught.value.message}: {caught.value.hint}"


@pytest.mark.parametrize("value", ["", "-1"])
def test_gpus_that_are_hidden(machine, monkeypatch, value) -> None:
    machine(Library())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert why_unseen("12.8") == "CUDA_VISIBLE_DEVICES hides every GPU: unset it"


@pytest.mark.parametrize(
    ("serves", "built", "says"),
    [
        (12040, "13.0", "the driver serves CUDA up to 12.4, and this is a build for 13.0: update the driver"),
        (12040, "12.8", "NVIDIA H100 cannot be used: check it with nvidia-smi"),
        (13000, "12.8", "NVIDIA H100 cannot be used: check it with nvidia-smi"),
    ],
)
def test_a_driver_that_is_too_old(machine, serves, built, says) -> None:
    machine(Library(serves))
    assert why_unseen(built) == says


def test_a_stream_of_a_gpu_waits_for_no_other_and_leaves_no_context(machine) -> None:
    library = Library()
    machine(library)
    assert [new_stream(index) for index in (1, 0)] == [(1 << 40) + 1, (1 << 40) + 2]
    # In the contexts of both, and not blocking.
    assert library.streams == [(111, 1), (110, 1)]
    assert library._contexts == []


def test_a_stream_that_the_driver_refuses(machine) -> None:
    library = Library(cuStreamCreate=999)
    machine(library)
    with pytest.raises(BackendError, match="cuStreamCreate fails with 999"):
        new_stream(0)
    assert library._contexts == []
    machine(OSError("cannot open shared object file"))
    with pytest.raises(BackendError, match="no NVIDIA driver is found"):
        new_stream(0)


def test_a_threads_mode_is_put_back(machine) -> None:
    library = Library()
    machine(library)
    with apart_from_captures():
        assert library.mode == 1
        with apart_from_captures():
            assert library.mode == 1
        assert library.mode == 1
    assert library.mode == 0
    with pytest.raises(KeyError), apart_from_captures():
        raise KeyError
    assert library.mode == 0


@pytest.mark.parametrize(
    "library", [OSError("no file"), SimpleNamespace(), Library(cuThreadExchangeStreamCaptureMode=700)],
    ids=["no driver", "an old one", "one that failed"],
)  # fmt: skip
def test_where_the_driver_does_not_change_the_mode_all_goes_on(machine, library) -> None:
    """What fails then tells more."""
    machine(library)
    done = []
    with apart_from_captures():
        done.append(1)
    assert done == [1]
