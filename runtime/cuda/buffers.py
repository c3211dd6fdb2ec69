"""What the memory of a chain holds, and where the host and the kernels find it."""

from __future__ import annotations

import torch
from torch import Tensor

from mrs.kernels.gpu import workspace
from mrs.kernels.gpu.tables import FIELDS
from mrs.runtime.backends.protocol import Network
from mrs.runtime.cuda.arena import Arena, Spec
from mrs.runtime.cuda.nodes import Arrays
from mrs.runtime.device import Device

DTYPES = {"uint8": torch.uint8, "float32": torch.float32}
NOTHING = (0,)


class Buffers:
    """The arrays of one chain.

    Args:
        device: a `Cuda`.
        network: compiled for the padded size.
        shape: (N, C, H, W) of the pictures.
        dtypes: types of pictures and results, `uint8` or `float32`.
        steps: rows of the table.
        slots: predictions that it remembers.
        threshold: whether predictions are clamped by the dynamic threshold.
        bound: pictures and results where they are the caller's.
        mirrors: whether the network's padding is the picture's reflection.

    Attributes:
        arena: all of the memory.
        arrays: what kernels and network work on.
        key, picture, context: pinned arrays that the host writes; `context` is (N, K) for a network that is told of the
            whole picture, and empty for others.
        status, result: pinned arrays that the host reads.
    """

    def __init__(
        self,
        device: Device,
        network: Network,
        shape: tuple[int, int, int, int],
        dtypes: tuple[str, str],
        *,
        steps: int,
        slots: int,
        threshold: bool,
        bound: tuple[Tensor, Tensor] | None,
        mirrors: bool,
    ) -> None:
        count, channels, height, width = shape
        picture = NOTHING if bound else (count, height, width, channels)
        given, made = (DTYPES[dtype] for dtype in dtypes)
        # Of pictures, or of their latents.
        state = tuple(network.output.shape)
        told = network.context is not None
        context = tuple(network.context.shape[:2]) if told else NOTHING
        self.arena = Arena(
            device,
            up={
                "key": Spec((4,), torch.uint32),
                "picture": Spec(picture, given),
                "context": Spec(context, torch.float32),
            },
            down={"status": Spec((1,), torch.int32), "result": Spec(picture, made)},
            here={
                "mu": Spec(state, torch.float32),
                "x": Spec(state, torch.float32),
                "history": Spec((slots, *state), torch.float32),
                "records": Spec((1 + steps, FIELDS), torch.float32),
                "counts": Spec(workspace(count), torch.int32),
                "bounds": Spec((count,), torch.float32),
            },
        )
        up, down, here = self.arena.up, self.arena.down, self.arena.here
        names = ("mu", "x", "history", "records", "counts", "bounds")
        self.arrays = Arrays(
            bound[0] if bound else up["picture"],
            bound[1] if bound else down["result"],
            **{name: here[name] for name in names},
            key=up["key"],
            status=down["status"],
            context=up["context"] if told else None,
            steps=steps,
            threshold=threshold,
            mirrors=mirrors,
        )
        self.key, self.picture, self.context = (
            self.arena.host_up[name].numpy() for name in ("key", "picture", "context")
        )
        self.status, self.result = (self.arena.host_down[name].numpy() for name in ("status", "result"))

    def copied(self, name: str) -> tuple[Tensor, Tensor]:
        """Target and source of the copy `upload` (all that the host writes), `download` or `status`."""
        arena = self.arena
        return {
            "upload": (arena.up.all, arena.host_up.all),
            "download": (arena.host_down.all, arena.down.all),
            "status": (arena.host_down["status"], arena.down["status"]),
        }[name]
