"""What results say of plan, machine and software."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mrs
from mrs.benchmarking import facts
from mrs.benchmarking.facts import commit, machine_of, parity_of, plan_facts, versions
from mrs.runtime.plan import Plan, read_plan


@pytest.fixture
def read(plan: Path) -> Plan:
    return read_plan(plan)


def with_candidates(plan: Plan, *candidates: dict[str, Any], gap: float | None = 30.0, chosen: int = 0) -> Plan:
    selection = {"discretisation_db": gap, "candidates": list(candidates), "chosen": chosen, "calibration_pictures": 3}
    return replace(plan, manifest={**plan.manifest, "selection": selection})


def candidate(precision: str, parity_db: float | None, passed: bool, latency_ms: float | None = 4.0) -> dict[str, Any]:
    return {
        "backend": "openvino", "precision": precision, "parity_db": parity_db, "passed": passed, "reason": "so",
        "latency_ms": latency_ms, "variant": "plain",
    }  # fmt: skip


def test_parity_is_of_the_engine_in_use_the_chosen_candidate_first(read: Plan) -> None:
    plan = with_candidates(
        read, candidate("bf16", 20.0, False), candidate("bf16", 50.0, True), candidate("fp32", None, True), chosen=1
    )
    found = parity_of(plan, "openvino", "bf16")
    assert found is not None
    assert (found.psnr_db, found.bar_db, found.passes) == (50.0, 36.0, True)
    assert "3 pictures" in found.reference
    equal = parity_of(plan, "openvino", "fp32")
    assert equal is not None
    assert (equal.psnr_db, equal.passes) == (None, True)
    assert parity_of(plan, "onnxruntime", "bf16") is None


def test_parity_that_nobody_measured_is_none_and_the_bar_is_never_above_enough(read: Plan) -> None:
    assert parity_of(with_candidates(read, candidate("bf16", None, False)), "openvino", "bf16") is None
    for gap in (None, 80.0):
        found = parity_of(with_candidates(read, candidate("bf16", 50.0, True), gap=gap), "openvino", "bf16")
        assert found is not None
        assert found.bar_db == 45.0
    bare = replace(read, manifest={name: value for name, value in read.manifest.items() if name != "selection"})
    assert parity_of(bare, "openvino", "bf16") is None


def test_a_plan_is_described_as_it_is_run(plan: Path) -> None:
    with mrs.load(plan, threads=1) as restorer:
        found = plan_facts(plan, restorer, (2, 40, 24))
    assert found.sha256 == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert (found.name, found.height, found.width, found.batch, found.evaluations) == ("tiny.mrsplan", 40, 24, 2, 2)
    assert (found.backend, found.precision) == ("onnxruntime", "fp32")
    assert found.network.startswith("ConditionalNAFNet width")
    assert found.build_seconds is not None
    assert found.build_seconds > 0
    (chosen,) = [each for each in found.candidates if each.chosen]
    manifest = read_plan(plan).manifest["selection"]
    assert chosen.milliseconds == pytest.approx(manifest["candidates"][manifest["chosen"]]["latency_ms"] / 2)


def test_a_manifest_that_describes_nothing_does(plan: Path, read: Plan, tmp_path: Path) -> None:
    left_out = ("solver", "selection", "build_seconds", "verdict")
    bare = replace(read, manifest={name: value for name, value in read.manifest.items() if name not in left_out})
    bare.save(tmp_path / "bare.mrsplan")
    with mrs.load(tmp_path / "bare.mrsplan", threads=1) as restorer:
        found = plan_facts(tmp_path / "bare.mrsplan", restorer, (1, 32, 32))
    assert (found.build_seconds, found.candidates) == (None, ())


def test_the_machine_and_the_software(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mrs.load(plan, threads=1) as restorer:
        found = machine_of(restorer)
        assert (found.threads, found.gpu) == (1, None)
        assert found.memory_bytes > 1 << 28

        def refuse() -> None:
            raise OSError

        monkeypatch.setattr(os, "getloadavg", refuse)
        assert machine_of(restorer).load is None
    assert {"mrs-trt", "python", "numpy"} <= set(versions())


def test_a_commit_is_named_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(facts, "__file__", str(tmp_path / "facts.py"))
    assert commit() == ""


def test_a_system_is_told_without_its_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts.platform, "system", lambda: "Linux")
    monkeypatch.setattr(facts.platform, "release", lambda: "6.1.0-21-vendor")
    assert facts.system() == "Linux 6.1"
