"""Bytes counted by hand, array by array, for each element of a state."""

from __future__ import annotations

import pytest

from mrs.kernels.table import Row

X = MU = OLDER = NEW_X = KEPT = 4


def row(**weights: float) -> Row:
    return Row(*[0.0] * len(Row._fields))._replace(b0=1.0, **weights)


@pytest.mark.parametrize(
    ("weights", "older"),
    [
        ({}, 0),
        ({"n": 1.0}, 0),
        ({"b1": -0.5}, 1),
        ({"m": 0.5}, 1),
        ({"b1": -0.5, "m": 0.5}, 1),
        ({"b1": -0.5, "b2": 0.1}, 2),
        ({"b2": 0.1}, 1),
        ({"b1": 1.0, "b2": 1.0, "b3": 1.0}, 3),
    ],
)
@pytest.mark.parametrize("network", [2, 4])
def test_step_reads_an_older_prediction_where_it_has_a_weight(
    weights: dict[str, float], older: int, network: int
) -> None:
    from mrs.kernels.gpu.traffic import of_step

    found = of_step(row(**weights), True, network, False)
    assert found.read == X + MU + network + older * OLDER
    assert found.written == NEW_X + KEPT + network
    assert found.moved == found.read + found.written
    assert found.interleaved == ()


def test_step_writes_a_prediction_only_where_it_is_kept() -> None:
    from mrs.kernels.gpu.traffic import of_step

    kept, dropped = (of_step(row(), keep, 2, False).written for keep in (True, False))
    assert kept - dropped == KEPT


def test_step_on_pixels_writes_both_halves_of_the_input() -> None:
    from mrs.kernels.gpu.traffic import of_step

    planes, pixels = (of_step(row(), True, 2, pixels) for pixels in (False, True))
    assert pixels.read == planes.read
    assert pixels.written - planes.written == 2
    # The network's output and its next input.
    assert pixels.interleaved == (2, 4)


@pytest.mark.parametrize(
    ("picture", "channels_last", "interleaved"), [(1, True, (1, 4)), (4, False, (4,)), (4, True, (4, 4))]
)
def test_start_reads_the_picture_alone(picture: int, channels_last: bool, interleaved: tuple[int, ...]) -> None:
    from mrs.kernels.gpu.traffic import of_start

    found = of_start(2, channels_last, picture)
    # x, mu, and both again as the network's input.
    assert (found.read, found.written) == (picture, NEW_X + MU + 2 + 2)
    assert found.interleaved == interleaved


@pytest.mark.parametrize(("picture", "channels_last", "interleaved"), [(1, True, (1, 2)), (4, False, (4,))])
def test_finish_writes_the_picture_alone(picture: int, channels_last: bool, interleaved: tuple[int, ...]) -> None:
    from mrs.kernels.gpu.traffic import of_finish

    found = of_finish(row(b1=0.5), 2, channels_last, picture)
    assert (found.read, found.written) == (X + MU + 2 + OLDER, picture)
    assert found.interleaved == interleaved


@pytest.mark.parametrize(("channels_last", "interleaved"), [(False, ()), (True, (4,))])
def test_a_count_writes_nothing(channels_last: bool, interleaved: tuple[int, ...]) -> None:
    from mrs.kernels.gpu.traffic import of_count

    found = of_count(4, channels_last)
    assert (found.read, found.written) == (X + MU + 4, 0)
    assert found.interleaved == interleaved


@pytest.mark.parametrize("network", [2, 4])
def test_an_audit_reads_the_networks_output_alone(network: int) -> None:
    from mrs.kernels.gpu.traffic import of_audit

    found = of_audit(network)
    # One number for all elements together is nothing for each.
    assert (found.read, found.written) == (network, 0)
    assert found.interleaved == ()
