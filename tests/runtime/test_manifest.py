"""A manifest of another format, or with a value of another kind, is refused by the field's name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mrs.runtime.errors import PlanError
from mrs.runtime.manifest import ConditionerFacts, Manifest
from mrs.runtime.plan import GRAPH, read_plan
from tests.runtime.plan_files import change_manifest, members, refused, write


@pytest.mark.parametrize(
    "verdict",
    [
        *(None, [], {}, "no", {"warnings": None}, {"warnings": "no"}, {"warnings": [""]}, {"warnings": [1]}),
        *({"warnings": ["x" * 501]}, {"warnings": ["x"] * 9}),
    ],
    ids=lambda verdict: repr(verdict)[:30],
)
def test_a_wrong_verdict(plan_file: Path, verdict: object) -> None:
    change_manifest(plan_file, lambda manifest: manifest.update(verdict=verdict))
    refused(plan_file, "is damaged: verdict in its manifest is missing or wrong")


def test_warnings_of_the_build(plan_file: Path) -> None:
    assert read_plan(plan_file).facts.warnings == ()
    change_manifest(plan_file, lambda manifest: manifest.update(verdict={"warnings": ["it does not restore"]}))
    assert read_plan(plan_file).facts.warnings == ("it does not restore",)


# The manifest's values


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"], ids=range(5))
def test_a_manifest_that_is_no_json(plan_file: Path, text: bytes) -> None:
    write(plan_file, {**members(plan_file), "manifest.json": text})
    refused(plan_file, "no plan or is damaged")


@pytest.mark.parametrize("version", [0, 1, 2, 4, "3", None])
def test_another_format_version(plan_file: Path, version: object) -> None:
    change_manifest(plan_file, lambda manifest: manifest.update(format_version=version))
    refused(plan_file, f"has format version {version}, this program reads 3")
    with pytest.raises(PlanError) as caught:
        read_plan(plan_file)
    assert caught.value.hint == "build it again with this version"


def test_a_plan_of_the_first_format_is_told_its_version_not_its_damage(plan_file: Path) -> None:
    """Its rows have nine numbers and its clamp is true or false."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["format_version"] = 1
        manifest["table"].update(rows=[[0.1] * 9] * 2, clamp=False)

    change_manifest(plan_file, change)
    refused(plan_file, "has format version 1, this program reads 3")
    # Of this version such a plan is damaged.
    change_manifest(plan_file, lambda manifest: manifest.update(format_version=3))
    refused(plan_file, "is damaged: table.rows in its manifest is missing or wrong")


OPTIONAL = ("upscale", "further_shapes", "pace", "network.bytes_per_pixel_on")
WRONG = {
    "table.rows": [None, [], {}, [[1.0] * 10, [1.0] * 11], [[1.0] * 9] * 2, [[1.0] * 12] * 2, [[1.0] * 11, ["1"] * 11],
                   [[1.0] * 11, [math.nan] * 11], [[1.0] * 11, [10**400] * 11], [[1.0] * 11, [1e39] * 11],
                   [[1.0] * 11, 5], [[True] * 11] * 2],
    "table.times": [None, [90.0, 0.0], [90.0, math.inf, 0.0], [90.0, "4", 0.0], 90.0],
    "table.start": [None, -1.0, "1", math.nan, math.inf, True],
    "table.clamp": [None, 0, "no", False, True, "", "Unit", ["none"], {"none": 1}],
    "table": [None, [], 3],
    "network.channels": [None, 0, 3.0, "3", True, math.inf, 10**30],
    "network.multiple": [None, 0, -4, 4.0, "4"],
    "network.bytes_per_pixel": [None, 0, 1.5],
    "network.bytes_per_pixel_on": [None, 3, [], {"torch": 0}, {"torch": "8"}],
    "pace": [None, 3, {}, [5], [[256]], [[256, 0.0]], [[256, -1.0]], [[256, math.nan]], [["256", 1.0]],
             [[512, 1.0], [256, 1.0]], [[256, 1.0], [256, 1.0]]],
    "network": [None, "NAFNet"],
    "upscale": [None, 0, -4, 4.0, "4", True, 17, [4]],
    "further_shapes": [None, {}, 3, [1, 8, 8], [[1, 8]], [[1, 8, 0]], [[1, 8, "8"]], [[1, 8, 8]] * 2, [[1, 16, 24]]],
    "shape": [None, [16, 24], [1, 16, 24, 3], [1, 16.0, 24], [1, 0, 24], "abc", 3, [2, 1 << 15, 1 << 15]],
    "backend": [None, 3],
    "precision": [None, ["fp32"]],
    "fingerprint": [None, "Linux", {}, {"system": 1}],
    "members": [None, [], {}, {GRAPH: 5}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [pytest.param(field, value, id=f"{field}={value!r:.30}") for field in WRONG for value in WRONG[field]],
)
def test_a_field_with_a_value_of_another_kind(plan_file: Path, field: str, value: object) -> None:
    def change(manifest: dict[str, Any]) -> None:
        *outer, last = field.split(".")
        for name in outer:
            manifest = manifest[name]
        manifest[last] = value

    change_manifest(plan_file, change)
    refused(plan_file, rf"is damaged: {field}(\.\w+)? in its manifest is missing or wrong")


def test_times_that_do_not_fit_the_rows(plan_file: Path) -> None:
    change_manifest(plan_file, lambda manifest: manifest["table"]["rows"].pop())
    refused(plan_file, "table.times in its manifest")


@pytest.mark.parametrize("field", [field for field in WRONG if field not in OPTIONAL])
def test_a_field_that_is_missing(plan_file: Path, field: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        *outer, last = field.split(".")
        for name in outer:
            manifest = manifest[name]
        del manifest[last]

    change_manifest(plan_file, change)
    refused(plan_file, rf"is damaged: {field}(\.\w+)? in its manifest is missing or wrong")


@pytest.mark.parametrize("resize", [None, "CLIP", "", 1, ["clip"], {}], ids=repr)
def test_a_way_to_scale_pictures_that_nobody_knows(plan_file: Path, resize: object) -> None:
    told = {"side": 8, "length": 5, "resize": resize}
    change_manifest(plan_file, lambda manifest: manifest.update(conditioner=told))
    refused(plan_file, r"is damaged: conditioner\.resize in its manifest is missing or wrong")


@pytest.mark.parametrize(("told", "resize"), [({}, "stretch"), ({"resize": "clip"}, "clip")], ids=str)
def test_how_a_picture_is_scaled_for_a_conditioner(plan_file: Path, told: dict[str, str], resize: str) -> None:
    manifest = read_plan(plan_file).manifest
    facts = Manifest.of({**manifest, "conditioner": {"side": 8, "length": 5, **told}}).conditioner
    assert facts == ConditionerFacts(side=8, length=5, resize=resize)
