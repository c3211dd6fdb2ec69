"""A loaded plan restores alike whatever the size, seed or engine was before, and lets go of all when it is closed."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrs
from mrs.numerics.reference import sample
from mrs.runtime.errors import InputError, PlanError
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer, load
from mrs.runtime.worker import FEWEST
from tests.runtime.restores import by_reference, bytes_of, changed, entered

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("clamp", ["unit", "threshold"])
def test_the_plans_clamp_is_applied(tiny_restorer: Restorer, tiny, picture, clamp: str) -> None:
    # Twice the network's output reaches beyond every bound.
    rows = [row._replace(cx=2 * row.cx, cm=2 * row.cm, cf=2 * row.cf) for row in tiny.table.rows]
    table = replace(tiny.table, rows=tuple(rows), clamp=clamp)
    plan = tiny.plan()
    values = {**plan.manifest["table"], "rows": [list(row) for row in rows], "clamp": clamp}
    floats = picture / np.float32(255)
    with Restorer(changed(plan, table=values), threads=1) as restorer:
        restored = restorer.restore(floats, seed=5)
    mu = np.ascontiguousarray(floats[None].transpose(0, 3, 1, 2))
    expected = {
        name: sample(tiny.denoise, mu, replace(table, clamp=name), seed=5).transpose(0, 2, 3, 1)[0]
        for name in ("none", clamp)
    }
    np.testing.assert_allclose(restored, expected[clamp], rtol=0, atol=1e-5)
    assert np.abs(expected["none"] - expected[clamp]).max() > 1e-2


PROGRAM = """
import sys
import numpy as np
import mrs
with mrs.load(sys.argv[1], backend=sys.argv[2], threads=1) as restorer:
    print(restorer.restore(np.full((15, 22, 3), 100, np.uint8)).shape)
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_restoring_loads_neither_torch_nor_onnx(tiny, tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.mrsplan"
    tiny.plan("openvino").save(path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shape, modules = done.stdout.splitlines()
    assert shape == "(15, 22, 3)"
    assert not {"torch", "onnx", "tensorrt", "triton", "PIL"} & set(modules.split())
    assert {"openvino", "onnxruntime"} & set(modules.split()) == {name}


# Seeds


def test_a_seed_is_a_picture(restorer: Restorer, picture) -> None:
    first, again, other = (restorer.restore(picture, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
    np.testing.assert_array_equal(restorer.restore(picture), restorer.restore(picture, seed=0))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(7), np.uint32(2**32 - 1)], ids=repr)
def test_seeds_of_every_whole_number(restorer: Restorer, picture, seed: Any) -> None:
    np.testing.assert_array_equal(restorer.restore(picture, seed=seed), restorer.restore(picture, seed=int(seed)))


@pytest.mark.parametrize("seed", [-1, 2**32, True, False, 1.0, "1", None, np.float64(3)], ids=repr)
def test_seeds_that_are_none(restorer: Restorer, picture, seed: Any) -> None:
    with pytest.raises(InputError, match="is not a whole number from 0 to 4294967295"):
        restorer.restore(picture, seed=seed)


# Compiled sizes


def test_a_size_is_compiled_once(restorer: Restorer, fake, picture) -> None:
    restorer.warm_up(8, 12)
    for _ in range(2):
        restorer.restore(picture[:8, :12])
    # Every size that is padded to the same one.
    for height, width in ((7, 12), (8, 9), (5, 11)):
        restorer.restore(picture[:height, :width])
    assert fake.compiled == [(1, 6, 8, 12)]


def test_sizes_that_share_a_network_are_restored_as_each_alone(tiny_restorer: Restorer, tiny) -> None:
    """The larger leaves nothing in the smaller one's padding, over which the network averages."""
    sizes = [(16, 24), (13, 21), (15, 22), (13, 24), (16, 24)]
    for size in sizes:
        picture = bytes_of((*size, 3), seed=sum(size)) // 2 + 127
        expected = by_reference(tiny, picture, seed=5)
        np.testing.assert_allclose(
            tiny_restorer.restore(picture / np.float32(255), seed=5), expected, rtol=0, atol=1e-5
        )


def test_the_least_recently_used_shape_is_dropped(fake, fake_plan: Plan, picture) -> None:
    # Memory for so few networks that the least number is kept.
    with Restorer(fake_plan, memory=FEWEST * 160 * 16 * 24) as restorer:
        for width in (4, 8, 12, 16, 4, 20, 4):
            restorer.restore(picture[:4, :width])
        assert FEWEST == 4
        assert len(fake.compiled) == 5
        restorer.restore(picture[:4, :8])
        assert len(fake.compiled) == 6


def test_shapes_in_rotation_are_compiled_once(restorer: Restorer, fake, picture) -> None:
    for _ in range(3):
        for width in range(4, 28, 4):
            restorer.restore(picture[:8, :width])
    assert len(fake.compiled) == 6


def test_sizes_kept_share_the_memory(fake, fake_plan: Plan, picture) -> None:
    with Restorer(fake_plan, memory=160 * 16 * 24) as restorer:
        restorer.restore(picture[:4])
        restorer.restore(picture[:8])
        restorer.restore(picture[:4])
        assert len(fake.compiled) == 2
        # As large as both together and more: it takes the place of both.
        restorer.restore(picture)
        for height in (4, 8):
            restorer.restore(picture[:height])
    assert [shape[2] for shape in fake.compiled] == [4, 8, 4, 8]


# The restorer itself


def test_more_workers_than_any_machine_has_use_for(fake_plan: Plan) -> None:
    with pytest.raises(InputError, match="workers 1000000 is not a whole number from 1 to 1024") as caught:
        Restorer(fake_plan, workers=10**6)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("path", "match"),
    [
        (None, "the path of the plan is a NoneType"),
        (5, "the path of the plan is a int"),
        (b"a", "the path of the plan is a bytes"),
        ("", "the path of the plan is empty"),
        ("a\0b", "not a path"),
    ],
)
def test_what_is_no_path_is_no_plan(path: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        mrs.load(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [{"timeout": "x"}, {"timeout": True}, {"cancellation": 5}]
    + [{"tile": value} for value in ("x", -1, 8.0, True)]
    + [{"overlap": value} for value in ("abc", -1, float("nan"), [1])],
    ids=str,
)
def test_what_is_no_option_of_a_call(restorer: Restorer, fake, picture, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    for overlapped in ({}, {"tile": 8}) if name == "overlap" else ({},):
        with pytest.raises(InputError, match=f"{name} .* is n") as caught:
            restorer.restore(picture, **{**overlapped, **wrong})
        assert caught.value.hint
    assert fake.compiled == []


@pytest.mark.parametrize("value", [-1, 0, 1.0, True, "2", float("nan")], ids=repr)
@pytest.mark.parametrize("name", ["threads", "memory", "workers", "queue"])
def test_numbers_out_of_range(fake_plan: Plan, name: str, value: Any) -> None:
    least = 0 if name == "queue" else 1
    if value == 0 == least:
        value = -7
    with pytest.raises(InputError, match=f"{name} {value!r} is not a whole number of at least {least}"):
        Restorer(fake_plan, **{name: value})


def test_loading_passes_every_option_on(fake_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"backend": "fake", "precision": "fp32", "threads": 3, "memory": 1 << 20, "workers": 2, "queue": 5,
             "graphs": False, "engine": False, "cache": False}  # fmt: skip
    assert set(inspect.signature(load).parameters) == {"path", *given}
    asked: list[Any] = []
    monkeypatch.setattr("mrs.runtime.session.read_plan", lambda path: {"a.mrsplan": fake_plan}[path])
    monkeypatch.setattr("mrs.runtime.session.Restorer", lambda plan, **options: asked.append((plan, options)))
    mrs.load("a.mrsplan", **given)
    assert asked == [(fake_plan, given)]


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "a.mrsplan").write_text("hello")
    with pytest.raises(PlanError, match="no plan"):
        mrs.load(tmp_path / "a.mrsplan")


def test_a_closed_restorer(fake_plan: Plan, picture) -> None:
    with Restorer(fake_plan) as restorer:
        restorer.restore(picture)
    for call in (restorer.restore, restorer.lend, lambda _: restorer.warm_up(8, 8), lambda _: restorer.synchronize()):
        for _ in range(2):
            with (
                pytest.raises(InputError, match=r"this restorer is closed \(load the plan again\)"),
                entered(call(picture)),
            ):
                pytest.fail("went on")
        restorer.close()


def test_closing_lets_go_of_networks_and_buffers(fake, fake_plan: Plan, picture) -> None:
    restorer = Restorer(fake_plan, workers=2)
    restorer.warm_up(8, 8)
    known = [weakref.ref(network) for network in fake.networks]
    fake.networks.clear()
    assert len(known) == 2
    restorer.close()
    gc.collect()
    assert [network() for network in known] == [None, None]
