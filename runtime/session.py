"""A loaded plan that restores pictures."""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.noise import SEEDS
from mrs.runtime import backends, machine, tiling
from mrs.runtime.backends import Backend
from mrs.runtime.chain import Chain
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.plan import Plan, read_plan

log = logging.getLogger("mrs")

# Memory for the network's activations; larger pictures are cut into tiles. Half of what is free counts where less is.
MEMORY = 2 << 30
# Compiled sizes kept at once; the least recently used one goes first.
CHAINS_KEPT = 4


def load(
    path: str | Path, *, backend: str | None = None, threads: int | None = None, memory: int | None = None
) -> Restorer:
    """Load a plan.

    Args:
        path: the plan file.
        backend: run on this backend instead of the plan's own.
        threads: most threads to use; all processors of this process by default.
        memory: bytes for the network's activations, above which pictures are cut into tiles; by default 2 GiB, or
            half of the free memory where that is less.

    Raises:
        PlanError: for a file that is no plan, or is damaged.
        BackendError: where no backend can run here.
        InputError: for an unknown backend or numbers out of range.
    """
    return Restorer(read_plan(path), backend=backend, threads=threads, memory=memory)


class Restorer:
    """Restores pictures with a plan; a context manager.

    One restore runs at a time: calls from several threads wait for each other. `backend` and `precision` say what is
    really used, which may differ from the plan on another machine.
    """

    def __init__(
        self, plan: Plan, *, backend: str | None = None, threads: int | None = None, memory: int | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads {threads} is not positive")
        if memory is not None and memory < 1:
            raise InputError(f"memory {memory} is not positive", hint="it counts bytes")
        self.plan = plan
        self.threads = threads or machine.threads()
        network, table = plan.manifest["network"], plan.manifest["table"]
        self.multiple: int = network["multiple"]
        self.channels: int = network["channels"]
        self._rows = plan.rows
        self._start, self._clamp = float(table["start"]), str(table["clamp"])
        self._pixels = (memory or _default_memory()) // int(network["bytes_per_pixel"])
        self._backend, self.precision = _choose(plan, backend)
        self._chains: OrderedDict[tuple[int, int, int], Chain] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    def restore(
        self,
        image: NDArray[Any],
        seed: int = 0,
        *,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> NDArray[Any]:
        """Restore a picture, or a batch of equal size.

        Args:
            image: (H, W, C) or (N, H, W, C), uint8, or float in [0, 1]; any size.
            seed: of the noise, 0 to 2^32 - 1; the same seed gives the same noise, whatever the tiles. A picture's
                number in its batch counts too: pictures of one batch draw different noise.
            tile: cut into tiles of this side, a multiple of the network's; 0 never cuts; by default memory decides.
                Tiling changes the result a little, because the network looks at averages over what it sees.
            overlap: pixels shared by neighbouring tiles, blended; by default an eighth of the tile, at most 64.

        Returns:
            A new array of the same shape; uint8 for uint8, float32 for float.

        Raises:
            InputError: for another shape or dtype, values outside [0, 1], or tiles that cannot be.
            BackendError: where the engine fails.
        """
        image = np.asarray(image)
        out = np.empty(image.shape, np.uint8 if image.dtype == np.uint8 else np.float32)
        self.restore_into(image, out, seed, tile=tile, overlap=overlap)
        return out

    def restore_into(
        self,
        image: NDArray[Any],
        out: NDArray[Any],
        seed: int = 0,
        *,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        """`restore` into an array of the caller's, of the same shape, uint8 or float32.

        Nothing is allocated for a dense uint8 or float32 picture of a size seen before that is not tiled. `image` and
        `out` may be the same array.
        """
        pictures = self._check(image, out, seed)
        if not out.flags.c_contiguous:
            # The kernels write dense arrays; a strided one is filled from a dense copy.
            dense = np.empty(out.shape, out.dtype)
            self.restore_into(pictures if image.ndim == 4 else pictures[0], dense, seed, tile=tile, overlap=overlap)
            out[...] = dense
            return
        target = out if out.ndim == 4 else out[None]
        with self._lock:
            if self._closed:
                raise InputError("this restorer is closed", hint="load the plan again")
            side = self._tile(pictures.shape, tile, overlap)
            if side is None:
                self._chain(pictures.shape[:3]).restore_into(pictures, target, int(seed))
            else:
                self._restore_tiles(pictures, target, int(seed), side, overlap)

    def warm_up(self, height: int, width: int, batch: int = 1) -> None:
        """Compile for one size ahead of the first picture."""
        image = np.zeros((batch, height, width, self.channels), np.uint8)
        self.restore(image)

    def close(self) -> None:
        """Release engines and buffers; may be called again."""
        with self._lock:
            self._closed = True
            self._chains.clear()

    def __enter__(self) -> Restorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, image: NDArray[Any], out: NDArray[Any], seed: int) -> NDArray[Any]:
        """The picture as dense (N, H, W, C) uint8 or float32; a view where it is that already."""
        if image.ndim not in (3, 4) or image.shape[-1] != self.channels or 0 in image.shape:
            raise InputError(
                f"picture of shape {image.shape} is not (H, W, {self.channels}) or (N, H, W, {self.channels})"
            )
        if out.shape != image.shape or out.dtype not in (np.uint8, np.float32) or not out.flags.writeable:
            raise InputError(f"out is {out.dtype}{out.shape}", hint=f"give writeable uint8 or float32 {image.shape}")
        if not _is_whole(seed) or not 0 <= seed < SEEDS:
            raise InputError(f"seed {seed} is not a whole number from 0 to {SEEDS - 1}")
        if image.dtype != np.uint8:
            if image.dtype.kind != "f":
                raise InputError(f"picture of dtype {image.dtype} is neither uint8 nor float in [0, 1]")
            # Comparisons are false for NaN, so that it is refused too.
            if not (image.min() >= 0 and image.max() <= 1):
                raise InputError("picture of floats is not within [0, 1]", hint="divide by the largest value, or clip")
            image = image.astype(np.float32, copy=False)
        return np.ascontiguousarray(image if image.ndim == 4 else image[None])

    def _tile(self, shape: tuple[int, ...], tile: int | None, overlap: int | None) -> int | None:
        """Side of the tiles, or None for the whole picture at once."""
        count, height, width = shape[:3]
        if tile is None:
            side = tiling.tile_size(height, width, self.multiple, max(1, self._pixels // count))
            if side is not None:
                log.warning("%dx%d exceeds the memory for one pass: restoring in tiles of %d", height, width, side)
            return side
        if tile == 0:
            return None
        tiling.check_tiles(tile, tiling.default_overlap(tile) if overlap is None else overlap, self.multiple)
        return None if height <= tile and width <= tile else tile

    def _restore_tiles(
        self, pictures: NDArray[Any], out: NDArray[Any], seed: int, tile: int, overlap: int | None
    ) -> None:
        overlap = tiling.default_overlap(tile) if overlap is None else overlap
        tiling.check_tiles(tile, overlap, self.multiple)
        count, height, width, channels = pictures.shape
        total = np.zeros((count, height, width, channels), np.float32)
        weight = np.zeros((height, width, 1), np.float32)
        restored = None
        for rows, columns in tiling.tiles(height, width, tile, overlap):
            part = np.ascontiguousarray(pictures[:, rows, columns])
            restored = np.empty(part.shape, np.float32) if restored is None else restored
            self._chain(part.shape[:3]).restore_into(part, restored, seed, (rows.start, columns.start))
            blend = np.outer(
                tiling.blend_weights(height, rows, overlap), tiling.blend_weights(width, columns, overlap)
            )[:, :, None]
            total[:, rows, columns] += blend * restored
            weight[rows, columns] += blend
        for k in range(count):
            # A band at a time: a second picture of floats would not fit beside a very large one.
            for y in range(0, height, tile):
                band = total[k, y : y + tile] / weight[y : y + tile]
                out[k, y : y + tile] = np.rint(band * np.float32(255)) if out.dtype == np.uint8 else band

    def _chain(self, shape: tuple[int, ...]) -> Chain:
        key = (shape[0], shape[1], shape[2])
        if key in self._chains:
            self._chains.move_to_end(key)
            return self._chains[key]
        count, height, width = key
        # Room first: the sizes kept share the memory that one alone may take.
        while self._chains and (
            len(self._chains) >= CHAINS_KEPT or sum(map(math.prod, (*self._chains, key))) > self._pixels
        ):
            self._chains.popitem(last=False)
        padded = [-(-side // self.multiple) * self.multiple for side in (height, width)]
        network = self._network((count, 2 * self.channels, padded[0], padded[1]))
        chain = Chain(
            network, self._rows, self._start, self._clamp, (count, self.channels, height, width), self.threads
        )
        self._chains[key] = chain
        return chain

    def _network(self, shape: tuple[int, int, int, int]) -> backends.Network:
        """The plan's engine where it was compiled for this shape on such a machine, else compiled now."""
        manifest, backend = self.plan.manifest, self._backend
        engine_shape = (manifest["shape"][0], 2 * self.channels, *manifest["shape"][1:])
        made_for = (manifest["backend"], manifest["precision"], manifest["fingerprint"])
        here = (backend.name, self.precision, machine.fingerprint(backend.name, backend.version()))
        arguments = (self.plan.modulation, shape, self.precision, self.threads)
        if self.plan.engine is not None and shape == engine_shape and made_for == here:
            try:
                return backend.restore(self.plan.engine, *arguments)
            except BackendError as error:
                log.warning("the plan's engine does not load, compiling from its graph: %s", error)
        return backend.compile(self.plan.graph, *arguments)


def _choose(plan: Plan, asked: str | None) -> tuple[Backend, str]:
    """Backend and precision to run a plan with here; says so where they are not the plan's."""
    manifest = plan.manifest
    if asked is not None:
        backend = backends.get(asked)
        reason = backend.missing()
        if reason is not None:
            raise BackendError(f"backend {asked} cannot run here: {reason}")
    else:
        # The plan's own first, and only as far as needed: to ask a backend whether it can run loads its library.
        ordered = sorted(backends.BACKENDS.values(), key=lambda entry: entry.name != manifest["backend"])
        usable = next((entry for entry in ordered if entry.missing() is None), None)
        if usable is None:
            reasons = "; ".join(str(entry.missing()) for entry in ordered)
            raise BackendError(f"no backend can run here: {reasons}")
        backend = usable
    precision = manifest["precision"] if manifest["precision"] in backend.precisions() else "fp32"
    made_for = machine.fingerprint(manifest["backend"], backend.version())
    if precision != manifest["precision"] or (asked is None and backend.name != manifest["backend"]):
        log.warning(
            "plan is for %s %s, which this machine does not run: using %s %s",
            manifest["backend"], manifest["precision"], backend.name, precision,
        )  # fmt: skip
    elif asked is None and manifest["fingerprint"] != made_for:
        log.warning("plan was built on another machine or version: compiling from its graph")
    return backend, precision


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _default_memory() -> int:
    free = machine.free_memory()
    return MEMORY if free is None else max(1 << 20, min(MEMORY, free // 2))
