"""What a restore launches: names, order, and every address, against the table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.cuda.references import arguments_of

TABLES = {"ode-1": 0, "sde-2": 1, "ode-3": 2, "ipndm-4": 3}
THRESHOLD = [("threshold", "count"), ("threshold", "find"), ("threshold", "count"), ("threshold", "choose")]


def names(chain: Any) -> list[str]:
    return [f"{node.name} {node.step}" for node in chain.nodes]


def launches(chain: Any, name: str) -> list[dict[str, Any]]:
    """Arguments of each launch of a name, in order."""
    return [arguments_of(node.launch) for node in chain.nodes if node.name == name]


def same(given: dict[str, Any], **expected: Any) -> bool:
    """Whether arguments lie where they should, in the shape they should have."""
    return all(
        (given[name].data_ptr(), given[name].shape, given[name].stride())
        == (tensor.data_ptr(), tensor.shape, tensor.stride())
        for name, tensor in expected.items()
    )


def test_a_restore_starts_and_then_steps_and_finishes_after_the_audit(make_chain, table) -> None:
    assert names(make_chain(table("ode", 2, 3))) == [
        "start -1",
        "network 0", "step 0",
        "network 1", "step 1",
        "network 2", "audit 2", "finish 2",
    ]  # fmt: skip


def test_reflected_padding_is_written_before_each_evaluation_where_there_is_any(make_chain, table) -> None:
    chain = make_chain(table("ode", 2, 2), (1, 8, 6), mirrors=True)
    assert names(chain) == [
        "start -1", "mirror 0", "network 0", "step 0", "mirror 1", "network 1", "audit 1", "finish 1",
    ]  # fmt: skip
    assert all(same(given, packed=chain.network.packed) for given in launches(chain, "mirror"))
    whole = make_chain(table("ode", 2, 2), (1, 8, 8), mirrors=True)
    assert "mirror 0" not in names(whole)


def test_a_single_step_finishes_at_once(make_chain, table) -> None:
    assert names(make_chain(table("ode", 1, 1))) == ["start -1", "network 0", "audit 0", "finish 0"]


def test_the_threshold_takes_four_launches_before_each_step(make_chain, table) -> None:
    chain = make_chain(table("ode", 2, 2), clamp="threshold")
    four = ["threshold 0"] * 4
    assert names(chain) == ["start -1", "network 0", *four, "step 0", "network 1",
                            *[name.replace("0", "1") for name in four], "audit 1", "finish 1"]  # fmt: skip
    kernels = [(node.name, node.launch.name.split("_")[0]) for node in chain.nodes if node.name == "threshold"]
    assert kernels == THRESHOLD * 2
    counted = launches(chain, "threshold")
    assert [given["index"] for given in counted if "index" in given] == [0, 0, 1, 1]
    assert all(same(given, counts=chain.arrays.counts) for given in counted)
    assert all(same(given, bounds=chain.arrays.bounds) for given in counted[3::4])
    state = {"x": chain.arrays.x, "mu": chain.arrays.mu, "output": chain.network.output}
    assert all(same(given, **state, records=chain.arrays.records) for given in counted[::2])
    bounded = [*launches(chain, "step"), *launches(chain, "finish")]
    assert all(same(given, bounds=chain.arrays.bounds) for given in bounded)


@pytest.mark.parametrize("clamp", ["none", "unit"])
def test_without_the_threshold_its_bounds_are_not_read(make_chain, clamp: str) -> None:
    chain = make_chain(clamp=clamp)
    assert all(not same(given, bounds=chain.arrays.bounds) for given in launches(chain, "step"))


def test_the_start_reads_the_picture_and_writes_the_networks_input(make_chain) -> None:
    chain = make_chain()
    a, (given,) = chain.arrays, launches(chain, "start")
    assert same(given, picture=a.source, mu=a.mu, x=a.x, packed=chain.network.packed, records=a.records, key=a.key)


@pytest.mark.parametrize("name", TABLES)
def test_each_step_reads_the_networks_output_and_writes_its_input(make_chain, table, name: str) -> None:
    method, order = name.split("-")
    chain = make_chain(table(method, int(order), 5))
    a, given = chain.arrays, launches(chain, "step")
    assert [each["index"] for each in given] == [0, 1, 2, 3]
    state = {"x": a.x, "mu": a.mu, "output": chain.network.output, "history": a.history}
    tables = {"records": a.records, "key": a.key}
    assert all(same(each, **state, **tables, packed=chain.network.packed) for each in given)
    (last,) = launches(chain, "finish")
    assert same(last, **state, **tables, picture=a.result)
    assert last["index"] == 4
    # The ring of predictions has as many places as the rows look back, and turns by the step's number.
    assert len(a.history) == TABLES[name]
    assert {each["slots"] for each in [*given, last]} == {max(1, TABLES[name])}


def test_the_audit_looks_at_the_last_output(make_chain) -> None:
    chain = make_chain()
    (given,) = launches(chain, "audit")
    assert same(given, values=chain.network.output, status=chain.arrays.status)


def test_all_arrays_lie_in_the_arena_but_the_networks(make_chain, device) -> None:
    chain = make_chain(clamp="threshold")
    blocks = [block.all for block in (chain.buffers.arena.up, chain.buffers.arena.down, chain.buffers.arena.here)]
    for node in chain.nodes:
        for name, value in arguments_of(node.launch).items() if node.launch else ():
            if isinstance(value, int) or name in ("packed", "output", "values"):
                continue
            begin, end = value.data_ptr(), value.data_ptr() + value.numel() * value.element_size()
            assert any(b.data_ptr() <= begin and end <= b.data_ptr() + b.numel() for b in blocks), (node.name, name)
    assert device.taken == chain.buffers.arena.size


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
def test_the_list_is_what_the_device_is_given_between_two_copies(make_chain, device, pictures, graphs: bool) -> None:
    chain = make_chain(clamp="threshold", graphs=graphs)
    expected = ["copy up"]
    for node in chain.nodes:
        given = arguments_of(node.launch) if node.launch else {"index": node.step}
        name = node.launch.name if node.launch else "network"
        expected.append(f"{name} {given['index']}" if "index" in given else name)
    expected.append("copy down")
    device.taken_log()
    chain.restore_into(pictures((1, 16, 16)), None, 0)
    if graphs:
        (graph,) = device.graphs
        assert graph.names == expected
    else:
        assert device.taken_log() == [*(f"stream 1: {name}" for name in expected), "wait for stream 1"]


def test_for_tensors_only_the_status_is_copied(make_chain, device) -> None:
    chain = make_chain()
    chain.warm_up(tensors=True)
    host, tensors = sorted((graph.names for graph in device.graphs), key=lambda names: names[0] != "copy up")
    assert tensors == [*host[1:-1], "copy down"]


def test_the_list_can_be_shown_with_its_addresses(make_chain, table) -> None:
    from mrs.runtime.cuda.nodes import shown

    chain = make_chain(table("ode", 1, 2))
    lines = shown(chain.nodes)
    assert [line.split(" ")[0] for line in lines] == ["start", "network", "step", "network", "audit", "finish"]
    assert lines[1] == "network 0"
    given = arguments_of(chain.nodes[2].launch)
    assert lines[2].split(" ")[:4] == ["step", "0", hex(given["x"].data_ptr()), hex(given["mu"].data_ptr())]
    assert lines[2].split(" ")[-1] == str(chain.nodes[2].launch.arguments[-1])
    # The first launch belongs to no row.
    assert lines[0].split(" ")[1] == hex(chain.arrays.source.data_ptr())
