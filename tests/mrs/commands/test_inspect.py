"""`mrs-trt inspect`: what a plan holds, for people and as JSON; nothing of a damaged one."""

from __future__ import annotations

import argparse
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mrs import Schedule, Solver, tableau
from mrs.commands import inspect
from mrs.commands.inspect import rows, summary
from mrs.runtime import plan as module
from mrs.runtime.errors import PlanError
from mrs.runtime.plan import read_plan


@pytest.fixture
def changed(plan, tmp_path):
    """A sound plan whose manifest was changed by a function."""

    def make(change) -> Path:
        made = read_plan(plan)
        manifest = json.loads(json.dumps(made.manifest))
        for name in ("format", "format_version", "members"):
            del manifest[name]
        change(manifest)
        path = tmp_path / "changed.mrsplan"
        replace(made, manifest=manifest).save(path)
        return path

    return make


def test_the_text(run, plan) -> None:
    result = run("inspect", plan)
    assert (result.code, result.err) == (0, "")
    manifest = read_plan(plan).manifest
    assert result.out == f"{summary(manifest)}\n\n{rows(manifest)}\n"
    for line in (
        f"checkpoint    nafnet_tiny.pth  sha256 {manifest['checkpoint']['sha256'][:16]}...",
        "network       ConditionalNAFNet width 8, blocks 1,2 / 1 / 1,1",
        "schedule      cosine, max_sigma 50, eps 0.005, T 100, convention mr-sampler",
        "solver        ode order 2, 2 evaluations, linspace, data prediction, last step lower-order, clamp none",
        "compiled for  32x32, batch 1, 1 threads",
        "chosen        onnxruntime fp32",
        "start: mu + 0.196078 z",
    ):
        assert line in result.out.splitlines()
    assert "*onnxruntime fp32 " in result.out
    assert "(3 pictures)" in result.out


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        ([[256, 4.67], [512, 5.1], [1024, 6.69]], "4.67, 5.10, 6.69 us a pixel and evaluation at 256, 512, 1024 squared"
         "; faster in tiles: 1024 of 544, 2048 of 384"),
        ([[256, 4.0], [512, 4.0]], "4.00, 4.00 us a pixel and evaluation at 256, 512 squared"
         "; whole pictures are fastest"),
    ],
)  # fmt: skip
def test_what_large_pictures_take(plan, pace: list[list[float]], said: str) -> None:
    manifest = read_plan(plan).manifest
    assert not any(line.startswith("large ") for line in summary(manifest).splitlines())
    network = {**manifest["network"], "multiple": 16}
    assert f"large         {said}" in summary({**manifest, "pace": pace, "network": network}).splitlines()


CANDIDATE = {"backend": "a", "precision": "fp32", "latency_ms": 30.0, "quartiles_ms": [29.0, 31.0], "parity_db": None,
             "truth_db": None, "passed": True, "reason": "", "variant": "length-weights"}  # fmt: skip
ROUGH = {**CANDIDATE, "precision": "bf16", "latency_ms": 20.0}
SLOW = {**CANDIDATE, "backend": "b", "latency_ms": 45.0}
FAILED = {**CANDIDATE, "backend": "c", "latency_ms": None, "quartiles_ms": [None, None], "passed": False}


@pytest.mark.parametrize(
    ("candidates", "chosen", "lines"),
    [
        ([CANDIDATE], "fp32", ["why: a fp32 is the only one that ran"]),
        ([CANDIDATE, FAILED], "fp32", ["why: a fp32 is the only one that ran"]),
        (
            [CANDIDATE, {**ROUGH, "passed": False}, {**ROUGH, "passed": False, "variant": "raw-weights"}],
            "fp32",
            ["why: a fp32 is the only one that passes parity", "     faster, but without parity: a bf16"],
        ),
        (
            [SLOW, CANDIDATE, ROUGH, FAILED],
            "bf16",
            ["why: a bf16 is the fastest of 3 that pass parity, 1.50 times faster than a fp32"],
        ),
        ([{**ROUGH, "passed": False}], "bf16", ["why: a bf16 was asked for by name; it fails parity"]),
    ],
    ids=["alone", "others do not run", "others fail", "fastest", "asked for"],
)
def test_why_in_words(plan, candidates, chosen, lines) -> None:
    manifest = read_plan(plan).manifest
    index = [entry["precision"] for entry in candidates].index(chosen)
    selection = {"calibration_pictures": 1, "discretisation_db": 30.0, "candidates": candidates, "chosen": index}
    text = summary({**manifest, "selection": selection}).splitlines()
    first = next(i for i, line in enumerate(text) if line.startswith("why"))
    assert text[first:] == lines


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        ("bf16-after-1", "bf16-after-1 (1 evaluation in float32 before)"),
        ("bf16-after-2", "bf16-after-2 (2 evaluations in float32 before)"),
        ("bf16", "bf16"),
    ],
)
def test_two_precisions_are_explained(plan, precision, words) -> None:
    manifest = read_plan(plan).manifest
    candidate = {**CANDIDATE, "backend": manifest["backend"], "precision": precision}
    selection = {**manifest["selection"], "candidates": [candidate], "chosen": 0}
    text = summary({**manifest, "precision": precision, "selection": selection})
    assert f"chosen        onnxruntime {words}" in text.splitlines()


def test_the_fastest_shape_of_each_engine_is_marked(plan) -> None:
    manifest = read_plan(plan).manifest
    shapes = [("bf16", "length-weights", 9.0), ("bf16", "moments-weights", 8.0), ("fp32", "length-weights", 20.0)]
    forms = [
        {"backend": "a", "precision": precision, "variant": form, "latency_ms": time, "quartiles_ms": [time, time]}
        for precision, form, time in shapes
    ]
    selection = {**manifest["selection"], "variants": forms, "measured_at": "2026-01-02"}
    text = summary({**manifest, "selection": selection}).splitlines()
    assert [line.split()[:3] for line in text[-3:]] == [
        ["a", "bf16", "length-weights"], ["*a", "bf16", "moments-weights"], ["*a", "fp32", "length-weights"],
    ]  # fmt: skip
    assert any("measured 2026-01-02" in line for line in text)


def described(solver: Solver) -> dict[str, Any]:
    """What `inspect` reads of a plan with this solver."""
    table = tableau(Schedule(), solver)
    return {"solver": solver.to_dict(), "table": json.loads(json.dumps(asdict(table)))}


@pytest.mark.parametrize(
    ("solver", "columns"),
    [
        (Solver("dpm++", 1), "b0"),
        (Solver("ode", 2), "b0 b1"),
        (Solver("dpm++", 3), "b0 b1 b2"),
        (Solver("ipndm", 4, "noise"), "b0 b1 b2 b3"),
        (Solver("posterior", 1), "b0 n"),
        (Solver("sa", 2, stochasticity=0.5), "b0 b1 n"),
        (Solver("ghvb", 2, "noise", momentum=0.2), "b0 b1 m"),
    ],
    ids=lambda value: value.name if isinstance(value, Solver) else "",
)
def test_the_rows_are_the_plans_without_columns_that_no_row_uses(solver, columns) -> None:
    table = tableau(Schedule(), solver)
    header, *lines = rows(described(solver)).splitlines()[1:]
    assert header.split() == ["t", "to", "cx", "cm", "cf", "ax", "am", *columns.split()]
    numbers = [[float(word) for word in line.split()] for line in lines]
    assert [line[:2] for line in numbers] == [pytest.approx(pair, abs=1e-3) for pair in pairwise(table.times)]
    shown = [[getattr(row, name) for name in header.split()[2:]] for row in table.rows]
    assert [line[2:] for line in numbers] == [pytest.approx(row, abs=1e-5) for row in shown]
    assert len({len(line) for line in (header, *lines)}) == 1


@pytest.mark.parametrize(
    ("solver", "start"),
    [
        (Solver(), "start: mu + 0.196078 z"),
        (Solver(clamp="unit"), "start: mu + 0.196078 z, q0 clamped to [0, 1]"),
        (Solver(clamp="threshold"), "start: mu + 0.196078 z, q0 by the dynamic threshold"),
        # The marginal's standard deviation there, not the stationary one.
        (Solver(start_time=20.0), f"start: mu + {Schedule().sigma(20):.6f} z"),
    ],
    ids=["none", "unit", "threshold", "later"],
)
def test_the_start_and_the_clamp(solver, start) -> None:
    assert rows(described(solver)).splitlines()[0] == start
    assert Schedule().sigma(20) < 0.1


@pytest.mark.parametrize(
    ("solver", "says"),
    [
        (Solver("ghvb", 4, "noise", momentum=0.25), "ghvb order 4, 10 evaluations, linspace, noise prediction"),
        (Solver("ghvb", 4, "noise", momentum=0.25), "clamp none, momentum 0.25\n"),
        (Solver("sa", 3, stochasticity=1.5), "clamp none, stochasticity 1.5\n"),
        (Solver("posterior", 1, noise_scale=0, start_noise=0.75), "clamp none, noise scale 0, start noise 0.75\n"),
        (Solver(clamp="threshold", start_time=42.5), "clamp threshold, start time 42.5\n"),
        (Solver(last_step="full", denoise_last=True), "last step full, clamp none, denoise last\n"),
        (Solver(steps=2, spacing="custom", times=(90.0, 7.0, 0.0)), "2 evaluations, custom, data prediction"),
        (
            Solver(steps=1, spacing="custom", times=(90.0, 0.0), weights=((0.2, 0.7),)),
            "last step published, clamp none, fitted weights\n",
        ),
    ],
)
def test_settings_of_the_solver_are_shown(run, changed, solver, says) -> None:
    path = changed(lambda manifest: manifest.update(solver=solver.to_dict()))
    assert says in run("inspect", path).out
    assert json.loads(run("inspect", path, "--json").out)["solver"] == solver.to_dict()


def test_a_plan_from_before_noise_was_scaled_is_described(run, changed) -> None:
    said = Solver("posterior", 1).to_dict()
    del said["noise_scale"], said["start_noise"]
    path = changed(lambda manifest: manifest.update(solver=said))
    assert "last step published, clamp none\n" in run("inspect", path).out


def test_the_interpolation_of_the_schedule_is_shown_where_it_is_not_the_published_one(run, changed) -> None:
    path = changed(lambda manifest: manifest["schedule"].update(interpolation="exact"))
    assert "T 100, convention mr-sampler, exact between whole times\n" in run("inspect", path).out


def test_json_is_the_manifest(run, plan) -> None:
    result = run("inspect", plan, "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == read_plan(plan).manifest


def test_what_was_not_measured_is_said(plan) -> None:
    manifest = json.loads(json.dumps(read_plan(plan).manifest))
    refused = {
        "backend": "other", "precision": "bf16", "latency_ms": None, "quartiles_ms": [None, None],
        "parity_db": None, "truth_db": None, "passed": False, "reason": "it broke", "variant": "length-split",
    }  # fmt: skip
    manifest["selection"]["candidates"].append(refused)
    manifest["selection"]["discretisation_db"] = None
    manifest["solver"]["denoise_last"] = True
    manifest["table"]["clamp"] = "unit"
    text = summary(manifest)
    line = next(line for line in text.splitlines() if "other" in line)
    assert line.split() == ["other", "bf16", "length-split", "not", "run", "-", "-", "it", "broke"]
    assert "\nfloat32 at these steps equals its 100-step solution (3 pictures)" in text
    assert "clamp none, denoise last\n" in text
    assert "start: mu + 0.196078 z, q0 clamped to [0, 1]\n" in rows(manifest)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_damaged_plan_is_not_described(refuse, plan, tmp_path, flags) -> None:
    """Its manifest is sound; another member is not."""
    content = bytearray(plan.read_bytes())
    with zipfile.ZipFile(plan) as archive:
        member = archive.getinfo("network.onnx")
    content[member.header_offset + 30 + len(member.filename) + member.file_size // 2] ^= 1
    (tmp_path / "bad.mrsplan").write_bytes(content)
    refuse("inspect", tmp_path / "bad.mrsplan", *flags, says=("bad.mrsplan is damaged", "network.onnx"))


def test_inputs_that_are_no_plans(refuse, picture, tmp_path) -> None:
    refuse("inspect", tmp_path / "missing.mrsplan", says=("missing.mrsplan does not exist", "mrs-trt build"))
    refuse("inspect", picture, says="picture.png is no plan")
    refuse("inspect", tmp_path, says="is a folder")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest.pop("selection"), "selection"),
        (lambda manifest: manifest["solver"].pop("spacing"), "spacing"),
        (lambda manifest: manifest.update(checkpoint="rain"), "changed.mrsplan"),
        (lambda manifest: manifest["selection"].update(chosen=99), "list index"),
        (lambda manifest: manifest["selection"].update(chosen=-1), "selection.chosen is -1"),
        (lambda manifest: manifest["selection"].update(chosen=True), "selection.chosen is True"),
        (lambda manifest: manifest["selection"]["candidates"][0].update(latency_ms=10**400), "too large"),
        (lambda manifest: manifest.update(latency={"max_ms": 1.0, "evaluations": []}), "list index"),
    ],
    ids=[
        "missing",
        "missing deeper",
        "wrong kind",
        "chosen",
        "counted from behind",
        "truth",
        "a huge number",
        "no fit",
    ],
)
def test_a_plan_that_does_not_describe_itself(refuse, run, changed, change, says) -> None:
    """Restoring does not ask for these fields, so that such a plan is sound otherwise."""
    path = changed(change)
    refuse("inspect", path, says=("does not describe itself", says, "use --json"))
    assert run("inspect", path, "--json").code == 0


def places(value: Any, *place: Any) -> Iterator[tuple[Any, ...]]:
    """Where each value of a manifest stands."""
    if place:
        yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], *place, key)


def test_any_value_of_a_manifest_is_described_or_refused(plan, monkeypatch, capsys) -> None:
    sound = read_plan(plan).manifest
    sound["latency"] = {
        "max_ms": 50.0,
        "evaluations": [{"steps": 4, "latency_ms": 40.0, "quality_db": 27.25, "of_truth": True}],
    }
    found = list(places(sound))
    assert len(found) > 100
    options = argparse.Namespace(plan=plan, json=False)
    described = 0
    for *outer, last in found:
        for value in (None, [], {}, "text", -1, 99, 10**400, True, float("nan"), [[1]], {"a": None}):
            manifest = inner = json.loads(json.dumps(sound))
            for key in outer:
                inner = inner[key]
            inner[last] = value
            monkeypatch.setattr(module, "read_plan", lambda _, manifest=manifest: SimpleNamespace(manifest=manifest))
            with suppress(PlanError):
                described += inspect.run(options) == 0
    capsys.readouterr()
    assert described > len(found)


def test_the_evaluations_that_fit_are_shown(run, changed) -> None:
    def change(manifest: dict[str, Any]) -> None:
        fits = [
            {"steps": 4, "latency_ms": 40.0, "quality_db": 27.25, "of_truth": True},
            {"steps": 2, "latency_ms": 22.0, "quality_db": 30.0, "of_truth": True},
        ]
        manifest["latency"] = {"max_ms": 50.0, "evaluations": fits}

    text = run("inspect", changed(change)).out
    assert "evaluations within 50 ms, and PSNR to the clean pictures" in text
    assert re.search(r"^\*  2 +22.0 ms +30.0 dB$", text, re.M)
    assert re.search(r"^   4 +40.0 ms +27.2 dB$", text, re.M)
