"""`mrs-trt inspect`: what a plan holds, for people and as JSON; nothing of a damaged one."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from mrs.commands.inspect import rows, summary
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
        "x_T = mu + 0.196078 z",
    ):
        assert line in result.out.splitlines()
    assert "*onnxruntime fp32 " in result.out
    assert "(3 pictures)" in result.out


def test_the_rows_are_the_plans(plan) -> None:
    manifest = read_plan(plan).manifest
    header, *lines = rows(manifest).splitlines()[1:]
    assert header.split() == ["t", "to", "cx", "cm", "cf", "ax", "am", "b0", "b1", "b2", "n"]
    numbers = [[float(word) for word in line.split()] for line in lines]
    times = manifest["table"]["times"]
    assert [line[:2] for line in numbers] == [pytest.approx(pair, abs=1e-3) for pair in pairwise(times)]
    assert [line[2:] for line in numbers] == [pytest.approx(row, abs=1e-5) for row in manifest["table"]["rows"]]


def test_json_is_the_manifest(run, plan) -> None:
    result = run("inspect", plan, "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == read_plan(plan).manifest


def test_what_was_not_measured_is_said(plan) -> None:
    manifest = json.loads(json.dumps(read_plan(plan).manifest))
    refused = {
        "backend": "other", "precision": "bf16", "latency_ms": None, "quartiles_ms": [None, None],
        "parity_db": None, "truth_db": None, "passed": False, "reason": "it broke",
    }  # fmt: skip
    manifest["selection"]["candidates"].append(refused)
    manifest["selection"]["discretisation_db"] = None
    manifest["solver"]["denoise_last"] = True
    manifest["table"]["clamp"] = True
    text = summary(manifest)
    line = next(line for line in text.splitlines() if "other" in line)
    assert line.split() == ["other", "bf16", "not", "run", "-", "-", "it", "broke"]
    assert "\nfloat32 at these steps equals its 100-step solution (3 pictures)" in text
    assert "clamp none, denoise last\n" in text
    assert "x_T = mu + 0.196078 z, q0 clamped to [0, 1]\n" in rows(manifest)


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
    ],
    ids=["missing", "missing deeper", "wrong kind"],
)
def test_a_plan_that_does_not_describe_itself(refuse, run, changed, change, says) -> None:
    """Restoring does not ask for these fields, so that such a plan is sound otherwise."""
    path = changed(change)
    refuse("inspect", path, says=("does not describe itself", says, "use --json"))
    assert run("inspect", path, "--json").code == 0
