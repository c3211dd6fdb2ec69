"""What a network is told of the whole picture, on a GPU: each restore gives it its own, wherever the picture lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.torch import Torch
from mrs.runtime.conditioner import scaled
from mrs.runtime.cuda.conditioner import CudaConditioner
from mrs.runtime.errors import BackendError, DeviceError
from mrs.runtime.session import Restorer
from tests import tone_network
from tests.tone_network import LENGTH, SIDE, Net

pytestmark = pytest.mark.slow(7)

TABLE = tableau(Schedule(T=50, max_sigma=30.0), Solver(steps=4), "data")
PICTURE = np.random.default_rng(5).random((16, 18, 3), np.float32)
DARK = PICTURE * np.float32(0.3)


@pytest.fixture(scope="module")
def net() -> Net:
    return tone_network.drawn()


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double's network is torch's."""
    monkeypatch.setitem(backends.BACKENDS, "torch", Torch("torch", compiled=False, place="cpu"))


@pytest.fixture(params=[True, False], ids=["graph", "loop"])
def graphs(request: pytest.FixtureRequest) -> bool:
    """Whether restores are captured."""
    given: bool = request.param
    return given


@pytest.fixture(params=[True, False], ids=["looks", "told"])
def looks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the backend runs the conditioner; otherwise the CPU does."""
    given: bool = request.param

    def refuse(backend: Torch, *arguments: Any) -> Any:
        raise BackendError("this engine takes no such graph")

    if not given:
        monkeypatch.setattr(Torch, "compile_graph", refuse)
    return given


@pytest.fixture
def restorer(net: Net, device: Any, graphs: bool, looks: bool) -> Iterator[Restorer]:
    plan = tone_network.plan_of(net, TABLE, "torch", (1, 16, 18))
    with Restorer(plan, device=device, threads=1, graphs=graphs) as made:
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


def test_an_array_is_still_one_launch(restorer, device, graphs, looks) -> None:
    restorer.restore(PICTURE)
    device.taken_log()
    restorer.restore(DARK)
    log = device.taken_log()
    if graphs:
        assert log == ["stream 2: replay", "wait for stream 2"]
    else:
        begin = ["copy up", "scale_columns", "scale_rows"] if looks else ["copy up", "copy"]
        assert log[: len(begin)] == [f"stream 2: {name}" for name in begin]


def test_a_tensor_never_leaves_the_device(restorer, device, graphs, looks) -> None:
    image = device.upload(PICTURE)
    restorer.restore(image)
    restorer.synchronize()
    device.taken_log()
    restorer.restore(image)
    log = device.taken_log()
    assert any(line.startswith("wait") for line in log) != looks
    if graphs and looks:
        given = [line for line in log if line.startswith("stream 2: ")]
        assert given == ["stream 2: copy", "stream 2: copy", "stream 2: replay", "stream 2: copy"]


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


def test_a_size_that_is_whole_now_and_a_part_then_keeps_one_graph(restorer, device, net, graphs, looks) -> None:
    corner = np.ascontiguousarray(PICTURE[:8, :8])
    wanted = expected(net, corner)
    before = len(device.graphs)
    for _ in range(2):
        close(restorer.restore(corner, 3), wanted)
        tiled = restorer.restore(PICTURE, 3, tile=8, overlap=4)
        np.testing.assert_allclose(tiled[:3, :3], expected(net, corner, PICTURE)[:3, :3], rtol=0, atol=1e-4)
        assert len(device.graphs) == before + (1 if graphs else 0)


def test_what_went_wrong_before_a_part_is_told(restorer, device, looks) -> None:
    bad = np.full((8, 8, 3), np.nan, np.float32)
    restorer.restore(device.upload(bad))
    restorer.restore(PICTURE, tile=8, overlap=4)
    with pytest.raises(BackendError, match="infinities or NaN"):
        restorer.synchronize()


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


def test_streams_take_turns_at_the_picture(net, device) -> None:
    """Whoever comes second waits for the first, even where that one is held up between scaling and looking."""
    plan = tone_network.plan_of(net, TABLE, "torch", (1, 16, 18))
    with Restorer(plan, device=device, threads=1) as restorer:
        looker = restorer._workers[0].condition
        streams, contexts, lists = [device.stream(), device.stream()], [], []
        for stream, picture in zip(streams, (PICTURE, DARK), strict=True):
            contexts.append(device.empty((1, LENGTH, 1, 1), "float32"))
            with device.on(stream):
                lists.append(list(looker.nodes(device.upload(picture[None]), contexts[-1])))
                device.wait(stream)
        held = []
        for stream, nodes in zip(streams, lists, strict=True):
            looker.take(stream)
            with device.on(stream):
                for node in nodes:
                    node.work()
                    held += [stream.given] if node.name == "fit" else []
        device.catch_up(streams[0], held[1])
        for stream in reversed(streams):
            device.wait(stream)
    for picture, context in zip((PICTURE, DARK), contexts, strict=True):
        wanted = tone_network.context_of(net, picture).numpy().reshape(-1)
        np.testing.assert_allclose(context.numpy().reshape(-1), wanted, rtol=0, atol=1e-5)


def test_every_restore_takes_its_turn(restorer, device, net, looks) -> None:
    if not looks:
        pytest.skip("the host looks at one after the other")
    other = np.ascontiguousarray(DARK[:12, :8])
    for each in (PICTURE, other):
        restorer.warm_up(*each.shape[:2], dtype="float32", tensors=True)
    given = [device.upload(each) for each in (PICTURE, other)]
    device.taken_log()
    results = [restorer.restore(given[0], 3), restorer.restore(given[1], 3), restorer.restore(other, 3)]
    log = device.taken_log()
    follows = [line.split(" follows ") for line in log if "follows stream" in line and "default" not in line]
    # Warmed up last was the second size, which the third picture has, too.
    assert len(follows) == 2
    assert follows[0] == follows[1][::-1]
    restorer.synchronize()
    device.wait(device.default)
    for picture, found in zip((PICTURE, other, other), results, strict=True):
        close(np.asarray(found), expected(net, picture))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_clips_way_of_scaling(net, device, graphs, looks, kind) -> None:
    plan = tone_network.plan_of(net, TABLE, "torch", (1, 16, 18))
    plan = replace(plan, manifest={**plan.manifest, "conditioner": {"side": SIDE, "length": LENGTH, "resize": "clip"}})
    picture = np.random.default_rng(6).integers(0, 256, (40, 26, 3)).astype(np.uint8)
    picture = picture if kind == "uint8" else picture / np.float32(255)
    seen = net.condition(torch.from_numpy(scaled(picture, SIDE, "clip")[None]))
    floats = picture if kind == "float32" else picture / np.float32(255)
    wanted = tone_network.by_reference(net, TABLE, floats, seen, seed=3)
    with Restorer(plan, device=device, threads=1, graphs=graphs) as restorer:
        for given in (picture, device.upload(picture)):
            found = restorer.restore(given, 3)
            restorer.synchronize()
            device.wait(device.default)
            found = np.asarray(found, np.float32) / np.float32(255 if kind == "uint8" else 1)
            np.testing.assert_allclose(
                found, np.clip(wanted, 0, 1), rtol=0, atol=0.51 / 255 if kind == "uint8" else 2e-5
            )


def test_where_the_backend_cannot_the_cpu_looks_and_that_is_said(restorer, looks, caplog) -> None:
    with caplog.at_level("WARNING", "mrs"):
        restorer._workers[0].clear()
        looker = restorer._workers[0].condition
    assert isinstance(looker, CudaConditioner) == looks
    said = [record.message for record in caplog.records if "runs on the CPU" in record.message]
    assert said == ([] if looks else [
        "what tells the network of the whole picture runs on the CPU, and slows it: this engine takes no such graph"
    ])  # fmt: skip


def test_without_memory_for_it_the_cpu_looks(net, device, monkeypatch, caplog) -> None:
    def full(*arguments: Any) -> Any:
        raise device.OutOfMemory("CUDA out of memory")

    monkeypatch.setattr(Torch, "compile_graph", full)
    plan = tone_network.plan_of(net, TABLE, "torch", (1, 16, 18))
    with Restorer(plan, device=device, threads=1) as restorer:
        close(restorer.restore(PICTURE, 3), expected(net, PICTURE))
    assert "runs on the CPU, and slows it: the GPU's memory does not suffice" in caplog.text


def test_after_a_failure_of_the_device_it_is_made_anew(restorer, net) -> None:
    worker = restorer._workers[0]
    before = worker.condition
    assert worker.condition is before
    worker.failed(DeviceError("the GPU failed"))
    close(restorer.restore(PICTURE, 3), expected(net, PICTURE))
    assert worker.condition is not before


def test_a_device_that_fails_before_the_picture_is_on_the_host(restorer, device, looks) -> None:
    if looks:
        pytest.skip("the picture stays where it is")
    image, out, stream = device.upload(PICTURE), device.upload(PICTURE), device.stream()
    restorer.restore_into(image, out)
    device.fail["fill"] = RuntimeError("CUDA error: out of luck")
    with device.on(stream):
        device.give("fill")
        with pytest.raises(BackendError, match="the GPU failed, but not again in the same restore: CUDA error: out of"):
            restorer.restore_into(image, out)
    device.fail.clear()
    restorer.restore_into(image, out)


def test_an_engine_of_the_conditioner_that_fails_costs_one_restore(
    restorer, device, net, looks, graphs, monkeypatch
) -> None:
    chain = next(iter(restorer._workers[0]._chains.values()))
    restorer.warm_up(16, 18, dtype="float32", tensors=True)
    if looks and graphs:
        pytest.skip("what was captured does not fail so")
    engine = chain.condition._graph if looks else chain.condition._network

    def fail(*arguments: Any) -> None:
        raise BackendError("the engine failed at step 0")

    with monkeypatch.context() as patch:
        patch.setattr(*((engine, "_into") if looks else (type(engine), "evaluate")), fail)
        for given in (PICTURE, device.upload(PICTURE)):
            with pytest.raises(BackendError, match="the engine failed"):
                restorer.restore(given, 3)
    close(restorer.restore(PICTURE, 3), expected(net, PICTURE))
