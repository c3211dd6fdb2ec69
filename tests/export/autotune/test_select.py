"""The parity rule case by case, the choice among candidates, and the whole selection on a tiny network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.modulation import modulation_table
from mrs.export.autotune import select as selection
from mrs.export.autotune import timing
from mrs.export.autotune import variants as forms
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.parity import Float32, judge
from mrs.export.autotune.select import select
from mrs.export.autotune.verdict import verdict_of
from mrs.export.autotune.workload import Pair, Target, Workload
from mrs.export.graph_variant import GraphVariant, variants_of
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.errors import BackendError, InputError
from tests.random_nafnet import nafnet_bytes, random_nafnet

pytestmark = pytest.mark.slow(14)

CANDIDATE = Candidate("openvino", "bf16")
GREY = np.full((4, 4, 3), 0.5, np.float32)
VERDICT = verdict_of([GREY], [], [GREY], [GREY])


def at(decibels: float, sign: float = 1.0) -> NDArray[np.float32]:
    """A picture whose PSNR to GREY is this."""
    return GREY + np.float32(sign * 10 ** (-decibels / 20))


def judged_beside(
    exact: list[NDArray[np.float32]],
    outputs: list[NDArray[np.float32]],
    discretisation: float | None,
    pairs: list[Pair],
) -> Candidate:
    return judge(CANDIDATE, outputs, Float32(pairs, exact, discretisation, VERDICT))


def pair(clean: NDArray[np.uint8] | None = None) -> Pair:
    return Pair(np.zeros((4, 4, 3), np.uint8), clean)


# The rule


@pytest.mark.parametrize(
    ("parity", "discretisation", "passed", "needed"),
    [
        # 45 dB are enough, whatever the solver's own error.
        (45.1, 60.0, True, 45.0),
        (44.9, 60.0, False, 45.0),
        (45.1, None, True, 45.0),
        (44.9, None, False, 45.0),
        # Below that, 6 dB above the solver's own error.
        (36.1, 30.0, True, 36.0),
        (35.9, 30.0, False, 36.0),
        (10.0, 3.0, True, 9.0),
    ],
)
def test_parity(parity: float, discretisation: float | None, passed: bool, needed: float) -> None:
    judged = judged_beside([GREY], [at(parity)], discretisation, [pair()])
    assert judged.passed is passed
    assert judged.parity_db == pytest.approx(parity, abs=1e-3)
    assert judged.truth_db is None
    assert f"{needed:.1f} dB" in judged.reason
    assert (judged.backend, judged.precision) == ("openvino", "bf16")


@pytest.mark.parametrize("discretisation", [None, 30.0])
def test_equal_pictures_pass(discretisation: float | None) -> None:
    judged = judged_beside([GREY, GREY], [GREY.copy(), GREY.copy()], discretisation, [pair(), pair()])
    assert judged.passed
    assert judged.parity_db is None
    assert judged.reason == "equals float32"


def test_parity_is_of_the_mean_square_over_all_pictures() -> None:
    # One equal picture halves the error: 3 dB more than the other's.
    judged = judged_beside([GREY, GREY], [GREY, at(40.0)], 30.0, [pair(), pair()])
    assert judged.parity_db == pytest.approx(40.0 + 10 * math.log10(2), abs=1e-3)
    # One bad picture is not outweighed by a good one.
    assert not judged_beside([GREY, GREY], [at(80.0), at(30.0)], 30.0, [pair(), pair()]).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_fails(value: float) -> None:
    broken = GREY.copy()
    broken[1, 2, 0] = value
    judged = judged_beside([GREY, GREY], [GREY, broken], None, [pair(), pair()])
    assert not judged.passed
    assert judged.reason == "gave infinities or NaN"


@pytest.mark.parametrize(("loss", "passed"), [(0.04, True), (0.06, False), (-1.0, True)])
def test_loss_to_the_clean_pictures(loss: float, passed: bool) -> None:
    clean = np.full((4, 4, 3), 102, np.uint8)  # 0.4
    exact = np.full((4, 4, 3), 0.4, np.float32) + np.float32(10 ** (-25 / 20))
    output = np.full((4, 4, 3), 0.4, np.float32) + np.float32(10 ** (-(25 - loss) / 20))
    judged = judged_beside([exact], [output], 3.0, [pair(clean)])
    assert judged.truth_db == pytest.approx(-loss, abs=1e-3)
    assert judged.passed is passed
    assert passed or judged.reason == "loses 0.06 dB to the clean pictures"
    # The same pictures pass where the clean one is not known.
    assert judged_beside([exact], [output], 3.0, [pair()]).passed


def test_only_pictures_with_a_clean_original_count_for_the_truth() -> None:
    clean = np.full((4, 4, 3), 102, np.uint8)
    exact = [np.full((4, 4, 3), 0.5, np.float32), GREY]
    judged = judged_beside(exact, [exact[0], at(50.0)], None, [pair(clean), pair()])
    assert judged.truth_db == pytest.approx(0.0)


def test_a_restored_picture_that_is_the_clean_one_has_no_finite_psnr() -> None:
    clean = np.full((4, 4, 3), 255, np.uint8)
    exact = np.ones((4, 4, 3), np.float32)
    judged = judged_beside([exact], [exact.copy()], None, [pair(clean)])
    assert judged.passed
    assert judged.truth_db is None


# The choice


def candidate(name: str, latency: float, passed: bool = True, reason: str = "") -> Candidate:
    return Candidate(name, "fp32", latency_ms=latency, passed=passed, reason=reason)


def test_the_fastest_that_passed_is_chosen() -> None:
    measured = [candidate("a", 5.0), candidate("b", 3.0), candidate("c", 1.0, passed=False), candidate("d", math.nan)]
    assert selection._fastest(measured, "auto").backend == "b"


def test_a_precision_asked_for_is_used_although_it_fails() -> None:
    failing = [candidate("a", 5.0, passed=False), candidate("b", 3.0, passed=False)]
    assert selection._fastest(failing, "bf16").backend == "b"
    # But not in place of a backend that passes with it.
    assert selection._fastest([*failing, candidate("c", 9.0)], "bf16").backend == "c"


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_candidates_that_all_failed_are_listed(precision: str) -> None:
    measured = [candidate("a", math.nan, False, "was out of memory"), candidate("b", math.nan, False, "gave NaN")]
    with pytest.raises(BackendError, match="no candidate passed: a fp32: was out of memory; b fp32: gave NaN"):
        selection._fastest(measured, precision)


def test_failed_parity_alone_is_no_choice() -> None:
    with pytest.raises(BackendError, match=r"openvino bf16: parity 3 dB"):
        selection._fastest([Candidate("openvino", "bf16", 1.0, passed=False, reason="parity 3 dB")], "auto")


def test_candidates_are_json() -> None:
    values = Candidate("a", "fp32", quartiles_ms=(1.0, math.nan), truth_db=-math.inf).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == {
        "backend": "a",
        "precision": "fp32",
        "latency_ms": None,
        "quartiles_ms": [1.0, None],
        "parity_db": None,
        "truth_db": None,
        "passed": False,
        "reason": "",
        "variant": "",
    }


# The whole of it


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    for module in (timing, forms):
        monkeypatch.setattr(module, "SECONDS", 0.0)
        monkeypatch.setattr(module, "ROUNDS", (2, 2))


@pytest.fixture(scope="module")
def loops() -> tuple[dict[GraphVariant, bytes], Loop, Loop]:
    """A tiny network's graphs, three steps, and ten steps."""
    net = random_nafnet(NAFNet(4, (1,), 0, (1,)), gains=0.25)
    shapes = variants_of(backends.BACKENDS.values())
    graphs = {shape: nafnet_bytes(net, shape) for shape in shapes}
    made = []
    for steps in (3, 10):
        table = tableau(Schedule(), Solver(steps=steps), "data")
        made.append(Loop(table, modulation_table(net, table.times[:-1])))
    return graphs, made[0], made[1]


def run(
    loops: tuple[Mapping[GraphVariant, bytes], Loop, Loop], report: Any = lambda line: None, **asked: Any
) -> selection.Selection:
    degraded = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    graphs, loop, many = loops
    target = Target(**asked, settings=CompileSettings(1, report=report))
    return select(Workload(graphs, [Pair(degraded)], (1, 8, 8), many), target, loop)


def test_every_candidate_of_this_machine_is_measured(loops) -> None:
    lines: list[str] = []
    chosen = run(loops, report=lines.append)
    expected = {(entry.name, one) for entry in backends.available() for one in entry.precisions()}
    assert {(entry.backend, entry.precision) for entry in chosen.candidates} == expected
    assert chosen.to_dict()["candidates"][chosen.to_dict()["chosen"]] == chosen.chosen.to_dict()
    for entry in chosen.candidates:
        assert 0 < entry.quartiles_ms[0] <= entry.latency_ms <= entry.quartiles_ms[1]
        assert entry.reason
    fp32 = [entry for entry in chosen.candidates if entry.precision == "fp32"]
    # Engines that compute in float32 agree far beyond what is asked for.
    assert all(entry.passed and (entry.parity_db is None or entry.parity_db > 80) for entry in fp32)
    assert chosen.chosen.latency_ms == min(entry.latency_ms for entry in chosen.candidates if entry.passed)
    assert chosen.discretisation_db is not None
    assert 5 < chosen.discretisation_db < 100
    assert any("parity of onnxruntime fp32" in line for line in lines)


def test_a_backend_by_name(loops) -> None:
    chosen = run(loops, backend="onnxruntime")
    assert [(entry.backend, entry.precision) for entry in chosen.candidates] == [("onnxruntime", "fp32")]
    assert chosen.chosen is chosen.candidates[0]
    # The reference runs the engine's first form, the candidate its fastest.
    assert chosen.chosen.parity_db is None or chosen.chosen.parity_db > 80
    assert (
        chosen.chosen.variant
        in {entry.variant for entry in chosen.variants}
        == {str(GraphVariant(*form)) for form in backends.get("onnxruntime").variants}
    )


def test_a_precision_by_name_is_taken_and_its_failure_told(loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "judge", lambda candidate, *_: candidate)
    lines: list[str] = []
    chosen = run(loops, backend="onnxruntime", precision="fp32", report=lines.append)
    assert chosen.chosen.precision == "fp32"
    assert not chosen.chosen.passed
    assert "onnxruntime fp32 was asked for, but fails parity" in lines[-1]


@pytest.mark.parametrize("when", ["compiling", "running", "at the plan's size"])
def test_a_candidate_that_fails_is_listed_and_another_chosen(loops, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    engine = backends.get("onnxruntime")
    compile_ = type(engine).compile

    def fail(step: int) -> None:
        raise BackendError("onnxruntime is out of luck")

    def compile_badly(self: Any, graph: bytes, modulation: Any, shape: Any, *rest: Any) -> Any:
        if when == "compiling":
            fail(0)
        network = compile_(self, graph, modulation, shape, *rest)
        if when == "running" or shape[2:] == (8, 8):
            network.evaluate = fail  # type: ignore[method-assign]
        return network

    monkeypatch.setattr(type(engine), "compile", compile_badly)
    monkeypatch.setattr(type(backends.get("openvino")), "precisions", lambda self: ("fp32",))
    chosen = run(loops)
    (failed,) = (entry for entry in chosen.candidates if entry.backend == "onnxruntime")
    assert failed.reason == "onnxruntime is out of luck"
    assert math.isnan(failed.latency_ms)
    assert not failed.passed
    assert chosen.chosen.backend == "openvino"
    with pytest.raises(BackendError, match="out of luck"):
        run(loops, backend="onnxruntime")


def test_the_reference_is_what_runs_here(loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backends.get("openvino")), "missing", lambda self: "openvino is gone")
    chosen = run(loops)
    assert [entry.backend for entry in chosen.candidates] == ["onnxruntime"]


def test_a_backend_that_nobody_knows(loops) -> None:
    with pytest.raises(InputError, match="'cuda' is unknown"):
        run(loops, backend="cuda")


def test_a_precision_that_the_backend_does_not_have(loops) -> None:
    with pytest.raises(BackendError, match="nothing can run bf16 here") as caught:
        run(loops, backend="onnxruntime", precision="bf16")
    assert caught.value.hint == "onnxruntime: no bf16 here"


def test_a_backend_that_is_missing(loops, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in backends.BACKENDS:
        monkeypatch.setattr(type(backends.get(name)), "missing", lambda self: f"{self.name} is gone")
    with pytest.raises(BackendError, match="backend openvino cannot run here: openvino is gone"):
        run(loops, backend="openvino")
    with pytest.raises(BackendError, match="no backend can run here"):
        run(loops)


def test_more_evaluations_in_float32_are_tried_until_one_passes(loops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that fail parity alone; what passes is not made slower."""
    tried: list[str] = []

    def judge(candidate: Candidate, *_: Any) -> Candidate:
        tried.append(candidate.precision)
        return replace(candidate, passed=candidate.precision in ("fp32", "bf16-after-2"), reason="said so")

    class Both:
        """An engine that computes in float32 whatever it is asked."""

        name, device, variants = "both", "cpu", (("moments", "weights"),)

        def missing(self) -> None:
            return None

        def precisions(self) -> tuple[str, ...]:
            return ("fp32", "bf16")

        def compile(self, graph: bytes, modulation: Any, shape: Any, precision: str, settings: CompileSettings) -> Any:
            network: Any = backends.get("onnxruntime").compile(graph, modulation, shape, "fp32", settings)
            network.share = lambda other: None
            return network

    monkeypatch.setitem(backends.BACKENDS, "both", Both())
    monkeypatch.setattr(selection, "judge", judge)
    graphs, _, ten = loops
    chosen = run((graphs, ten, ten), backend="both")
    assert tried == ["fp32", "bf16", "bf16-after-1", "bf16-after-2"]
    assert [entry.precision for entry in chosen.candidates] == tried
    tried.clear()
    assert run((graphs, ten, ten), backend="both", precision="bf16-after-1").chosen.precision == "bf16-after-1"
    assert tried == ["bf16-after-1"]


@pytest.mark.parametrize(
    ("passes", "tried"),
    [
        ("raw-weights bf16", ["raw-weights fp32", "raw-weights bf16"]),
        ("length-weights bf16", ["raw-weights fp32", "raw-weights bf16", "length-weights bf16"]),
        (
            "raw-weights bf16-after-1",
            ["raw-weights fp32", "raw-weights bf16", "length-weights bf16", "raw-weights bf16-after-1"],
        ),
    ],
)
def test_a_form_that_cancels_has_another_chance_without(
    loops, monkeypatch: pytest.MonkeyPatch, passes: str, tried: list[str]
) -> None:
    found: list[str] = []

    def judge(candidate: Candidate, *_: Any) -> Candidate:
        found.append(f"{candidate.variant} {candidate.precision}")
        return replace(candidate, passed=found[-1] in (passes, "raw-weights fp32"))

    ranked = [GraphVariant("raw", "weights"), GraphVariant("length", "weights")]
    found_forms = forms.Variants({("openvino", one): ranked for one in ("fp32", "bf16")})
    monkeypatch.setattr(selection, "judge", judge)
    monkeypatch.setattr(selection, "fastest_variants", lambda *_: (found_forms, []))
    # float32 for both, where the processor has no bfloat16.
    engine = backends.get("openvino")
    compile_ = type(engine).compile
    monkeypatch.setattr(type(engine), "precisions", lambda self: ("fp32", "bf16"))
    monkeypatch.setattr(type(engine), "compile", lambda self, *given: compile_(self, *given[:3], "fp32", *given[4:]))
    graphs, _, ten = loops
    run((graphs, ten, ten), backend="openvino")
    assert found == tried
