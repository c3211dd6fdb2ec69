"""What `make bench` keeps of both plans, and the table made of it."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

import pytest

from benchmarks import plans, rows
from benchmarks.tables import rivals
from mrs.benchmarking.results import OURS, Case, Machine, Parity, PlanFacts, Results


def case(by: str, work: str, milliseconds: tuple[float, ...], parity: Parity | None = None) -> Case:
    return Case(
        work=work, by=by, label=by, backend="openvino", precision="fp32", height=8, width=8, batch=1, evaluations=5,
        group=0, milliseconds=milliseconds, parity=parity,
    )  # fmt: skip


def results() -> Results:
    machine = Machine(
        processor="A CPU", instructions=(), threads=2, memory_bytes=1, gpu=None, system="Linux", load=None
    )
    plan = PlanFacts(
        name="refusion.mrsplan", sha256="", network="", solver="", evaluations=5, backend="openvino", precision="fp32",
        height=8, width=8, batch=1, build_seconds=None,
    )  # fmt: skip
    parity = Parity(psnr_db=60.0, reference="", bar_db=33.0, passes=True)
    cases = (
        case(OURS, "restore", (10.0, 20.0, 10.0)),
        case("eager", "restore", (30.0, 60.0), parity),
        case("openvino", "network", (9.0, 18.0, 9.0)),
        dataclasses.replace(case(OURS, "restore", (99.0,)), group=1),
    )
    return Results(
        date="2026-01-01T00:00:00Z", command="", commit="abc", versions={}, machine=machine, plan=plan, cases=cases
    )


def test_the_table_has_every_rival_of_the_plan_s_own_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    results().save(tmp_path / "refusion.a-cpu.json")
    rivals.found.cache_clear()
    table = rivals.against()
    rivals.found.cache_clear()
    assert "| ours | 5 | 10.0 (10.0-15.0) | 1.00 | |" in table
    assert "| eager | 5 | 45.0 (37.5-52.5) | 3.00 | 60.0 dB |" in table
    assert "| openvino: the network alone | 5 | 9.00 (9.00-13.5) | 0.90 | |" in table
    assert "99.0" not in table


def test_a_result_s_name_says_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans.machine, "processor", lambda: "Intel(R) Xeon(R) Processor")
    monkeypatch.setattr(plans.machine, "instructions", lambda: ("avx2", "amx_bf16"))
    assert plans.processor() == "intel-xeon-amx-bf16"
    assert re.fullmatch(r"[a-z0-9-]+", plans.processor())


def test_refusion_is_built_for_the_engine_that_it_is_compared_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A build that measures every engine would take longer than the comparison."""
    built: list[dict[str, object]] = []
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(plans, "write_checkpoint", lambda config, path: path)
    monkeypatch.setattr(plans.mrs, "build", lambda *given, **more: built.append(more))
    monkeypatch.setattr(plans, "_bench", lambda plan, seconds, target, *parts: asked.append(parts) or 0)
    monkeypatch.chdir(tmp_path)
    options = argparse.Namespace(size=64, compile=True, seconds=1.0)
    assert plans.refusion(options, tmp_path / "found.json") == 0
    assert built[0]["backend"] == "openvino"
    assert "precision" not in built[0]
    assert [path.name for path in (tmp_path / str(built[0]["calibration"])).iterdir()] == ["coffee.png"]
    assert "eager,compile,published,openvino" in asked[0]


def test_an_unknown_plan_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["plans", "none"])
    with pytest.raises(SystemExit):
        plans.main()
    assert "'none' is none of refusion, shipped" in capsys.readouterr().err
