"""NaN is told with its step and a way out, once, and by the restore that made it."""

from __future__ import annotations

import numpy as np
import pytest

from mrs.runtime.errors import BackendError


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("step", [0, 1, 2])
def test_nan_names_its_step_and_a_way_out(gpu, pictures, step: int, value: float, graphs: bool) -> None:
    given = pictures((2, 6, 5))
    with gpu.load(graphs=graphs) as restorer:
        expected = restorer.restore(given, 3)
        network = gpu.backend.networks[-1]
        network.spoilt = {step: value}
        with pytest.raises(BackendError, match=f"^the network gave infinities or NaN at step {step} of 3 ") as error:
            restorer.restore(given, 3)
        assert 'precision="fp32"' in error.value.hint
        network.spoilt.clear()
        captures = gpu.device.captures
        np.testing.assert_array_equal(restorer.restore(given, 3), expected)
        assert gpu.device.captures == captures


@pytest.mark.parametrize("bound", [False, True], ids=["copied", "bound"])
@pytest.mark.parametrize("step", [0, 2])
def test_nan_with_tensors_is_told_by_synchronize(restorer, gpu, pictures, step: int, bound: bool) -> None:
    given = pictures((1, 16, 16))
    image, out = gpu.device.upload(given), gpu.device.empty(given.shape, "uint8")
    restorer.restore_into(image, out, 3, bound=bound)
    restorer.synchronize()
    network = gpu.backend.networks[-1]
    network.spoilt = {step: float("nan")}
    restorer.restore_into(image, out, 3, bound=bound)
    # It is told even if later restores were fine.
    with pytest.raises(BackendError, match=f"^the network gave infinities or NaN at step {step} of 3 "):
        restorer.synchronize()
    network.spoilt.clear()
    restorer.synchronize()
    restorer.restore_into(image, out, 3, bound=bound)
    restorer.synchronize()
    gpu.device.wait(gpu.device.default)
    np.testing.assert_array_equal(out.numpy(), restorer.restore(given, 3))


def test_nan_is_told_even_if_a_later_restore_is_fine(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((16, 16)))
    network = gpu.backend.networks[-1]
    network.spoilt = {1: float("nan")}
    restorer.restore(image)
    gpu.device.wait(gpu.device.default)
    network.spoilt.clear()
    restorer.restore(image)
    with pytest.raises(BackendError, match="infinities or NaN in a restore since the last check"):
        restorer.synchronize()
    restorer.synchronize()


def test_nan_with_tensors_is_no_fault_of_the_next_array(restorer, gpu, pictures) -> None:
    given = pictures((16, 16))
    expected = restorer.restore(given, 3)
    network = gpu.backend.networks[-1]
    restorer.warm_up(16, 16, tensors=True)
    network.spoilt = {1: float("nan")}
    restorer.restore(gpu.device.upload(given), 3)
    gpu.device.catch_up(gpu.device.default)
    network.spoilt.clear()
    np.testing.assert_array_equal(restorer.restore(given, 3), expected)
    with pytest.raises(BackendError, match="infinities or NaN in a restore since the last check"):
        restorer.synchronize()
    restorer.synchronize()


def test_nan_is_told_of_a_chain_that_is_gone(gpu, pictures, caplog) -> None:
    # Memory for one of them at a time.
    with gpu.load(memory=160 * 20 * 20) as restorer:
        network = gpu.backend.networks[-1]
        network.spoilt = {1: float("nan")}
        restorer.restore(gpu.device.upload(pictures((16, 16))))
        restorer.restore(pictures((20, 20)))
        assert "infinities or NaN at step 1 of 3" in caplog.text
        with pytest.raises(BackendError, match="infinities or NaN at step 1 of 3"):
            restorer.synchronize()
        restorer.synchronize()


def test_nan_in_a_picture_that_was_restored_in_place_names_no_step(restorer, gpu, pictures) -> None:
    image = gpu.device.upload(pictures((16, 16)))
    restorer.restore_into(image, image, bound=True)
    gpu.backend.networks[-1].spoilt = {1: float("nan")}
    restorer.restore_into(image, image, bound=True)
    with pytest.raises(BackendError, match=r"^the network gave infinities or NaN \("):
        restorer.synchronize()
    restorer.synchronize()


def test_nan_that_does_not_come_again(gpu, pictures) -> None:
    # A replay does not ask the network, what is launched one by one does.
    gpu.backend.trouble = lambda network, step: network.spoilt.clear()
    with gpu.load() as restorer:
        gpu.backend.networks[-1].spoilt = {1: float("nan")}
        with pytest.raises(BackendError, match="gave infinities or NaN, but not again in the same restore"):
            restorer.restore(pictures((16, 16)))
        restorer.restore(pictures((16, 16)))
