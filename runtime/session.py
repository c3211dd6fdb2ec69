"""A loaded plan that restores pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrs.kernels.noise import SEEDS
from mrs.runtime import backends, tiling
from mrs.runtime.backends import Backend, mixed
from mrs.runtime.chain import device_of
from mrs.runtime.errors import BackendError, DeviceMemoryError, InputError
from mrs.runtime.network_cache import NetworkCache
from mrs.runtime.networks import Networks
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.pool import Cancellation, Pool, Request
from mrs.runtime.system import machine
from mrs.runtime.worker import Worker

log = logging.getLogger("mrs")

# Memory for the network's activations; larger pictures are cut into tiles. Half of what is free counts where less is.
MEMORY = 2 << 30
# Calls that may wait for a worker.
QUEUE = 64


def load(
    path: str | Path,
    *,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    memory: int | None = None,
    workers: int = 1,
    queue: int = QUEUE,
    graphs: bool = True,
    engine: bool = True,
    cache: bool = True,
) -> Restorer:
    """Load a plan.

    Args:
        path: the plan file.
        backend: run on this backend instead of the plan's own.
        precision: run at this precision instead of the plan's own, `fp32` for example where rounding gave NaN.
        threads: most threads to use on a CPU; all processors of this process by default.
        memory: bytes for the network's activations, above which pictures are cut into tiles; by default 2 GiB, on a
            GPU as many as are free, or half of the free memory where that is less.
        workers: how many restores may run at a time; each has its own network, on a GPU its own stream and graphs.
            They share threads and memory.
        queue: how many calls may wait for a worker.
        graphs: on a GPU, capture each restore as one CUDA graph; otherwise launch by launch, with the same result.
        engine: use the plan's compiled engines, which are native code; otherwise compile from its graph, which is
            checked. For plans from strangers.
        cache: keep networks that are compiled for further sizes on disk, for the next process (docs/runtime.md).

    Raises:
        PlanError: for a file that is no plan, or is damaged.
        BackendError: where no backend can run here.
        CaptureError: where a restore cannot be captured.
        InputError: for an unknown backend or precision, or numbers out of range.
    """
    return Restorer(
        read_plan(path), backend=backend, precision=precision, threads=threads, memory=memory, workers=workers,
        queue=queue, graphs=graphs, engine=engine, cache=cache,
    )  # fmt: skip


class Choice(NamedTuple):
    """What a plan runs on: its backend, a precision, and whether that was asked for by name."""

    backend: Backend
    precision: str
    settled: bool


class Restorer:
    """Restores pictures with a plan; a context manager.

    Threads may share it: as many restores run at a time as there are workers, the other calls wait in the order in
    which they came. `backend` and `precision` say what is really used, which may differ from the plan on another
    machine.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        backend: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        memory: int | None = None,
        workers: int = 1,
        queue: int = QUEUE,
        graphs: bool = True,
        engine: bool = True,
        cache: bool = True,
        choice: Choice | None = None,
        device: Any = None,
    ) -> None:
        for name, number, least in (("threads", threads, 1), ("memory", memory, 1), ("workers", workers, 1),
                                    ("queue", queue, 0)):  # fmt: skip
            if number is None and name in ("threads", "memory"):
                continue
            if number is None or not _is_whole(number) or number < least:
                raise InputError(f"{name} {number} is not a whole number of at least {least}")
        self.plan = plan
        for line in plan.warnings:
            log.warning("its build says: %s", line)
        self.threads = threads or machine.threads()
        self.workers = workers
        network = plan.manifest["network"]
        self.multiple: int = network["multiple"]
        self.channels: int = network["channels"]
        chosen = choice or choose(plan, backend, precision)
        self._backend = chosen.backend
        self._device = device or device_of(self._backend)
        self._check_no_capture()
        self._pixels = max(1, (memory or default_memory(self._device)) // int(network["bytes_per_pixel"]) // workers)
        self._networks = Networks(
            plan, chosen.backend, chosen.precision, max(1, self.threads // workers), settled=chosen.settled,
            engine=engine, cache=NetworkCache() if cache else None,
        )  # fmt: skip
        self._workers = [Worker(self._networks, self._pixels, self._device, graphs) for _ in range(workers)]
        self._pool = Pool(self._workers, queue, Worker.forget)
        if self._device is not None:
            self._capture_ahead(tuple(plan.manifest["shape"]))

    def _capture_ahead(self, size: tuple[int, int, int]) -> None:
        """What cannot be captured is told now, not at the first picture."""
        while True:
            try:
                for worker in self._workers:
                    worker.chain(size, ("uint8", "uint8"))
                return
            except DeviceMemoryError as error:
                side = self._smaller(size, error)
                size = (size[0], side, side)

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self._backend.device

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    @property
    def precision(self) -> str:
        """In use; float32 from when another turns out not to run here."""
        return self._networks.precision

    def restore(
        self,
        image: Any,
        seed: int = 0,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> Any:
        """Restore a picture, or a batch of equal size.

        Args:
            image: (H, W, C) or (N, H, W, C), uint8, or float in [0, 1]; any size. An array of NumPy, or on a GPU a
                tensor there, of torch or any other library that speaks DLPack.
            seed: of the noise, 0 to 2^32 - 1; the same seed gives the same noise, whatever the tiles. A picture's
                number in its batch counts too: pictures of one batch draw different noise.
            tile: cut into tiles of this side, a multiple of the network's; 0 never cuts; by default memory decides.
                Tiling changes the result a little, because the network looks at averages over what it sees.
            overlap: pixels shared by neighbouring tiles, blended; by default an eighth of the tile, at most 64.
            timeout: seconds to wait for a worker.
            cancellation: may end the call until its restore is launched.

        Returns:
            A new array of the same shape; uint8 for uint8, float32 for float. For a tensor a new tensor of torch,
            complete for whatever the caller's current stream is given next; the host does not wait for it.

        Raises:
            InputError: for another shape or dtype, values outside [0, 1], or tiles that cannot be.
            BackendError: where the engine fails.
            BusyError, DeadlineError, CancelledError: where the restore was not launched.
        """
        self._check_no_capture()
        tensor = self._tensor(image)
        if tensor is not None:
            given = tensor
            self._check_shape(tuple(tensor.shape))
            with self._told(tensor.shape):
                out = self._device.empty(tensor.shape, "uint8" if _kind(tensor) == "uint8" else "float32")
        else:
            given = _array(image)
            out = np.empty(given.shape, np.uint8 if given.dtype == np.uint8 else np.float32)
        self.restore_into(given, out, seed, tile=tile, overlap=overlap, timeout=timeout, cancellation=cancellation)
        return out

    def restore_into(
        self,
        image: Any,
        out: Any,
        seed: int = 0,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
        bound: bool = False,
    ) -> None:
        """`restore` into an array of the caller's, of the same shape, uint8 or float32; both arrays or both tensors.

        Nothing is allocated for a dense uint8 or float32 picture of a size seen before that is not tiled. `image` and
        `out` may be the same array.

        Args:
            image, seed, tile, overlap, timeout, cancellation: as in `restore`.
            out: written.
            bound: for tensors, read and write these very two without a copy: their addresses are captured, once, and
                kept as sizes are. For a product that restores from the same memory again and again.
        """
        self._check_no_capture()
        tensor, target = self._tensor(image), self._tensor(out)
        if (tensor is None) != (target is None):
            raise InputError(
                "image and out lie on different devices", hint="give two arrays, or two tensors of the GPU"
            )
        request = Request(timeout, cancellation)
        if tensor is not None:
            self._restore_tensor(tensor, target, seed, tile, overlap, request, bound)
            return
        if bound:
            raise InputError("arrays of the host cannot be bound", hint="give tensors of the GPU, or bound=False")
        self._restore_array(_array(image), out, seed, tile, overlap, request)

    def lend(
        self,
        image: Any,
        seed: int = 0,
        *,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> AbstractContextManager[Any]:
        """`restore`, with the result where the runtime has it, not in a copy; never in tiles.

        It is valid inside the `with` alone: the worker is kept that long, and the next restore writes there again.
        What the caller's stream was given inside is waited for.
        """
        self._check_no_capture()
        tensor = self._tensor(image)
        given = _array(image) if tensor is None else tensor
        pictures = self._check(given) if tensor is None else self._check_tensor(given)
        batch = len(given.shape) == 4
        self._check_seed(seed)

        @contextmanager
        def lent(worker: Worker) -> Iterator[Any]:
            with _dropping(worker):
                kind = _kind(pictures)
                chain = worker.chain(tuple(pictures.shape[:3]), (kind, kind))
                if tensor is not None:
                    caller = self._device.current()
                    result = chain.restore_tensor(pictures, None, int(seed), caller)
                else:
                    result = chain.restore_into(pictures, None, int(seed))
                try:
                    yield result if batch else result[0]
                finally:
                    if tensor is not None:
                        chain.returned(caller)

        return self._pool.worker(Request(timeout, cancellation), lent)

    def chain(
        self, size: tuple[int, int, int], kinds: tuple[str, str] = ("uint8", "uint8")
    ) -> AbstractContextManager[Any]:
        """What restores pictures of a size (N, H, W), for measurements; kept from other calls inside the `with`."""

        @contextmanager
        def kept(worker: Worker) -> Iterator[Any]:
            with _dropping(worker):
                yield worker.chain(size, kinds)

        return self._pool.worker(Request(), kept)

    def synchronize(self) -> None:
        """Wait for all restores of tensors, and complain about what went wrong since the last time.

        Raises:
            BackendError: where the GPU failed, or a result was not finite; names the step.
        """
        self._check_no_capture()
        errors: list[BackendError] = []
        with self._pool.every_worker() as workers:
            for worker in workers:
                try:
                    with _dropping(worker):
                        worker.check()
                except BackendError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def warm_up(self, height: int, width: int, batch: int = 1, *, dtype: str = "uint8", tensors: bool = False) -> None:
        """Compile, and on a GPU capture, for one size ahead of the first picture; on every worker.

        Args:
            height, width, batch: of the pictures.
            dtype: of pictures and results, `uint8` or `float32`.
            tensors: whether the pictures will be tensors of the GPU.

        Raises:
            InputError: for a size or a type that no picture has.
            BackendError: where it cannot be done.
        """
        whole = all(_is_whole(side) and side > 0 for side in (height, width, batch))
        if not whole or dtype not in ("uint8", "float32"):
            raise InputError(f"cannot warm up for {batch} x {height}x{width} of {dtype}")
        self._check_no_capture()
        with self._pool.every_worker() as workers:
            for worker in workers:
                with _dropping(worker):
                    worker.chain((batch, height, width), (dtype, dtype)).warm_up(tensors)

    def close(self) -> None:
        """Release engines and buffers, when the restores that run have ended; may be called again."""
        for worker in self._pool.close():
            worker.clear()

    def __enter__(self) -> Restorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _restore_array(
        self,
        image: NDArray[Any],
        out: NDArray[Any],
        seed: int,
        tile: int | None,
        overlap: int | None,
        request: Request,
    ) -> None:
        pictures = self._check(image)
        _check_out(image, out)
        self._check_seed(seed)
        if not out.flags.c_contiguous:
            # Dense arrays are written; a strided one is filled from a dense copy.
            dense = np.empty(out.shape, out.dtype)
            self._restore_array(image, dense, seed, tile, overlap, request)
            out[...] = dense
            return
        target = out if out.ndim == 4 else out[None]
        with self._pool.worker(request) as worker, _dropping(worker):
            side = self._tile(pictures.shape, tile, overlap)
            if side is None:
                try:
                    chain = worker.chain(tuple(pictures.shape[:3]), (_kind(pictures), _kind(target)))
                    chain.restore_into(pictures, target, int(seed))
                    return
                except DeviceMemoryError as error:
                    if tile == 0:
                        raise
                    side = self._smaller(pictures.shape[:3], error)
            while side is not None:
                try:
                    self._restore_tiles(worker, pictures, target, int(seed), side, overlap, request)
                    return
                except DeviceMemoryError as error:
                    if tile is not None:
                        raise
                    side = self._smaller((len(pictures), side, side), error)

    def _restore_tensor(
        self,
        image: Any,
        out: Any,
        seed: int,
        tile: int | None,
        overlap: int | None,
        request: Request,
        bound: bool,
    ) -> None:
        pictures = self._check_tensor(image)
        self._check_seed(seed)
        if out.shape != image.shape or _kind(out) not in ("uint8", "float32"):
            raise InputError(
                f"out is {_kind(out)}{tuple(out.shape)}", hint=f"give uint8 or float32 {tuple(image.shape)}"
            )
        target = (out if len(out.shape) == 4 else out[None]).detach()
        if bound and not (target.is_contiguous() and pictures.data_ptr() == image.data_ptr()):
            raise InputError("only dense tensors of uint8 or float32 can be bound", hint="give such, or bound=False")
        if self._tile(pictures.shape, tile, overlap) is None:
            try:
                with self._pool.worker(request) as worker, _dropping(worker):
                    kinds = (_kind(pictures), _kind(target))
                    chain = worker.chain(tuple(pictures.shape[:3]), kinds, (pictures, target) if bound else None)
                    chain.restore_tensor(pictures, target, int(seed), self._device.current())
                return
            except DeviceMemoryError:
                if bound or tile == 0:
                    raise
        # Tiles are cut and blended on the host.
        array = np.empty(tuple(target.shape), _kind(target))
        with self._told(pictures.shape):
            pictures = self._device.to_host(pictures)
        self._restore_array(pictures, array, seed, tile, overlap, request)
        with self._told(array.shape):
            self._device.from_host(target, array)

    def _check_no_capture(self) -> None:
        """Refuse a caller who captures a CUDA graph himself: a restore waits for the GPU, and replays a graph."""
        if self._device is not None and self._device.is_capturing():
            raise InputError(
                "a restorer was called while the caller's stream captures a CUDA graph",
                hint="restore before or after the capture; a restore is a graph of its own",
            )

    @contextmanager
    def _told(self, shape: tuple[int, ...]) -> Iterator[None]:
        """Errors of the GPU as ours, for pictures of a shape (N, H, W, C) or (H, W, C); whatever others capture."""
        from mrs.runtime.cuda.failures import told

        count, height, width, channels = (1, *shape)[-4:]
        with told(self._device, (count, channels, height, width), "while a picture was copied"), self._device.apart():
            yield

    def _tensor(self, image: Any) -> Any:
        """A picture as a tensor on the GPU that restores; None for all others."""
        return None if self._device is None or isinstance(image, np.ndarray) else self._device.tensor(image)

    def _check_tensor(self, image: Any) -> Any:
        """The picture as dense (N, H, W, C) uint8 or float32; a view where it is that already."""
        self._check_shape(tuple(image.shape))
        if _kind(image) != "uint8":
            if not image.is_floating_point():
                raise InputError(f"picture of dtype {_kind(image)} is neither uint8 nor float in [0, 1]")
            image = image.float()
        # A picture that is trained through would drag all of its history along.
        return (image if len(image.shape) == 4 else image[None]).contiguous().detach()

    def _check(self, image: NDArray[Any]) -> NDArray[Any]:
        """The picture as dense (N, H, W, C) uint8 or float32; a view where it is that already."""
        self._check_shape(image.shape)
        if image.dtype != np.uint8:
            if image.dtype.kind != "f":
                raise InputError(f"picture of dtype {image.dtype} is neither uint8 nor float in [0, 1]")
            # Comparisons are false for NaN, so that it is refused too.
            if not (image.min() >= 0 and image.max() <= 1):
                raise InputError("picture of floats is not within [0, 1]", hint="divide by the largest value, or clip")
            image = image.astype(np.float32, copy=False)
        return np.ascontiguousarray(image if image.ndim == 4 else image[None])

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) not in (3, 4) or shape[-1] != self.channels or 0 in shape:
            raise InputError(f"picture of shape {shape} is not (H, W, {self.channels}) or (N, H, W, {self.channels})")

    @staticmethod
    def _check_seed(seed: int) -> None:
        if not _is_whole(seed) or not 0 <= seed < SEEDS:
            raise InputError(f"seed {seed} is not a whole number from 0 to {SEEDS - 1}")

    def _smaller(self, size: tuple[int, ...], error: DeviceMemoryError) -> int:
        """Side of tiles of a quarter of what did not fit, (N, H, W); from now on no more is tried at once.

        Raises:
            DeviceMemoryError: where nothing smaller is left.
        """
        side = min(size[1:]) // 2 // self.multiple * self.multiple
        if side == 0:
            raise error
        self._pixels = min(self._pixels, size[0] * side * side)
        log.warning("%s: restoring in tiles of %d", error.message, side)
        return side

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
        self,
        worker: Worker,
        pictures: NDArray[Any],
        out: NDArray[Any],
        seed: int,
        tile: int,
        overlap: int | None,
        request: Request,
    ) -> None:
        overlap = tiling.default_overlap(tile) if overlap is None else overlap
        tiling.check_tiles(tile, overlap, self.multiple)
        count, height, width, channels = pictures.shape
        total = np.zeros((count, height, width, channels), np.float32)
        weight = np.zeros((height, width, 1), np.float32)
        restored = None
        # Every tile is told of the whole picture.
        context = None if worker.condition is None else worker.condition(pictures)
        for rows, columns in tiling.tiles(height, width, tile, overlap):
            part = np.ascontiguousarray(pictures[:, rows, columns])
            restored = np.empty(part.shape, np.float32) if restored is None else restored
            request.check()
            chain = worker.chain(part.shape[:3], (_kind(part), "float32"))
            chain.restore_into(part, restored, seed, (rows.start, columns.start), context)
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


@contextmanager
def _dropping(worker: Worker) -> Iterator[None]:
    """Let a worker forget what an error may have spoilt."""
    try:
        yield
    except BackendError as error:
        worker.failed(error)
        raise


def choose(plan: Plan, asked: str | None, asked_precision: str | None = None) -> Choice:
    """Backend and precision to run a plan with here; says so where they are not the plan's.

    Raises:
        InputError: for a backend that is unknown, or a precision that it does not run.
        BackendError: where nothing can run here.
    """
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
    if asked_precision is not None:
        if not mixed.runs(backend, asked_precision):
            known = ", ".join(backend.precisions())
            raise InputError(f"{backend.name} runs no {asked_precision!r} here", hint=f"use one of {known}")
        return Choice(backend, asked_precision, settled=True)
    precision = manifest["precision"] if mixed.runs(backend, manifest["precision"]) else "fp32"
    made_for = machine.fingerprint(manifest["backend"], backend.version(), backend.device)
    if precision != manifest["precision"] or (asked is None and backend.name != manifest["backend"]):
        log.warning(
            "plan is for %s %s, which this machine does not run: using %s %s",
            manifest["backend"], manifest["precision"], backend.name, precision,
        )  # fmt: skip
    elif asked is None and not machine.serves(manifest["fingerprint"], made_for):
        log.warning("plan was built on another machine or version: compiling from its graph")
    return Choice(backend, precision, settled=False)


def _array(image: Any) -> NDArray[Any]:
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        # Such as a tensor on a GPU for a plan that runs on the CPU.
        reason = " ".join(str(error).split())
        raise InputError(f"picture of type {type(image).__name__} is no array here: {reason}") from None


def _check_out(image: NDArray[Any], out: NDArray[Any]) -> None:
    if not isinstance(out, np.ndarray):
        raise InputError(f"out is a {type(out).__name__}", hint="give an array of NumPy")
    if out.shape != image.shape or out.dtype not in (np.uint8, np.float32) or not out.flags.writeable:
        raise InputError(f"out is {out.dtype}{out.shape}", hint=f"give writeable uint8 or float32 {image.shape}")


def _kind(image: Any) -> str:
    """Name of an element's type, as NumPy has it."""
    return str(image.dtype).removeprefix("torch.")


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def default_memory(device: Any) -> int:
    """Bytes for the network's activations where nobody gave any; `device` is a `Cuda`, or None for the CPU."""
    if device is not None:
        return max(1 << 20, int(device.free_memory()) // 2)
    free = machine.free_memory()
    return MEMORY if free is None else max(1 << 20, min(MEMORY, free // 2))
