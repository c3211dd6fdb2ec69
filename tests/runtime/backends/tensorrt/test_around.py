"""Graphs around the network on TensorRT's double: built for themselves, kept on disk, and in the chain's one graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError, DeviceMemoryError
from mrs.runtime.session import Restorer
from tests import tone_network
from tests.golden.networks import golden
from tests.runtime.backends.test_around import NAME, check, check_autoencoder, check_conditioner, encoder_graph
from tests.tone_network import CHANNELS, LENGTH, SIDE, Net

pytestmark = pytest.mark.slow(20)

TABLE = tableau(Schedule(T=50, max_sigma=30.0), Solver(steps=3), "data")
PICTURES = [scale * np.random.default_rng(5).random((16, 18, 3), np.float32) for scale in (1, np.float32(0.3))]


@pytest.fixture
def net() -> Net:
    return tone_network.drawn()


@pytest.fixture
def load(backend: Any, world: Any, net: Net, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Restorer]:
    monkeypatch.setitem(backends.BACKENDS, "tensorrt", backend)
    monkeypatch.setattr("mrs.runtime.backends.tensorrt.backend.installed_version", lambda *names: world.version)
    plan = tone_network.plan_of(net, TABLE, "tensorrt", (1, 16, 18))
    return lambda **more: Restorer(plan, device=world.device, threads=1, **more)


def graph_of(net: Net) -> bytes:
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return bytes(net.arch.conditioner(state).graph.SerializeToString())


@pytest.mark.parametrize("halved", [False, True], ids=["whole", "halved"])
def test_the_published_features(backend, world, tmp_path: Path, monkeypatch: Any, halved: bool) -> None:
    graph, _ = encoder_graph(tmp_path, monkeypatch, halved)
    given = world.device.upload(np.zeros_like(golden(NAME)["image"][:1]))
    check(graph, backend, given, lambda: world.device.wait(world.device.default))
    (built,) = world.builds
    assert built["cleared"] == {"TF32"}


def test_daclips_conditioner(backend, world, tmp_path: Path) -> None:
    check_conditioner(tmp_path, backend, world.device.upload, lambda: world.device.wait(world.device.default))


def test_an_autoencoder(backend, world, tmp_path: Path) -> None:
    check_autoencoder(tmp_path, backend, world.device.upload, lambda: world.device.wait(world.device.default))


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
def test_a_restore_is_the_reference_and_one_launch(load, world, net, graphs: bool) -> None:
    device = world.device
    with load(graphs=graphs) as restorer:
        restorer.warm_up(16, 18, dtype="float32")
        for picture in PICTURES:
            device.taken_log()
            found = restorer.restore(picture, 3)
            log = device.taken_log()
            context = tone_network.context_of(net, picture)
            wanted = tone_network.by_reference(net, TABLE, picture, context, seed=3)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)
            assert not graphs or log[0].endswith(": replay")
            image = device.upload(picture)
            found = restorer.restore(image, 3)
            restorer.synchronize()
            device.wait(device.default)
            np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=2e-5)


def test_engines_are_kept_for_the_next_process(load, backend, world, caplog) -> None:
    with load() as restorer:
        first = restorer.restore(PICTURES[0], 3)
    assert [built["shape"] for built in world.builds] == [[1, CHANNELS, SIDE, SIDE], [1, 2 * CHANNELS, 16, 18]]
    backend._engines.clear()
    with load() as restorer:
        np.testing.assert_array_equal(restorer.restore(PICTURES[0], 3), first)
    assert len(world.builds) == 2
    backend._engines.clear()
    with load(cache=False):
        assert len(world.builds) == 4


def test_an_engine_that_is_refused_is_made_anew(load, backend, world, caplog) -> None:
    with load():
        pass
    backend._engines.clear()
    world.gpu = "NVIDIA Other 9.0"
    with caplog.at_level("INFO", "mrs"), load():
        pass
    assert "a graph around the network that was kept does not load, compiling it anew" in caplog.text
    assert len(world.builds) == 4


def test_workers_have_an_engine_each_that_is_built_once(load, world) -> None:
    with load(workers=2) as restorer:
        one, other = (worker.condition._graph for worker in restorer._workers)
        assert one._engine._context is not other._engine._context
    assert len(world.builds) == 2


def test_what_fails_is_told(load, backend, world, net) -> None:
    given = world.device.upload(np.zeros((1, CHANNELS, SIDE, SIDE), np.float32))
    arguments = graph_of(net), {"packed": given}, {"batch": 1}, CompileSettings(1)
    made = backend.compile_graph(*arguments)
    with pytest.raises(BackendError, match="cannot load its engine: it is not for inputs of"):
        backend.restore_graph(made.export(), {"packed": given[:, :, :4]})
    world.says["execute"] = ["Error Code 1: Cask (out of luck)"]
    with pytest.raises(BackendError, match=r"^tensorrt failed around the network: .*out of luck"):
        made.evaluate()
    world.says.clear()
    backend._engines.clear()
    world.says["build"] = ["Error Code 2: OutOfMemory (no memory)"]
    with pytest.raises((DeviceMemoryError, BackendError), match="memory"):
        backend.compile_graph(*arguments)


def test_the_output_is_planes_of_floats_at_an_address_that_stays(backend, world, net) -> None:
    given = world.device.upload(np.zeros((1, CHANNELS, SIDE, SIDE), np.float32))
    made = backend.compile_graph(graph_of(net), {"packed": given}, {"batch": 1}, CompileSettings(1))
    output = made.outputs["output"]
    assert (tuple(output.shape), output.dtype) == ((1, LENGTH, 1, 1), torch.float32)
    taken = world.device.taken
    stream = world.device.stream()
    with world.device.on(stream):
        made.evaluate()
    world.device.wait(stream)
    assert world.device.taken == taken
    assert output.any()
