"""A plan runs on the engine that was made here, or is compiled anew, by the first backend that there is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import BackendError, InputError, PlanError
from mrs.runtime.placement import MEMORY, Choice, pixels_that_fit
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer, load
from mrs.runtime.system import machine
from tests.runtime.restores import by_reference, bytes_of, changed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("free", "memory"), [(None, MEMORY), (1 << 40, MEMORY), (64 << 20, 32 << 20), (0, 1 << 20)])
def test_memory_by_default(fake_plan: Plan, monkeypatch: pytest.MonkeyPatch, free: int | None, memory: int) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    assert Restorer(fake_plan)._dispatch.budget.pixels == memory // 160


@pytest.mark.parametrize("engine", ["onnxruntime", "onnxruntime-cuda"])
def test_attention_that_is_written_down_leaves_room_for_fewer_pixels(
    fake_plan: Plan, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """a p + b p^2 bytes, on engines that do so alone."""
    chosen = {name: Choice(backends.get(name), "fp32", settled=False) for name in ("openvino", engine)}
    linear = engine != "onnxruntime"
    monkeypatch.setattr("mrs.runtime.backends.onnxruntime_attention.is_linear", lambda: linear)
    facts = replace(fake_plan.facts, network=replace(fake_plan.facts.network, bytes_per_pair=0.5))
    plan: Any = SimpleNamespace(facts=facts)
    each = facts.network.bytes_per_pixel
    assert pixels_that_fit(plan, chosen["openvino"], 1_000_000, 1) == 1_000_000 // each
    fitting = pixels_that_fit(plan, chosen[engine], 1_000_000, 1)
    assert each * fitting + 0.5 * fitting**2 <= 1_000_000 < each * (fitting + 1) + 0.5 * (fitting + 1) ** 2
    assert pixels_that_fit(plan, chosen[engine], 10, 4) == 1
    monkeypatch.setattr("mrs.runtime.backends.onnxruntime_attention.is_linear", lambda: True)
    assert (pixels_that_fit(plan, chosen[engine], 1_000_000, 1) == 1_000_000 // each) == (engine == "onnxruntime")


@pytest.mark.parametrize(
    ("engine", "precision", "fitting"),
    [
        ("openvino", "fp32", 1000), ("onnxruntime", "fp32", 400), ("onnxruntime-cuda", "fp16", 400),
        ("torch-eager", "fp32", 500), ("torch", "bf16", 1000), ("tensorrt", "fp32", 1000),
    ],
)  # fmt: skip
def test_an_engine_that_takes_more_has_room_for_fewer_pixels(
    fake_plan: Plan, engine: str, precision: str, fitting: int
) -> None:
    network = {**fake_plan.manifest["network"], "bytes_per_pixel_on": {"onnxruntime": 400, "torch": 320}}
    plan = changed(fake_plan, network=network)
    assert pixels_that_fit(plan, Choice(backends.get(engine), precision, settled=False), 160_000, 1) == fitting


def test_no_engine_is_said_to_take_less_than_the_graph_shows(fake_plan: Plan) -> None:
    network = {**fake_plan.manifest["network"], "bytes_per_pixel_on": {"fake": 1}}
    assert Restorer(changed(fake_plan, network=network), memory=16000)._dispatch.budget.pixels == 100


def test_the_plan_of_another_engine_tiles_earlier(tiny) -> None:
    plan = tiny.plan("openvino")
    each = plan.facts.network.bytes_per_pixel
    network = {**plan.manifest["network"], "bytes_per_pixel_on": {"onnxruntime": 4 * each}}
    plan = changed(plan, engine=None, network=network)
    found = []
    for backend in ("openvino", "onnxruntime"):
        with Restorer(plan, backend=backend, memory=32 * 32 * each, threads=1) as restorer:
            found.append(restorer.tile_of(32, 32))
    assert found == [None, 12]


# Engines


def test_the_engine_is_used_on_the_machine_it_was_made_for(restorer: Restorer, fake, picture, caplog) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    restorer.restore(picture)
    # Another size that is padded to the same one.
    restorer.restore(picture[:15, :22])
    assert (fake.restored, fake.compiled) == ([(1, 6, 16, 24)], [])
    restorer.restore(picture[:8])
    restorer.restore(bytes_of((2, 16, 24, 3)))
    assert fake.compiled == [(1, 6, 8, 24), (2, 6, 16, 24)]
    assert caplog.messages == []


def test_a_real_engine_needs_no_compilation(tiny, tmp_path: Path, picture, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.get("openvino")
    engine = backend.compile(tiny.graph, tiny.modulation, (1, 6, 16, 24), "fp32", CompileSettings(1)).export()
    tiny.plan("openvino", engine).save(tmp_path / "a.mrsplan")
    monkeypatch.setattr(type(backend), "compile", lambda *_: pytest.fail("compiled"))
    with load(tmp_path / "a.mrsplan", threads=1) as restorer:
        assert (restorer.backend, restorer.precision) == ("openvino", "fp32")
        np.testing.assert_allclose(
            restorer.restore(picture / np.float32(255)), by_reference(tiny, picture), rtol=0, atol=1e-5
        )


def of_another_processor(plan: Plan) -> Plan:
    return changed(plan, fingerprint={**plan.manifest["fingerprint"], "processor": "another"})


def of_another_version(plan: Plan) -> Plan:
    return changed(plan, fingerprint={**plan.manifest["fingerprint"], "backend": "fake 0.9"})


@pytest.mark.parametrize("change", [of_another_processor, of_another_version])
def test_an_engine_of_another_machine_is_not_used(
    fake, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture, change: Callable[[Plan], Plan]
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    with Restorer(change(fake_plan)) as restorer:
        restorer.restore(picture)
    assert (fake.restored, fake.compiled) == ([], [(1, 6, 16, 24)])
    assert caplog.messages == ["plan was built on another machine or version: compiling from its graph"]


def test_an_engine_that_does_not_load_is_compiled_anew(
    restorer: Restorer, fake, picture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    fake.refuses = True
    restorer.restore(picture)
    assert fake.compiled == [(1, 6, 16, 24)]
    assert caplog.messages == ["the plan's engine does not load, compiling from its graph: fake refuses its engine"]


def test_a_real_engine_that_is_damaged_is_compiled_anew(
    tiny, tmp_path: Path, picture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    # With a digest that fits, as a build on a failing disk would leave it.
    tiny.plan("openvino", b"damaged" * 100).save(tmp_path / "a.mrsplan")
    with load(tmp_path / "a.mrsplan", threads=1) as restorer:
        restored = restorer.restore(picture / np.float32(255))
    np.testing.assert_allclose(restored, by_reference(tiny, picture), rtol=0, atol=1e-5)
    assert "the plan's engine does not load" in caplog.text


def test_a_precision_that_the_processor_lacks(fake, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    with Restorer(changed(fake_plan, precision="bf16")) as restorer:
        assert restorer.precision == "fp32"
        restorer.restore(picture)
    assert (fake.restored, len(fake.compiled)) == ([], 1)
    assert caplog.messages == ["plan is for fake bf16, which this machine does not run: using fake fp32"]
    fake.native = ("fp32", "bf16")
    with Restorer(changed(fake_plan, precision="bf16")) as restorer:
        assert restorer.precision == "bf16"
        restorer.restore(picture)
    assert len(fake.restored) == 1


def test_a_precision_that_is_asked_for(fake, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    fake.native = ("fp32", "bf16")
    plan = changed(fake_plan, precision="bf16")
    for asked, precision, restored in (("fp32", "fp32", 0), ("bf16", "bf16", 1), (None, "bf16", 2)):
        with Restorer(plan, precision=asked) as restorer:
            assert restorer.precision == precision
            restorer.restore(picture)
        # The plan's engine is for its own precision alone.
        assert len(fake.restored) == restored
    # Whoever asks needs no telling.
    assert caplog.messages == []
    for backend in (None, "fake"):
        with pytest.raises(InputError, match=r"fake runs no 'fp16' here \(use one of fp32, bf16\)"):
            Restorer(plan, precision="fp16", backend=backend)


# Backends


def test_a_backend_that_is_missing_is_replaced(tiny, fake, picture, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mrs")
    fake.reason = "fake is not installed: pip install fake"
    with Restorer(tiny.plan("fake", b"engine"), threads=1) as restorer:
        assert restorer.backend == "openvino"
        np.testing.assert_allclose(
            restorer.restore(picture / np.float32(255)), by_reference(tiny, picture), rtol=0, atol=1e-5
        )
    assert caplog.messages == ["plan is for fake fp32, which this machine does not run: using openvino fp32"]


def test_a_backend_of_another_name_in_a_plan_of_the_future(tiny) -> None:
    plan = tiny.plan()
    with Restorer(changed(plan, engine=None, backend="tensorrt")) as restorer:
        assert restorer.backend == "openvino"


def test_a_backend_that_is_asked_for(tiny, fake, picture) -> None:
    plan = tiny.plan("openvino")
    with Restorer(plan, backend="fake") as restorer:
        restorer.restore(picture)
        assert (restorer.backend, len(fake.compiled)) == ("fake", 1)
    fake.reason = "fake is not installed: pip install fake"
    with pytest.raises(BackendError, match="backend fake cannot run here: fake is not installed: pip install fake"):
        Restorer(plan, backend="fake")
    with pytest.raises(InputError, match="'nothing' is unknown"):
        Restorer(plan, backend="nothing")


def test_no_backend_at_all(fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.reason = "fake is gone"
    monkeypatch.setattr(backends, "BACKENDS", {"fake": fake})
    with pytest.raises(BackendError, match="no backend can run here: fake is gone"):
        Restorer(fake_plan)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_modulation_that_does_not_fit_the_graph(tiny, picture, tmp_path: Path, name: str) -> None:
    plan = tiny.plan(name)
    Plan(plan.manifest, plan.graph, plan.modulation[:, :-4]).save(tmp_path / "a.mrsplan")
    with pytest.raises(PlanError, match=r"modulation.npy does not fit network.onnx"):
        load(tmp_path / "a.mrsplan", threads=1)
    # A plan that was not read from a file.
    made = Plan(plan.manifest, plan.graph, plan.modulation[:, :-4])
    with Restorer(made, threads=1) as restorer, pytest.raises(BackendError, match=name) as caught:
        restorer.restore(picture)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", [{"channels": 1}, {"multiple": 1}], ids=str)
def test_a_manifest_that_does_not_fit_the_graph(tiny, network: dict[str, int]) -> None:
    plan = tiny.plan()
    plan = changed(plan, engine=None, network={**plan.manifest["network"], **network})
    with Restorer(plan, threads=1) as restorer, pytest.raises(BackendError, match="onnxruntime"):
        restorer.restore(np.zeros((15, 23, network.get("channels", 3)), np.uint8))


def test_a_network_that_fails_leaves_the_restorer_usable(restorer: Restorer, fake, picture) -> None:
    class Broken(fake.make):  # type: ignore[misc]
        broken = True

        def evaluate(self, step: int) -> None:
            super().evaluate(step)
            if self.broken:
                self.output.fill(np.nan)

    fake.make = Broken
    with pytest.raises(BackendError, match="infinities or NaN"):
        restorer.restore(picture)
    Broken.broken = False
    again = restorer.restore(picture)
    np.testing.assert_array_equal(again, restorer.restore(picture))
