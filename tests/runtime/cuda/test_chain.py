"""What a chain restores is what the CPU's chain restores; nothing that changes between restores needs another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.kernels.update import reflected
from mrs.runtime.cpu_chain import CpuChain

TABLES = {"ode-1": 0, "sde-2": 1, "ode-3": 2, "ipndm-4": 3}


def by_cpu(
    fake_network: Any,
    table: Any,
    pictures: Any,
    clamp: str = "none",
    seed: int = 0,
    origin=(0, 0),
    mirrors: bool = False,
) -> Any:
    """The same restore on a CPU, of a network that is padded alike."""
    count, height, width, channels = pictures.shape
    padded = (count, 2 * channels, -(-height // 4) * 4, -(-width // 4) * 4)
    chain = CpuChain(fake_network(padded), replace(table, clamp=clamp), 1, mirrors=mirrors)
    return chain.restore_into(pictures, None, seed, origin)


def close(ours: Any, expected: Any) -> bool:
    """Whether two results are equal but for the last bits of float32, which may change a rounding to bytes."""
    assert ours.dtype == expected.dtype
    return bool(np.abs(ours.astype(float) - expected.astype(float)).max() <= (1 if ours.dtype == np.uint8 else 1e-5))


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 1, 1), (2, 13, 11), (3, 4, 32), (1, 5, 17)], ids=str)
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels last", "planes"])
def test_pictures_of_any_size_as_on_a_cpu(
    make_chain, fake_network, pictures, table, shape: tuple[int, ...], kind: str, channels_last: bool
) -> None:
    chain = make_chain(table(), shape, dtypes=(kind, kind), channels_last=channels_last)
    given = pictures(shape, kind)
    out = np.empty_like(given)
    assert chain.restore_into(given, out, 7, (3, 5)) is out
    assert close(out, by_cpu(fake_network, table(), given, seed=7, origin=(3, 5)))
    assert not close(out, by_cpu(fake_network, table(), given, seed=8, origin=(3, 5)))
    assert not close(out, by_cpu(fake_network, table(), given, seed=7, origin=(3, 6)))


@pytest.mark.parametrize("shape", [(2, 13, 11), (1, 8, 5), (1, 1, 2)], ids=str)
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels last", "planes"])
def test_reflected_padding_as_on_a_cpu(
    make_chain, fake_network, pictures, table, shape: Any, channels_last: bool
) -> None:
    chain = make_chain(table(), shape, dtypes=("float32", "float32"), channels_last=channels_last, mirrors=True)
    given = pictures(shape, "float32")
    out = chain.restore_into(given, None, 7)
    assert close(out, by_cpu(fake_network, table(), given, seed=7, mirrors=True))
    # As the network saw it at last.
    packed = chain.network.packed.float().numpy()
    rows, columns = (reflected(*sides) for sides in zip(shape[1:], packed.shape[2:], strict=True))
    np.testing.assert_array_equal(packed, packed[:, :, rows][..., columns])
    assert packed.std(axis=(2, 3)).min() > 0


@pytest.mark.parametrize("clamp", ["none", "unit", "threshold"])
@pytest.mark.parametrize("name", TABLES)
def test_every_solver_and_clamp_as_on_a_cpu(make_chain, fake_network, pictures, table, name: str, clamp: str) -> None:
    method, order = name.split("-")
    solver = table(method, int(order), 5)
    # Twice the network's output reaches beyond every bound.
    rows = [row._replace(cf=2 * row.cf) for row in solver.rows]
    doubled = solver.__class__(**{**vars(solver), "rows": tuple(rows)})
    chain = make_chain(doubled, (2, 8, 6), clamp, dtypes=("float32", "float32"))
    assert chain.slots == TABLES[name]
    given = pictures((2, 8, 6), "float32")
    assert close(chain.restore_into(given, None, 3), by_cpu(fake_network, doubled, given, clamp, 3))


@pytest.mark.parametrize("dtypes", [("uint8", "float32"), ("float32", "uint8")], ids=" to ".join)
def test_pictures_and_results_of_different_types(make_chain, fake_network, pictures, table, dtypes) -> None:
    levels = pictures((1, 16, 16))
    floats = (levels / 255).astype(np.float32)
    chain = make_chain(dtypes=dtypes)
    given, like = (levels, floats) if dtypes[0] == "uint8" else (floats, levels)
    expected = by_cpu(fake_network, table(), like if dtypes[1] == "uint8" else floats)
    assert close(chain.restore_into(given, None, 0), expected)


def test_without_a_place_the_result_stays_where_it_is_until_the_next_restore(make_chain, pictures) -> None:
    chain, given = make_chain(), pictures((1, 16, 16))
    first = chain.restore_into(given, None, 1)
    kept = first.copy()
    second = chain.restore_into(given, None, 2)
    assert np.shares_memory(first, second)
    assert not np.array_equal(first, kept)


def test_the_host_waits_before_it_reads(make_chain, device, pictures) -> None:
    chain = make_chain()
    device.taken_log()
    chain.restore_into(pictures((1, 16, 16)), None, 1)
    assert device.taken_log() == ["stream 1: replay", "wait for stream 1"]


def test_the_empty_pictures_of_the_first_run_leave_nothing_behind(make_chain, pictures) -> None:
    # NaN comes from an empty picture alone.
    def spoil(network: Any, step: int) -> None:
        network.predict = lambda difference, mu, step: mu / (mu.max() > 0) * np.ones_like(difference)

    restored = make_chain(trouble=spoil).restore_into(pictures((1, 16, 16)), None, 1)
    assert restored.std() > 1


@pytest.mark.parametrize("seed", [-1, 2**32], ids=str)
def test_seeds_out_of_range_are_refused_before_anything_is_launched(make_chain, device, pictures, seed: int) -> None:
    chain = make_chain()
    device.taken_log()
    with pytest.raises(ValueError, match="seed"):
        chain.restore_into(pictures((1, 16, 16)), None, seed)
    assert device.taken_log() == []


@pytest.mark.parametrize("graphs", [True, False], ids=["graph", "loop"])
def test_the_network_alone_can_be_timed(make_chain, device, pictures, graphs: bool) -> None:
    chain, given = make_chain(graphs=graphs), pictures((1, 16, 16))
    expected = chain.restore_into(given, None, 3).copy()
    chain.evaluate_all()
    device.taken_log()
    chain.evaluate_all()
    work = ["replay"] if graphs else ["network 0", "network 1", "network 2"]
    assert device.taken_log() == [*(f"stream 1: {name}" for name in work), "wait for stream 1"]
    # Whatever it left in the network's buffers, the next restore writes anew.
    np.testing.assert_array_equal(chain.restore_into(given, None, 3), expected)


def test_streams_are_never_the_default_one(make_chain, device) -> None:
    make_chain(graphs=False)
    assert not [line for line in device.taken_log() if line.startswith("default")]
