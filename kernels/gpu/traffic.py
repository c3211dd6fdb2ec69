"""The bytes that a launch must move: every number read once and written once, and nothing else.

Counted for each element of a state, a pixel of one channel. Padding counts as pixels do. Records, key and bounds are a
few bytes for each program and come from the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from mrs.kernels.table import Row

FLOAT = 4  # bytes of a number of the state, of mu, of a prediction


@dataclass(frozen=True)
class Traffic:
    """Bytes for each element of a state.

    Attributes:
        read, written: all of them.
        interleaved: of both, what lies in each array whose three or six channels follow one another.
    """

    read: float
    written: float
    interleaved: tuple[float, ...] = ()

    @property
    def moved(self) -> float:
        """Bytes read and written."""
        return self.read + self.written


def of_step(row: Row, keep: bool, network: int, pixels: bool) -> Traffic:
    """What `step` moves.

    Args:
        row: its weights; an older prediction is read where its weight is not 0.
        keep: whether a later row reads this prediction.
        network: bytes of a number of the network's, 2 or 4.
        pixels: whether the channels lie last and `step_pixels` does the work. Then mu's half of the input is written
            anew with the other: the two share every sector of 32 bytes, and half a sector costs as much as a whole one.
    """
    packed = 2 * network if pixels else network
    interleaved = (float(network), float(packed)) if pixels else ()
    return Traffic(_read(row, network), FLOAT + FLOAT * keep + packed, interleaved)


def of_finish(row: Row, network: int, channels_last: bool, picture: int) -> Traffic:
    """What `finish` moves.

    Args:
        row: its weights.
        network: bytes of a number of the network's, 2 or 4.
        channels_last: whether its channels lie last.
        picture: bytes of a picture's number, 1 or 4.
    """
    return Traffic(_read(row, network), picture, (picture, network) if channels_last else (picture,))


def of_start(network: int, channels_last: bool, picture: int) -> Traffic:
    """What `start` moves: the picture; mu, x_T and both halves of the network's input."""
    return Traffic(picture, 2 * FLOAT + 2 * network, (picture, 2 * network) if channels_last else (picture,))


def of_count(network: int, channels_last: bool) -> Traffic:
    """What one of the two counts of `threshold` moves; the counts themselves are a few kilobytes for each picture."""
    return Traffic(2 * FLOAT + network, 0.0, (network,) if channels_last else ())


def of_audit(network: int) -> Traffic:
    """What `audit` moves: the network's output."""
    return Traffic(float(network), 0.0)


def _read(row: Row, network: int) -> float:
    older = sum(weight != 0 for weight in (row.b1 or row.m, row.b2, row.b3))
    return 2 * FLOAT + network + FLOAT * older
