"""One restore in parts, and traces of several that viewers of traces read."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from mrs.benchmarking.settings import Running
from mrs.benchmarking.timeline import CALLS, events, save_trace, spans, timeline, trace
from mrs.runtime.tracing import Part

pytestmark = pytest.mark.usefixtures("one_thread")
PARTS = (
    Part("network", 10.002, 10.004, 77, 1, 0),
    Part("wait", 10.0, 10.001, 77, None, None),
    Part("restore", 10.0, 10.005, 77, None, None),
    Part("start", 10.001, 10.002, 77, 1, None),
)


def test_spans_begin_with_the_call_and_have_lanes() -> None:
    found = [(span.name, round(span.start_ms, 6), round(span.milliseconds, 6), span.lane, span.step)
             for span in spans(PARTS)]  # fmt: skip
    assert found == [
        ("wait", 0, 1, "call", None),
        ("start", 1, 1, "worker 1", None),
        ("network", 2, 2, "worker 1", 0),
    ]


def test_events_have_groups_threads_and_microseconds(tmp_path: Path) -> None:
    other = Part("step", 10.003, 10.0035, 5, 2, 0)
    save_trace(tmp_path / "trace.json", [*PARTS, other], "a plan")
    content = json.loads((tmp_path / "trace.json").read_text())
    assert content["otherData"]["of"] == "a plan"
    assert content["traceEvents"] == events([*PARTS, other])
    named = [event for event in content["traceEvents"] if event["ph"] == "M" and event["name"] == "process_name"]
    assert {event["pid"]: event["args"]["name"] for event in named} == {1: "callers", 2: "worker 1", 3: "worker 2"}
    done = [event for event in content["traceEvents"] if event["ph"] == "X"]
    assert [event["ts"] for event in done] == sorted(event["ts"] for event in done)
    network = next(event for event in done if event["name"] == "network")
    assert (network["pid"], network["ts"], network["dur"]) == (2, 2000, 2000)
    assert network["args"] == {"evaluation": 0}
    step = next(event for event in done if event["name"] == "step")
    wait = next(event for event in done if event["name"] == "wait")
    # One thread in two groups, and another: three lanes.
    assert len({network["tid"], wait["tid"], step["tid"]}) == 3
    named_threads = {(event["pid"], event["tid"]) for event in content["traceEvents"] if event["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in done} == named_threads


def test_a_plans_restore(plan: Path) -> None:
    with Running(threads=1).load(plan) as restorer:
        found = timeline(restorer, (1, 32, 32))
    assert [(span.name, span.step) for span in found] == [
        ("wait", None), ("start", None), ("network", 0), ("step", 0), ("network", 1), ("step", 1), ("finish", None),
    ]  # fmt: skip
    assert all(before.start_ms <= after.start_ms for before, after in pairwise(found))


def test_more_callers_than_workers_are_traced(plan: Path) -> None:
    parts = trace(plan, Running(threads=1), (1, 32, 32), 2)
    calls = [part for part in parts if part.name == "restore"]
    assert len(calls) == 3 * CALLS
    assert len({part.thread for part in calls}) == 3
    assert len([part for part in parts if part.name == "network"]) == 2 * len(calls)
    assert {part.worker for part in parts if part.name == "network"} <= {1, 2}
    assert len([part for part in parts if part.name == "wait"]) == len(calls)
