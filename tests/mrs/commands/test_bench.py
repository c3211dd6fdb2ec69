"""`mrs-trt bench`: what it measures and prints."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_restore_and_its_network_are_timed(run, plan) -> None:
    ended = run("bench", plan, "--size", "24x40", "--batch", 2, "--seconds", 0.05, "--threads", 1)
    assert ended.code == 0, ended.err
    assert "at 24x40, batch 2" in ended.out
    assert "a loop" in ended.out
    rows = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if line}
    for name in ("restore", "network"):
        median, quartiles, last = float(rows[name][0]), rows[name][1], float(rows[name][2])
        low, high = map(float, quartiles.split("-"))
        assert 0 < low <= median <= high <= last
    outside = float(rows["outside"][0])
    # Both are rounded.
    assert outside == pytest.approx(float(rows["restore"][0]) - float(rows["network"][0]), abs=0.02)
    assert re.search(r"p99 +of \d+", ended.out)


def test_flags_of_engines_and_the_cache(run, plan, monkeypatch) -> None:
    import mrs.runtime.session as session

    asked = []
    real = session.load
    monkeypatch.setattr(session, "load", lambda path, **options: asked.append(options) or real(path, **options))
    for flags in ([], ["--no-engine", "--no-cache"]):
        assert run("bench", plan, "--seconds", 0.01, *flags).code == 0
    assert [(each["engine"], each["cache"]) for each in asked] == [(True, True), (False, False)]


def test_the_plan_says_the_size(run, plan) -> None:
    from mrs.runtime.plan import read_plan

    count, height, width = read_plan(plan).facts.shape
    ended = run("bench", plan, "--seconds", 0.01)
    assert f"at {height}x{width}, batch {count}" in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "0"], "--seconds 0 is not a positive number"),
        (["--seconds", "nan"], "--seconds nan is not a positive number"),
        (["--seconds", "inf"], "--seconds inf is not a positive number"),
        (["--size", "24"], "'24' is not HEIGHTxWIDTH"),
        (["--backend", "none"], "backend 'none' is unknown"),
        (["--size", "99999x99999"], "size 99999x99999 at batch 1 needs"),
        (["--batch", "999999999"], "at batch 999999999 needs"),
        (["--precision", "int8"], "runs no 'int8' here"),
    ],
)
def test_a_wrong_argument_is_one_line(run, plan, arguments: list[str], said: str) -> None:
    ended = run("bench", plan, *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
