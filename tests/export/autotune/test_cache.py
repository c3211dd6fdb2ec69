"""An answer is found again by an equal question alone; what is damaged or cannot be kept only costs time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrs.export.autotune import cache as selection_cache
from mrs.export.autotune.autotune import Measured
from mrs.export.autotune.budget import Fit
from mrs.export.autotune.cache import key, load, store
from mrs.export.autotune.candidates import Candidate
from mrs.export.autotune.select import Selection
from mrs.export.autotune.variants import VariantTime
from mrs.export.autotune.verdict import Look, Verdict
from mrs.export.autotune.workload import Pair, Target, Workload
from mrs.export.graph_variant import GraphVariant
from mrs.kernels.table import Row, Table
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings, EngineOptions
from mrs.runtime.chain import Loop
from mrs.runtime.codec import Codec
from mrs.runtime.system import machine
from mrs.runtime.system.user_cache import user_cache

SHAPE, OTHER = GraphVariant("length", "weights"), GraphVariant("moments", "weights")
LOOP = Loop(Table((9.0, 0.0), (Row(*range(1, 12)),), 0.5, "none"), np.ones((1, 3), np.float32))
PICTURE = np.zeros((2, 2, 3), np.uint8)
WORKLOAD = Workload({SHAPE: b"one", OTHER: b"two"}, [Pair(PICTURE, PICTURE)], (1, 8, 8), LOOP)
TARGET = Target("auto", "fp32", "cpu", CompileSettings(2))

PASSED = Candidate("openvino", "fp32", 10.0, (9.0, 11.0), 80.0, -0.01, True, "parity", "length-weights")
FAILED = Candidate("onnxruntime", "fp32", reason="out of luck", variant="moments-weights")
VERDICT = Verdict(True, Look(22.0, 0.0, 0.05), Look(30.5, 0.01, 0.04), Look(None, 0.01, 0.04))
MEASURED = Measured(
    Selection(
        (FAILED, PASSED), PASSED, 33.0, VERDICT, (VariantTime("openvino", "fp32", "length-weights", 10.0, (9.0, 11.0)),)
    ),
    5,
    12.0,
    (Fit(5, 10.0, None, True), Fit(3, 6.0, 30.0, True)),
    "2026-01-02T03:04:05+00:00",
    ((256, 4.5), (512, 5.0)),
)


def asked(loops: Any = None, max_latency: float | None = None, target: Target = TARGET, **workload: Any) -> str:
    return key(replace(WORKLOAD, **workload), target, loops or {1: LOOP}, max_latency)


def recall(question: str) -> Measured | None:
    return load(question, lambda line: None)


def keep(question: str, measured: Measured) -> str | None:
    """What is said where it cannot be kept."""
    lines: list[str] = []
    assert store(question, measured, lines.append) is measured
    return lines[0] if lines else None


def test_an_equal_question_finds_the_answer() -> None:
    assert recall(asked()) is None
    assert keep(asked(), MEASURED) is None
    found = recall(asked(graphs={OTHER: b"two", SHAPE: b"one"}))
    # NaN is unequal to itself.
    assert repr(found) == repr(MEASURED)
    assert found is not None
    assert found.selection.chosen is found.selection.candidates[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"graphs": {SHAPE: b"one"}},
        {"graphs": {SHAPE: b"onet", OTHER: b"wo"}},
        {"loops": {1: LOOP, 2: LOOP}},
        {"conditioner": b"graph"},
        {"reference": replace(LOOP, codec=Codec(b"encoder", b"decoder", 8, 4, 4, 2))},
        {"reference": replace(LOOP, table=replace(LOOP.table, start=0.6))},
        {"loops": {1: replace(LOOP, table=replace(LOOP.table, start=0.6))}},
        {"loops": {1: replace(LOOP, table=replace(LOOP.table, clamp="unit"))}},
        {"loops": {1: replace(LOOP, table=replace(LOOP.table, rows=(Row(*range(11)),)))}},
        {"loops": {1: replace(LOOP, modulation=np.full((1, 3), 2, np.float32))}},
        {"pairs": [Pair(PICTURE)]},
        {"pairs": [Pair(PICTURE, PICTURE + 1)]},
        {"pairs": [Pair(PICTURE.reshape(1, 4, 3), PICTURE)]},
        {"shape": (2, 8, 8)},
        {"target": replace(TARGET, settings=CompileSettings(1))},
        {"target": replace(TARGET, settings=CompileSettings(2, EngineOptions(5)))},
        {"target": replace(TARGET, precision="bf16")},
        {"target": replace(TARGET, device="auto")},
        {"target": replace(TARGET, backend="openvino")},
        {"max_latency": 5.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_question_does_not(changes: dict[str, Any]) -> None:
    assert asked(**changes) != asked()


@pytest.mark.parametrize("changed", [{"encoder": b"other"}, {"decoder": b"other"}, {"scale": 2}], ids=str)
def test_another_autoencoder_asks_another_question(changed: dict[str, Any]) -> None:
    codec = Codec(b"encoder", b"decoder", 8, 4, 4, 2)
    one, other = (asked(reference=replace(LOOP, codec=each)) for each in (codec, replace(codec, **changed)))
    assert one != other


@pytest.mark.parametrize("what", ["version", "precisions", "machine", "engines", "ours"])
def test_another_machine_asks_another_question(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before = asked()
    engine = type(backends.get("openvino"))
    if what == "version":
        monkeypatch.setattr(engine, "version", lambda self: "1.0")
    elif what == "precisions":
        monkeypatch.setattr(engine, "precisions", lambda self: ("fp32", "fp8"))
    elif what == "machine":
        monkeypatch.setattr(machine, "processor", lambda: "another")
    elif what == "engines":
        monkeypatch.setattr(engine, "missing", lambda self: "gone")
    else:
        monkeypatch.setattr(selection_cache, "VERSION", 99)
    assert asked() != before


def _dropped(saved: dict[str, Any]) -> None:
    del saved["candidates"][0]["parity_db"]


def _renamed(saved: dict[str, Any]) -> None:
    saved["candidates"][0]["speed"] = 1


def _without_its_choice(saved: dict[str, Any]) -> None:
    saved["chosen"] = 7


def _of_an_unknown_form(saved: dict[str, Any]) -> None:
    saved["candidates"][1]["variant"] = "braided"


@pytest.mark.parametrize("change", [_dropped, _renamed, _without_its_choice, _of_an_unknown_form])
def test_an_answer_of_another_version_is_not_believed(change: Callable[[dict[str, Any]], None]) -> None:
    keep(asked(), MEASURED)
    path = _file()
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    assert recall(asked()) is None
    # And is replaced.
    assert keep(asked(), MEASURED) is None
    assert recall(asked()) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"candidates": 3}'])
def test_damage_is_no_answer(content: bytes) -> None:
    keep(asked(), MEASURED)
    _file().write_bytes(content)
    assert recall(asked()) is None


def test_what_cannot_be_kept_is_said_in_one_line() -> None:
    user_cache().parent.mkdir(parents=True, exist_ok=True)
    user_cache().write_text("a file where the folder should be")
    lost = keep(asked(), MEASURED)
    assert lost is not None
    assert lost.startswith("what was measured is not kept for the next build: ")
    assert "\n" not in lost
    assert recall(asked()) is None


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrs.export.autotune.cache.user_cache", lambda: None)
    lost = keep(asked(), MEASURED)
    assert lost is not None
    assert "this user has no home folder" in lost
    assert recall(asked()) is None


def _file() -> Path:
    (path,) = (user_cache() / "selections").iterdir()
    return path
