"""A failure of a GPU is told with its place and a way out, and the next restore works; our own errors stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrs.runtime.errors import BackendError, DeviceError, InputError, MrsError
from tests.runtime.cuda.behaviour import FailureError, FatalError

pytestmark = pytest.mark.slow(4)


def restored(restorer: Any, gpu: Any, given: Any, tensors: bool) -> None:
    """Restore as an array or as a tensor, and wait."""
    if tensors:
        restorer.restore(gpu.device.upload(given))
        restorer.synchronize()
    else:
        restorer.restore(given)


def test_a_device_that_fails_while_nan_is_looked_for(gpu, pictures) -> None:
    def fail(network: Any, step: int) -> None:
        if step == 1 and network.spoilt:
            raise UNSPECIFIED

    gpu.backend.trouble = fail
    with gpu.load() as restorer:
        gpu.backend.networks[-1].spoilt = {2: float("nan")}
        with pytest.raises(BackendError, match="infinities or NaN and then failed: CUDA error: unspecified"):
            restorer.restore(pictures((16, 16)))


# Other failures of the device

NODES = [
    ("copy up", "upload"),
    ("start_pixels", "start"),
    ("network 0", "network of step 0"),
    ("network 2", "network of step 2"),
    ("count_pixels 1", "threshold of step 1"),
    ("find", "threshold of step 0"),
    ("choose", "threshold of step 0"),
    ("step_pixels 0", "step of step 0"),
    ("step_pixels 1", "step of step 1"),
    ("audit_values", "audit of step 2"),
    ("finish_pixels 2", "finish of step 2"),
]
UNSPECIFIED = FailureError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")


@pytest.fixture
def clamped(gpu) -> Any:
    """A restorer with every kind of node."""
    with gpu.load(gpu.plan(clamp="threshold")) as restorer:
        yield restorer


@pytest.mark.parametrize(("name", "where"), [*NODES, ("copy down", "download")])
def test_a_failure_names_what_failed_and_the_next_restore_works(clamped, gpu, pictures, name, where) -> None:
    given = pictures((16, 16))
    expected = clamped.restore(given, 3)
    gpu.device.fail[name] = UNSPECIFIED
    with pytest.raises(DeviceError) as error:
        clamped.restore(given, 3)
    assert error.value.message == f"the GPU failed in {where}: CUDA error: unspecified launch failure"
    assert error.value.hint == "restore again, or on another backend"
    assert error.value.__cause__ is UNSPECIFIED
    gpu.device.fail.clear()
    np.testing.assert_array_equal(clamped.restore(given, 3), expected)
    # Nothing that the failure may have spoilt is used again.
    assert (len(gpu.backend.networks), gpu.device.captures) == (2, 2)


@pytest.mark.parametrize(("name", "where"), NODES[1:])
def test_a_failure_with_tensors_is_told_by_synchronize(clamped, gpu, pictures, name, where) -> None:
    given = pictures((16, 16))
    image = gpu.device.upload(given)
    clamped.warm_up(16, 16, tensors=True)
    gpu.device.fail[name] = UNSPECIFIED
    clamped.restore(image, 3)
    with pytest.raises(DeviceError, match=f"^the GPU failed in {where}: CUDA error: unspecified launch failure"):
        clamped.synchronize()
    gpu.device.fail.clear()
    result = clamped.restore(image, 3)
    clamped.synchronize()
    gpu.device.wait(gpu.device.default)
    np.testing.assert_array_equal(result.numpy(), clamped.restore(given, 3))


def test_a_failure_is_named_without_graphs_too(gpu, pictures) -> None:
    with gpu.load(graphs=False) as restorer:
        gpu.device.fail["step_pixels 1"] = UNSPECIFIED
        with pytest.raises(DeviceError, match="the GPU failed in step of step 1: "):
            restorer.restore(pictures((16, 16)))


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_a_failure_that_does_not_come_again(clamped, gpu, pictures, tensors: bool) -> None:
    clamped.warm_up(16, 16, tensors=True)
    gpu.device.fail["step_pixels 1"], gpu.device.flaky = UNSPECIFIED, True
    with pytest.raises(DeviceError, match="the GPU failed, but not again in the same restore: CUDA error") as error:
        restored(clamped, gpu, pictures((16, 16)), tensors)
    assert error.value.hint == "restore again"
    clamped.restore(pictures((16, 16)))


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
@pytest.mark.parametrize("name", ["start_pixels", "network 1", "finish_pixels"])
def test_a_device_that_does_not_recover(gpu, pictures, name: str, tensors: bool) -> None:
    restorer = gpu.load()
    restorer.warm_up(16, 16, tensors=True)
    given = pictures((16, 16))
    image = gpu.device.upload(given)
    gpu.device.fail[name] = FatalError("CUDA error: an illegal memory access was encountered\nand so on")
    with pytest.raises(DeviceError, match="the GPU failed and does not recover: CUDA error: an illegal") as error:
        restored(restorer, gpu, given, tensors)
    assert "and so on" not in error.value.message
    assert "end this process" in error.value.hint
    # Every later call says so too, as an error of ours, and it can be closed.
    for each in (image, given):
        with pytest.raises(BackendError, match="an illegal memory access"):
            restorer.restore(each)
    restorer.close()


def test_a_failure_drops_the_chains_of_its_worker_alone(gpu, pictures) -> None:
    with gpu.load(workers=2) as restorer:
        restorer.warm_up(8, 8)
        gpu.device.fail["step_pixels"] = UNSPECIFIED
        with pytest.raises(DeviceError):
            restorer.restore(pictures((16, 16)))
        gpu.device.fail.clear()
        restorer.warm_up(8, 8)
        restorer.warm_up(16, 16)
    assert gpu.device.captures == 4 + 2


@pytest.mark.parametrize(
    ("name", "when"), [("copy", "while its buffers are made"), ("finish_planes", "during its first run")]
)
def test_a_failure_before_the_first_restore_says_when(gpu, pictures, name: str, when: str) -> None:
    with gpu.load() as restorer:
        gpu.device.fail[name] = UNSPECIFIED
        with pytest.raises(BackendError, match=f"^the GPU failed {when}: CUDA error: unspecified launch failure$"):
            restorer.restore(pictures((6, 6)))
        gpu.device.fail.clear()
        restorer.restore(pictures((6, 6)))


def test_a_failure_of_the_compiler_says_when(gpu, pictures, monkeypatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise UNSPECIFIED

    with gpu.load() as restorer:
        monkeypatch.setattr(gpu.backend, "compile", refuse)
        with pytest.raises(BackendError, match=r"^the GPU failed while the network is compiled: CUDA error: [a-z ]*$"):
            restorer.restore(pictures((6, 6)))


# Errors of ours


@pytest.mark.parametrize(
    "error", [BackendError("the engine fails", hint="try another"), InputError("no")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_errors_of_ours_pass_unchanged(gpu, pictures, error: MrsError, tensors: bool) -> None:
    wanted: list[Exception] = []

    def fail(network: Any, step: int) -> None:
        if wanted and step == 1:
            raise wanted[0]

    gpu.backend.trouble = fail
    given = pictures((16, 16))
    with gpu.load(graphs=False) as restorer:
        restorer.warm_up(16, 16, tensors=True)
        wanted.append(error)
        with pytest.raises(type(error)) as raised:
            restorer.restore(gpu.device.upload(given) if tensors else given)
        assert raised.value is error
        wanted.clear()
        restorer.restore(given)
    # Nothing was spoilt, so nothing was made anew.
    assert len(gpu.backend.networks) == 1


def test_a_bug_is_no_failure_of_the_device(gpu, pictures) -> None:
    bugs: list[Callable[[], object]] = []
    gpu.backend.trouble = lambda network, step: [bug() for bug in bugs]
    with gpu.load(graphs=False) as restorer:
        bugs.append({}.popitem)
        with pytest.raises(KeyError):
            restorer.restore(pictures((16, 16)))
        bugs.clear()
        restorer.restore(pictures((16, 16)))


def test_all_are_waited_for_and_one_error_is_told(gpu, pictures) -> None:
    with gpu.load() as restorer:
        for side in (8, 16):
            restorer.warm_up(side, side, tensors=True)
        for network in gpu.backend.networks:
            network.spoilt = {1: float("nan")}
        for side in (8, 16):
            restorer.restore(gpu.device.upload(pictures((side, side))))
        with pytest.raises(BackendError, match="infinities or NaN at step 1 of 3"):
            restorer.synchronize()
        # Nothing is left for later.
        restorer.synchronize()
