"""What chains of one padded size have in common on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mrs.runtime.backends.protocol import Network
from mrs.runtime.device import Stream

if TYPE_CHECKING:
    from mrs.runtime.cuda.coder import CudaCoder


@dataclass(frozen=True)
class Shared:
    """What chains of one padded size have in common on a GPU.

    Attributes:
        network: compiled.
        stream: on which everything happens; None for one that is not made yet.
        coder: makes latents of pictures and back, where the network restores latents.
    """

    network: Network
    stream: Stream | None = None
    coder: CudaCoder | None = None
