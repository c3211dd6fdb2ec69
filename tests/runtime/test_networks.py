"""Where networks come from: the plan's engines, what was kept, the graph; and in which precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.errors import BackendError, DeviceMemoryError
from mrs.runtime.network_cache import MOST, NetworkCache
from mrs.runtime.networks import Networks, cache_of
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer, load
from mrs.runtime.system import machine

PLANNED, OTHER = (1, 6, 16, 24), (1, 6, 8, 12)


@pytest.fixture
def exporting(fake) -> Any:
    """The fake backend, whose networks can be kept."""
    fake.make.exported = b"exported"
    return fake


def networks(plan: Plan, backend: Any, precision: str = "fp32", **more: Any) -> Networks:
    return Networks(plan, backend, precision, more.pop("threads", 1), **{"cache": NetworkCache(), **more})


def of(plan: Plan, **fields: Any) -> Plan:
    return replace(plan, manifest={**plan.manifest, **fields})


# The plan's engines


def test_engines_are_used_for_their_shapes(fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []
    restore = fake.restore
    monkeypatch.setattr(fake, "restore", lambda engine, *rest: (given.append(engine), restore(engine, *rest))[1])
    plan = replace(of(fake_plan, further_shapes=[[1, 8, 12], [2, 8, 12]]), further={(1, 8, 12): b"a", (2, 8, 12): b"b"})
    made = networks(plan, fake)
    for shape in (OTHER, (2, 6, 8, 12), PLANNED):
        made.make(shape)
    assert given == [b"a", b"b", b"engine"]
    assert fake.compiled == []
    made.make((1, 6, 8, 16))
    assert fake.compiled == [(1, 6, 8, 16)]


@pytest.mark.parametrize("shape", [PLANNED, OTHER])
def test_without_engines_the_graph_is_compiled(fake, fake_plan: Plan, shape: Any) -> None:
    plan = replace(of(fake_plan, further_shapes=[[1, 8, 12]]), further={(1, 8, 12): b"a"})
    networks(plan, fake, engine=False).make(shape)
    assert (fake.restored, fake.compiled) == ([], [shape])


@pytest.mark.parametrize("engine", [True, False])
def test_a_plan_can_be_loaded_without_its_engine(fake, fake_plan: Plan, picture, engine: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # A plan that was saved would be refused: its graph is none.
        patch.setattr("mrs.runtime.session.read_plan", lambda path: fake_plan)
        restorer = load("a.mrsplan", engine=engine)
    with restorer:
        restorer.restore(picture)
    assert (len(fake.restored), len(fake.compiled)) == ((1, 0) if engine else (0, 1))


# What was kept


def test_what_was_compiled_before_is_not_compiled_again(exporting, fake_plan: Plan) -> None:
    networks(fake_plan, exporting).make(OTHER)
    networks(fake_plan, exporting).make(OTHER)
    assert (exporting.compiled, exporting.restored) == ([OTHER], [OTHER])


def test_the_own_cache_is_used_without_the_plans_engine(exporting, fake_plan: Plan) -> None:
    for _ in range(2):
        networks(fake_plan, exporting, engine=False).make(PLANNED)
    assert (exporting.compiled, exporting.restored) == ([PLANNED], [PLANNED])


def test_without_a_cache_nothing_is_kept_nor_read(exporting, fake_plan: Plan) -> None:
    networks(fake_plan, exporting, cache=None).make(OTHER)
    assert NetworkCache().contents().count == 0
    networks(fake_plan, exporting).make(OTHER)
    networks(fake_plan, exporting, cache=None).make(OTHER)
    assert exporting.compiled == [OTHER] * 3


@pytest.mark.parametrize("cache", [True, False])
def test_a_restorer_keeps_what_it_compiles(exporting, fake_plan: Plan, picture, cache: bool) -> None:
    for _ in range(2):
        with Restorer(fake_plan, cache=cache) as restorer:
            restorer.restore(picture[:8])
    assert len(exporting.compiled) == (1 if cache else 2)


def test_a_plan_tells_how_large_its_engines_may_be(fake_plan: Plan) -> None:
    """DA-CLIP's larger encoder alone takes more than all others may together."""

    class Large(bytes):
        def __len__(self) -> int:
            return 600 << 20

    assert cache_of(fake_plan).largest == MOST
    for name in ("graph", "conditioner", "encoder", "decoder"):
        assert cache_of(replace(fake_plan, **{name: Large()})).largest == 2400 << 20


def test_an_engine_without_a_form_is_not_kept(fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: Any) -> bytes:
        raise RuntimeError("this model cannot be exported")

    for export in (lambda network: None, broken):
        monkeypatch.setattr(fake.make, "export", export)
        networks(fake_plan, fake).make(OTHER)
    assert len(fake.compiled) == 2
    assert NetworkCache().contents().count == 0


def test_what_the_engine_refuses_is_compiled_anew_and_replaced(exporting, fake_plan: Plan) -> None:
    networks(fake_plan, exporting).make(OTHER)
    exporting.refuses = True
    exporting.make.exported = b"better"
    networks(fake_plan, exporting).make(OTHER)
    assert exporting.compiled == [OTHER, OTHER]
    exporting.refuses = False
    networks(fake_plan, exporting).make(OTHER)
    assert len(exporting.compiled) == 2
    assert NetworkCache().contents().count == 1


def test_a_lack_of_memory_is_no_fault_of_what_was_kept(exporting, fake_plan: Plan, monkeypatch) -> None:
    networks(fake_plan, exporting).make(OTHER)

    def full(*given: Any) -> Any:
        raise DeviceMemoryError("full")

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "restore", full)
        with pytest.raises(DeviceMemoryError):
            networks(fake_plan, exporting).make(OTHER)
    networks(fake_plan, exporting).make(OTHER)
    assert exporting.compiled == [OTHER]


def test_two_precisions_in_one_are_kept_as_one(exporting, fake_plan: Plan, monkeypatch) -> None:
    exporting.native = ("fp32", "bf16")
    exporting.make.share = lambda network, other: None
    for _ in range(2):
        networks(fake_plan, exporting, "bf16-after-1").make(OTHER)
    assert (len(exporting.compiled), len(exporting.restored)) == (2, 2)
    assert NetworkCache().contents().count == 1


CHANGES = {
    "graph": lambda plan, given: (replace(plan, graph=b"another graph"), given),
    "shape": lambda plan, given: (plan, {**given, "shape": (1, 6, 8, 16)}),
    "batch": lambda plan, given: (plan, {**given, "shape": (2, 6, 8, 12)}),
    "precision": lambda plan, given: (plan, {**given, "precision": "bf16"}),
    "threads": lambda plan, given: (plan, {**given, "threads": 2}),
    "modulation": lambda plan, given: (replace(plan, modulation=plan.modulation[:, :-1]), given),
    "options": lambda plan, given: (of(plan, engine_options={"optimization_level": 5}), given),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_the_compiled_form_depends_on_is_in_its_key(exporting, fake_plan: Plan, change: str) -> None:
    networks(fake_plan, exporting).make(OTHER)
    plan, given = CHANGES[change](fake_plan, {"shape": OTHER})
    shape = given.pop("shape")
    networks(plan, exporting, **given).make(shape)
    assert len(exporting.compiled) == 2


@pytest.mark.parametrize("name", ["processor", "processors", "version", "environment"])
def test_so_is_the_machine(exporting, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    networks(fake_plan, exporting).make(OTHER)
    if name == "environment":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    elif name == "version":
        monkeypatch.setattr(exporting, "version", lambda: "2.0")
    else:
        value: Any = "another" if name == "processor" else machine.threads() + 1
        monkeypatch.setattr(machine, {"processor": "processor", "processors": "threads"}[name], lambda: value)
    networks(fake_plan, exporting).make(OTHER)
    assert len(exporting.compiled) == 2


def test_other_steps_of_the_same_network_share_what_was_kept(exporting, fake_plan: Plan) -> None:
    networks(fake_plan, exporting).make(OTHER)
    networks(replace(fake_plan, modulation=fake_plan.modulation[:2]), exporting).make(OTHER)
    assert len(exporting.compiled) == 1


def test_a_real_network_is_kept(tiny, picture, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from mrs.runtime import backends

    results = []
    with Restorer(tiny.plan("openvino"), threads=1) as restorer:
        results.append(restorer.restore(picture[:9]))
    monkeypatch.setattr(type(backends.get("openvino")), "compile", lambda *given: pytest.fail("compiled"))
    with Restorer(tiny.plan("openvino"), threads=1) as restorer:
        results.append(restorer.restore(picture[:9]))
    np.testing.assert_array_equal(*results)


# Precisions


@pytest.fixture
def lesser(fake, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A processor that says it has bfloat16, and whose engine then refuses it."""
    fake.native = ("fp32", "bf16")
    compile_ = fake.compile

    def compiled(graph: bytes, modulation: Any, shape: Any, precision: str, settings: CompileSettings) -> Any:
        if precision == "bf16":
            raise BackendError("fake cannot create a primitive", hint="try another")
        return compile_(graph, modulation, shape, precision, settings)

    monkeypatch.setattr(fake, "compile", compiled)
    monkeypatch.setattr(fake.make, "share", lambda network, other: None, raising=False)
    return fake


@pytest.mark.parametrize("precision", ["bf16", "bf16-after-1"])
def test_a_precision_that_does_not_compile_falls_back_and_says_so(
    lesser, fake_plan: Plan, picture, caplog: pytest.LogCaptureFixture, precision: str
) -> None:
    lesser.refuses = True
    with Restorer(of(fake_plan, precision=precision)) as restorer:
        assert restorer.precision == precision
        restorer.restore(picture)
        assert restorer.precision == "fp32"
        restorer.restore(picture[:8])
    assert [message for message in caplog.messages if "plan's engine" not in message] == [
        f"fake cannot run {precision} here, using fp32: fake cannot create a primitive"
    ]
    assert lesser.compiled[-1] == (1, 6, 8, 24)


def test_all_workers_fall_back_with_one_line(lesser, fake_plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    with Restorer(replace(of(fake_plan, precision="bf16"), engine=None), workers=2) as restorer:
        restorer.warm_up(8, 8)
    assert len(caplog.messages) == 1


def test_a_precision_that_was_asked_for_does_not_fall_back(lesser, fake_plan: Plan, picture) -> None:
    with (
        Restorer(fake_plan, precision="bf16") as restorer,
        pytest.raises(BackendError, match="cannot create a primitive"),
    ):
        restorer.restore(picture)
    assert lesser.compiled == []


def test_where_float32_fails_too_the_first_error_counts(lesser, fake_plan: Plan, monkeypatch, caplog) -> None:
    def compiled(graph: bytes, modulation: Any, shape: Any, precision: str, settings: CompileSettings) -> Any:
        raise BackendError(f"no {precision}")

    monkeypatch.setattr(lesser, "compile", compiled)
    made = networks(fake_plan, lesser, "bf16")
    with pytest.raises(BackendError, match="no bf16"):
        made.make(OTHER)
    assert made.precision == "bf16"
    assert caplog.messages == []


def test_a_lack_of_memory_is_no_fault_of_the_precision(lesser, fake_plan: Plan, monkeypatch) -> None:
    def compiled(*given: Any) -> Any:
        raise DeviceMemoryError("full")

    monkeypatch.setattr(lesser, "compile", compiled)
    with pytest.raises(DeviceMemoryError):
        networks(fake_plan, lesser, "bf16").make(OTHER)


def test_engines_are_built_with_the_plans_options(fake, fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    compile_ = fake.compile
    monkeypatch.setattr(fake, "compile", lambda *given: (seen.append(given[-1].options), compile_(*given))[1])
    networks(of(fake_plan, engine_options={"optimization_level": 5}), fake).make(OTHER)
    assert seen == [EngineOptions(5)]
