"""What a network is told of the whole picture, on a GPU: each restore gives it its own, wherever the picture lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.torch import Torch
from mrs.runtime.errors import BackendError
from mrs.runtime.session import Restorer
from tests import tone_network
from tests.tone_network import Net

pytestmark = pytest.mark.slow(7)

TABLE = tableau(Schedule(T=50, max_sigma=30.0), Solver(steps=4), "data")
PICTURE = np.random.default_rng(5).random((16, 18, 3), np.float32)
DARK = PICTURE * np.float32(0.3)


@pytest.fixture(scope="module")
def net() -> Net:
    return tone_network.drawn()


@pytest.fixture(params=[True, False], ids=["graph", "loop"])
def restorer(request: pytest.FixtureRequest, net: Net, device: Any, monkeypatch: Any) -> Iterator[Restorer]:
    """On the double, whose network is torch's."""
    monkeypatch.setitem(backends.BACKENDS, "torch", Torch("torch", compiled=False, place="cpu"))
    plan = tone_network.plan_of(net, TABLE, "torch", (1, 16, 18))
    with Restorer(plan, device=device, threads=1, graphs=request.param) as made:
        yield made


def expected(net: Net, picture: Any, of: Any = None) -> Any:
    context = None if of is None else tone_network.context_of(net, of)
    return tone_network.by_reference(net, TABLE, picture, context, seed=3)


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


def test_a_restore_is_the_reference_and_the_next_picture_has_its_own(restorer, device, net) -> None:
    for picture in (PICTURE, DARK, PICTURE):
        close(restorer.restore(picture, 3), expected(net, picture))
    # What the network is told decides: with another picture's the result is another one.
    assert np.abs(expected(net, PICTURE) - expected(net, PICTURE, DARK)).max() > 1e-2
    assert len(device.graphs) in (0, 2)


def test_an_array_is_still_one_launch(restorer, device) -> None:
    restorer.restore(PICTURE)
    device.taken_log()
    restorer.restore(DARK)
    log = device.taken_log()
    if restorer._workers[0].graphs:
        assert log == ["stream 1: replay", "wait for stream 1"]
    else:
        assert log[:2] == ["stream 1: copy up", "stream 1: copy"]


def test_pictures_of_a_batch_have_each_their_own(restorer, net) -> None:
    batch = np.stack([PICTURE, DARK])
    close(restorer.restore(batch, 3), expected(net, batch))


def test_tiles_are_told_of_the_whole_picture(restorer, device, net) -> None:
    for given in (PICTURE, device.upload(PICTURE)):
        tiled = np.asarray(restorer.restore(given, 3, tile=8, overlap=4))
        # The corner of the first tile that no other tile reaches and no seam touches.
        corner = np.ascontiguousarray(PICTURE[:8, :8])
        np.testing.assert_allclose(tiled[:3, :3], expected(net, corner, PICTURE)[:3, :3], rtol=0, atol=1e-4)
        assert np.abs(tiled[:3, :3] - expected(net, corner)[:3, :3]).max() > 1e-3


def test_tensors_too(restorer, device, net) -> None:
    given = [device.upload(picture) for picture in (PICTURE, DARK)]
    # The second is told of while the first may still run.
    results = [restorer.restore(each, 3) for each in given]
    restorer.synchronize()
    device.wait(device.default)
    for picture, found in zip((PICTURE, DARK), results, strict=True):
        close(found.numpy(), expected(net, picture))


def test_a_tensor_that_is_still_in_the_making(restorer, device, net) -> None:
    image, stream = device.upload(PICTURE), device.stream()
    with device.on(stream):
        device.give("fill", lambda: image.copy_(torch.from_numpy(DARK)))
        found = restorer.restore(image, 3)
    device.wait(stream)
    close(found.numpy(), expected(net, DARK))


def test_bound_tensors_are_looked_at_anew_each_time(restorer, device, net) -> None:
    image, out = device.upload(PICTURE), device.empty(PICTURE.shape, "float32")
    for picture in (PICTURE, DARK):
        image.copy_(torch.from_numpy(picture))
        restorer.restore_into(image, out, 3, bound=True)
        restorer.synchronize()
        close(out.numpy(), expected(net, picture))


def test_chains_that_share_a_network_do_not_share_what_it_is_told(restorer, device, net) -> None:
    """Of one padded shape; nobody waits in between."""
    other = np.ascontiguousarray(DARK[:15])
    given = [device.upload(picture) for picture in (PICTURE, other, PICTURE)]
    results = [restorer.restore(each, 3) for each in given]
    restorer.synchronize()
    device.wait(device.default)
    for picture, found in zip((PICTURE, other, PICTURE), results, strict=True):
        close(found.numpy(), expected(net, picture))


def test_a_device_that_fails_before_the_picture_is_on_the_host(restorer, device) -> None:
    image, out, stream = device.upload(PICTURE), device.upload(PICTURE), device.stream()
    restorer.restore_into(image, out)
    device.fail["fill"] = RuntimeError("CUDA error: out of luck")
    with device.on(stream):
        device.give("fill")
        with pytest.raises(BackendError, match="the GPU failed, but not again in the same restore: CUDA error: out of"):
            restorer.restore_into(image, out)
    device.fail.clear()
    restorer.restore_into(image, out)


def test_an_engine_of_the_conditioner_that_fails_costs_one_restore(restorer, device, net, monkeypatch) -> None:
    chain = next(iter(restorer._workers[0]._chains.values()))
    engine = type(chain.condition._network)

    def fail(network: Any, step: int) -> None:
        raise BackendError("openvino failed at step 0")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "evaluate", fail)
        for given in (PICTURE, device.upload(PICTURE)):
            with pytest.raises(BackendError, match="openvino failed"):
                restorer.restore(given, 3)
    close(restorer.restore(PICTURE, 3), expected(net, PICTURE))
