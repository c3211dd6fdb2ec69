"""Latents restored on a GPU: one launch from picture to picture, as on a CPU, and what happens where it goes wrong."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mrs.numerics.solver import Solver
from mrs.runtime import backends
from mrs.runtime.backends.torch import Torch, TorchGraph
from mrs.runtime.errors import BackendError, CaptureError, DeviceMemoryError, InputError
from mrs.runtime.placement import Choice, pixels_that_fit
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer
from tests.runtime.cuda.behaviour import FailureError
from tests.runtime.cuda.double import Double
from tests.runtime.latent_plans import latent_plan

pytestmark = pytest.mark.slow(45)

# Whole, mirrored, mirrored to and fro, with a latent that the network pads.
SIZES = ((1, 16, 32), (1, 13, 22), (2, 3, 1), (1, 40, 24))
Load = Callable[..., Restorer]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return latent_plan(tmp_path_factory.mktemp("pair"), "torch")


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double's network is torch's."""
    monkeypatch.setitem(backends.BACKENDS, "torch", Torch("torch", compiled=False, place="cpu"))


@pytest.fixture
def load(plan: Plan, device: Double) -> Iterator[Load]:
    loaded: list[Restorer] = []

    def make(of: Plan = plan, **more: Any) -> Restorer:
        loaded.append(Restorer(of, device=device, threads=1, **more))
        return loaded[-1]

    yield make
    for restorer in loaded:
        restorer.close()


@pytest.fixture(scope="module")
def on_cpu(plan: Plan) -> Iterator[Restorer]:
    with Restorer(plan, backend="onnxruntime", threads=1) as restorer:
        yield restorer


def pictures_of(count: int, height: int, width: int) -> Any:
    return np.random.default_rng(height).random((count, height, width, 3), np.float32)


def close(found: Any, wanted: Any) -> None:
    assert found.dtype == wanted.dtype
    if wanted.dtype == np.uint8:
        assert np.abs(found.astype(int) - wanted).max() <= 1
    else:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
def test_a_restore_is_that_of_the_cpu(load: Load, on_cpu: Restorer, graphs: bool) -> None:
    restorer = load(graphs=graphs)
    # Once more: what came in between has left nothing.
    for size in (*SIZES, SIZES[1]) if graphs else SIZES[1:3]:
        given = pictures_of(*size)
        close(restorer.restore(given, 7), on_cpu.restore(given, 7))
    levels = np.rint(given * 255).astype(np.uint8)
    close(restorer.restore(levels, 7), on_cpu.restore(levels, 7))
    # The noise decides.
    assert np.abs(restorer.restore(given, 8) - on_cpu.restore(given, 7)).max() > 1e-2


def test_the_kernels_themselves(tmp_path: Any) -> None:
    """Not their references: as Triton's interpreter runs them."""
    plan, given = latent_plan(tmp_path, "torch", (1, 16, 16)), np.rint(pictures_of(1, 16, 16) * 255).astype(np.uint8)
    with (
        Restorer(plan, backend="onnxruntime", threads=1) as on_cpu,
        Restorer(plan, device=Double(interpreted=True), threads=1, graphs=False) as restorer,
    ):
        close(restorer.restore(given, 7), on_cpu.restore(given, 7))


@pytest.mark.parametrize("solver", [Solver("ode", 1, steps=1), Solver("ode", 3, steps=4)], ids=["one", "four"])
def test_every_number_of_steps_and_predictions(tmp_path: Any, load: Load, solver: Solver) -> None:
    other, given = latent_plan(tmp_path, "torch", solver=solver), pictures_of(1, 13, 22)
    with Restorer(other, backend="onnxruntime", threads=1) as reference:
        close(load(other).restore(given, 3), reference.restore(given, 3))


def test_a_network_whose_padding_is_a_reflection(plan: Plan, load: Load) -> None:
    """Of the latent, whose sides the network pads."""
    network = {**plan.manifest["network"], "padding": "reflect"}
    other, given = replace(plan, manifest={**plan.manifest, "network": network}), pictures_of(1, 40, 24)
    with Restorer(other, backend="onnxruntime", threads=1) as reference:
        wanted = reference.restore(given, 3)
    close(load(other).restore(given, 3), wanted)
    assert np.abs(load().restore(given, 3) - wanted).max() > 1e-4


def test_tensors_lent_and_bound(load: Load, device: Double, on_cpu: Restorer) -> None:
    restorer = load()
    given = pictures_of(*SIZES[1])
    wanted, image = on_cpu.restore(given, 7), device.upload(given)
    found, out = restorer.restore(image, 7), torch.zeros_like(image)
    restorer.restore_into(image, out, 7, bound=True)
    with restorer.lend(given, 7) as lent:
        close(lent, wanted)
    restorer.synchronize()
    device.wait(device.default)
    close(found.numpy(), wanted)
    close(out.numpy(), wanted)


def test_one_launch_which_is_used_again(load: Load, device: Double) -> None:
    restorer, picture = load(), pictures_of(1, 16, 32)
    restorer.restore(picture)
    captures = device.captures
    device.taken_log()
    restorer.restore(picture * np.float32(0.3), 5)
    assert [line.replace("stream 1", "it") for line in device.taken_log()] == ["it: replay", "wait for it"]
    assert device.captures == captures


def test_what_a_restore_launches(load: Load) -> None:
    restorer = load()
    with restorer.chain((1, 13, 22)) as chain:
        named = [f"{node.name} {node.step}" for node in chain.nodes]  # type: ignore[attr-defined]
    assert named == [
        "planes -1", "mirror -1", "encoder -1", "latent -1", "start -1", "network 0", "step 0", "network 1", "step 1",
        "network 2", "audit 2", "step 2", "latent -1", "decoder -1", "audit -1", "picture -1",
    ]  # fmt: skip
    with restorer.chain((1, 16, 32)) as chain:
        assert "mirror -1" not in [f"{node.name} {node.step}" for node in chain.nodes]  # type: ignore[attr-defined]
        chain.evaluate_all()


def test_chains_of_one_padded_size_share_encoder_and_decoder(
    load: Load, device: Double, on_cpu: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    compile_graph = Torch.compile_graph

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return compile_graph(*arguments)

    monkeypatch.setattr(Torch, "compile_graph", counted)
    restorer = load()
    made.clear()
    given = [pictures_of(1, height, 26) for height in (13, 16, 13)]
    # Nobody waits in between.
    found = [restorer.restore(device.upload(each), 7) for each in given]
    restorer.synchronize()
    device.wait(device.default)
    for each, picture in zip(found, given, strict=True):
        close(each.numpy(), on_cpu.restore(picture, 7))
    # Those that were made at load, for the plan's size.
    assert made == []


# What goes wrong


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
@pytest.mark.parametrize(
    ("which", "told"),
    [("encoder", "the encoder gave infinities or NaN"), ("decoder", "the decoder gave infinities or NaN")],
)
def test_infinities_are_told_and_leave_nothing(load: Load, device: Double, graphs: bool, which: str, told: str) -> None:
    restorer, given = load(graphs=graphs), pictures_of(1, 16, 32)
    expected = restorer.restore(given, 3)
    with restorer.chain((1, 16, 32), ("float32", "float32")) as chain:
        coder = chain.shared.coder  # type: ignore[union-attr]
        weights = getattr(coder, f"_{which}")._weights
    kept = weights[0].clone()
    with torch.inference_mode():
        weights[0].fill_(float("nan"))
        with pytest.raises(BackendError, match=rf"^{told} \(load"):
            restorer.restore(given, 3)
        weights[0].copy_(kept)
    np.testing.assert_array_equal(restorer.restore(given, 3), expected)
    assert isinstance(device, Double)


def test_a_network_that_gives_infinities_is_told_with_its_step(load: Load, plan: Plan) -> None:
    modulation = plan.modulation.copy()
    modulation[1] = np.nan
    restorer = load(replace(plan, modulation=modulation))
    with pytest.raises(BackendError, match=r"^the network gave infinities or NaN at step 1 of 3 "):
        restorer.restore(pictures_of(1, 16, 32))


def test_a_capture_that_fails_releases_its_memory(load: Load, device: Double) -> None:
    gc.collect()
    before = device.taken
    device.fail["capture"] = FailureError("operation not permitted when stream is capturing")
    with pytest.raises(CaptureError, match="cannot be captured as a CUDA graph"):
        load()
    device.fail.clear()
    gc.collect()
    assert device.taken == before
    restorer, given = load(), pictures_of(1, 16, 32)
    restorer.restore(given)
    restorer.close()
    gc.collect()
    assert device.taken == before


def test_an_encoder_that_the_engine_refuses(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise BackendError("torch does not know the graph's operation Tanh")

    monkeypatch.setattr(Torch, "compile_graph", refuse)
    with pytest.raises(BackendError, match=r"^torch does not know the graph's operation Tanh"):
        load()


def test_an_engine_that_fails_says_where_and_serves_again(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, given = load(graphs=False), pictures_of(1, 16, 32)
    expected = restorer.restore(given, 3)

    def fail(graph: TorchGraph) -> None:
        raise BackendError("torch failed around the network: out of luck")

    with monkeypatch.context() as patched:
        patched.setattr(TorchGraph, "evaluate", fail)
        # What the list holds is what it was made with.
        restorer._workers[0].clear()
        with pytest.raises(BackendError, match=r"^torch failed around the network"):
            restorer.restore(given, 3)
    np.testing.assert_array_equal(restorer.restore(given, 3), expected)


def test_a_device_that_fails_names_the_kernel(load: Load, device: Double) -> None:
    restorer, given = load(), pictures_of(1, 16, 32)
    restorer.restore(given)
    device.fail["finish_pixels"] = FailureError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(BackendError, match="the GPU failed in picture: CUDA error"):
        restorer.restore(given)
    device.fail.clear()
    restorer.restore(given)


# Memory


def full(device: Double, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for a decoder of more than so many pixels."""
    compile_graph = Torch.compile_graph

    def most(engine: Any, graph: bytes, inputs: Any, *rest: Any) -> Any:
        if "picture" in inputs and inputs["picture"][:, 0].numel() > pixels:
            raise device.OutOfMemory("CUDA out of memory")
        return compile_graph(engine, graph, inputs, *rest)

    monkeypatch.setattr(Torch, "compile_graph", most)


def test_latents_are_never_cut(load: Load, device: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, given = load(), pictures_of(1, 40, 40)
    with pytest.raises(InputError, match="latents are made of whole pictures, not of tiles"):
        restorer.restore(given, tile=16)
    full(device, 16 * 32, monkeypatch)
    image = device.upload(given)
    for each in (given, image):
        with pytest.raises(DeviceMemoryError, match=r"does not suffice for 1 x 40x40: .*smaller pictures"):
            restorer.restore(each)
    assert restorer.restore(given[:, :16, :16]).shape == (1, 16, 16, 3)


def test_a_plan_for_a_size_that_does_not_fit_serves_smaller_ones(
    load: Load, device: Double, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full(device, 16 * 16, monkeypatch)
    restorer = load()
    assert "memory does not suffice for 1 x 16x32" in caplog.text
    assert restorer.restore(pictures_of(1, 16, 16)).shape == (1, 16, 16, 3)


def test_the_plans_own_size_is_captured_at_load(load: Load, device: Double) -> None:
    restorer = load()
    captures = device.captures
    restorer.restore(np.zeros((1, 16, 32, 3), np.uint8))
    assert device.captures == captures == 1


def test_what_is_dropped_is_freed_at_once(load: Load, device: Double) -> None:
    restorer = load()
    with restorer.chain((1, 16, 32)) as chain:
        coder = weakref.ref(chain.shared.coder)  # type: ignore[union-attr]
    del chain
    gc.collect()
    gc.disable()
    try:
        restorer._workers[0].clear()
        assert coder() is None
    finally:
        gc.enable()


def test_how_many_pixels_fit(plan: Plan) -> None:
    around = 24 * 3

    def fitting(engine: str) -> tuple[int, int]:
        found = pixels_that_fit(plan, Choice(backends.get(engine), "fp32", settled=False), 1_000_000, 1)
        return found, plan.facts.bytes_on(engine, "fp32")

    found, each = fitting("openvino")
    assert found == 1_000_000 // each
    found, each = fitting("torch")
    assert found == 1_000_000 // (each + around)
    # Encoder and decoder hold their activations as long as they live.
    for engine in ("tensorrt", "onnxruntime-cuda"):
        found, each = fitting(engine)
        assert found == 1_000_000 // (2 * each + around)
