"""Of an engine's graph variants the fastest in the whole loop is taken, and what was measured is kept."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrs.export.autotune import variants as forms
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.variants import Variants, fastest_variants
from mrs.export.autotune.workload import Pair, Target, Workload
from mrs.export.graph_variant import GraphVariant, first_variant, variants_of
from mrs.kernels.table import Row, Table
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.chain import Loop
from mrs.runtime.errors import BackendError

FIRST, SECOND, THIRD = (
    GraphVariant("length", "weights"),
    GraphVariant("moments", "weights"),
    GraphVariant("length", "split"),
)
MINE: Any = SimpleNamespace(name="mine", variants=(("length", "weights"), ("moments", "weights"), ("length", "split")))
PLAIN: Any = SimpleNamespace(name="plain", variants=(("layernorm", "split"),))
GRAPHS = {FIRST: b"first", SECOND: b"second", THIRD: b"third", GraphVariant("layernorm", "split"): b"plain"}
PICTURE = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Any]:
    """Milliseconds of each graph, or the error that it meets."""
    times: dict[bytes, Any] = {b"first": [10.0, 11.0, 12.0], b"second": [7.0, 8.0, 30.0], b"third": [9.0, 9.0, 9.0]}

    def chain_of(backend: Any, graph: bytes, precision: str, loop: Loop, *_: Any) -> Any:
        assert len(loop.table.rows) == len(loop.modulation) == forms.EVALUATIONS
        if isinstance(times[graph], Exception):
            raise times[graph]
        return SimpleNamespace(graph=graph, restore_into=lambda *_, **__: None)

    def time_interleaved(chains: Any, rounds: Any, seconds: Any, before: Any) -> Any:
        return {form: times[chain.graph] for form, (chain, _) in chains.items()}

    monkeypatch.setattr(forms, "chain_of", chain_of)
    monkeypatch.setattr(forms, "time_interleaved", time_interleaved)
    return times


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (MINE, PLAIN):
        monkeypatch.setitem(backends.BACKENDS, backend.name, backend)


def measure(engines: list[tuple[Any, str]], report: Callable[[str], None] = lambda line: None) -> Any:
    loop = Loop(
        Table((5.0, 4.0, 3.0, 2.0, 1.0, 0.0), (Row(*range(11)),) * 5, 0.5, "none"), np.zeros((5, 3), np.float32)
    )
    workload = Workload(GRAPHS, [Pair(PICTURE)], (1, 8, 8), loop)
    entries = [Candidate(backend.name, precision) for backend, precision in engines]
    return fastest_variants(entries, workload, Target(settings=CompileSettings(1, report=report)), loop)


def test_the_median_decides(timed) -> None:
    found, measured = measure([(MINE, "bf16")])
    assert found.to_try(MINE, "bf16") == [SECOND]
    assert [(each.variant, each.latency_ms, each.quartiles_ms) for each in measured] == [
        ("length-weights", 11.0, (10.5, 11.5)),
        ("moments-weights", 8.0, (7.5, 19.0)),
        ("length-split", 9.0, (9.0, 9.0)),
    ]
    assert measured[0].to_dict() == {
        "backend": "mine", "precision": "bf16", "variant": "length-weights", "latency_ms": 11.0,
        "quartiles_ms": [10.5, 11.5],
    }  # fmt: skip


def test_each_precision_has_its_own(timed) -> None:
    found, _ = measure([(MINE, "bf16")])
    assert found.to_try(MINE, "bf16-after-2") == [SECOND]
    assert found.to_try(MINE, "fp32") == [FIRST]


def test_a_form_that_is_refused_is_left_out(timed) -> None:
    timed[b"second"] = BackendError("no such node")
    lines: list[str] = []
    found, measured = measure([(MINE, "fp32")], lines.append)
    assert found.to_try(MINE, "fp32") == [THIRD]
    assert [each.variant for each in measured] == ["length-weights", "length-split"]
    assert lines == ["graph variants of mine fp32", "mine fp32 does not run moments-weights: no such node"]


def test_where_all_are_refused_the_first_stays(timed) -> None:
    for graph in timed:
        timed[graph] = BackendError("out of luck")
    found, measured = measure([(MINE, "fp32")])
    assert found.to_try(MINE, "fp32") == [FIRST]
    assert measured == []


def test_one_form_is_not_measured(timed) -> None:
    lines: list[str] = []
    found, measured = measure([(PLAIN, "fp32")], lines.append)
    assert found.to_try(PLAIN, "fp32") == [GraphVariant("layernorm", "split")]
    assert (measured, lines) == ([], [])


def test_shapes_of_engines() -> None:
    assert variants_of([MINE, PLAIN]) == GRAPHS.keys()
    assert first_variant(MINE) == FIRST
    assert Variants().to_try(MINE, "fp32") == [FIRST]


def test_a_sound_form_stands_behind_one_that_cancels() -> None:
    raw = GraphVariant("raw", "weights")
    found = Variants({("mine", "bf16"): [raw, SECOND, FIRST], ("mine", "fp32"): [FIRST, raw], ("plain", "fp32"): [raw]})
    assert found.to_try(MINE, "bf16-after-1") == [raw, SECOND]
    # Nothing stands behind a form that does not cancel, or where there is no other.
    assert found.to_try(MINE, "fp32") == [FIRST]
    assert found.to_try(PLAIN, "fp32") == [raw]


def test_what_is_one_graph_in_every_variant_is_not_measured(timed: dict[bytes, Any], monkeypatch: Any) -> None:
    for variant in (SECOND, THIRD):
        monkeypatch.setitem(GRAPHS, variant, GRAPHS[FIRST])
    variants, measured = measure([(MINE, "fp32")])
    assert measured == []
    assert variants.to_try(MINE, "fp32") == [FIRST]
    # One that is another graph is.
    monkeypatch.setitem(GRAPHS, THIRD, b"third")
    assert [each.variant for each in measure([(MINE, "fp32")])[1]] == ["length-weights", "length-split"]
