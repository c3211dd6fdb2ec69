"""A loaded plan that restores pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from mrs.runtime.chain import Chain, device_of
from mrs.runtime.device import Device
from mrs.runtime.dispatch import Dispatch
from mrs.runtime.errors import BackendError, InputError
from mrs.runtime.networks import Networks, cache_of
from mrs.runtime.pictures_in import check_no_capture
from mrs.runtime.placement import Choice, choose, default_memory, pace_of, pixels_that_fit
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.pool import Pool
from mrs.runtime.request import Cancellation, Request
from mrs.runtime.system import machine
from mrs.runtime.tiling import Budget, capture_ahead
from mrs.runtime.whole_numbers import check_whole, is_whole, shown
from mrs.runtime.worker import Worker

log = logging.getLogger("mrs")

# Calls that may wait for a worker.
QUEUE = 64
# Each has a network and buffers of its own; more than any machine has use for.
MOST_WORKERS = 1024


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
            They share threads and memory. At most 1024.
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


class Restorer:
    """Restores pictures with a plan; a context manager.

    Threads may share it: as many restores run at a time as there are workers, the other calls wait in the order in
    which they came. `backend` and `precision` say what is really used, which may differ from the plan on another
    machine.

    Attributes:
        upscale: by what pictures are enlarged, bicubically, before they are restored: results are so many times as
            high and as wide. Tiles, memory and the sizes of `chain` are those of the large pictures.
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
        device: Device | None = None,
    ) -> None:
        if threads is not None:
            check_whole("threads", threads, 1)
        if memory is not None:
            check_whole("memory", memory, 1)
        check_whole("workers", workers, 1)
        check_whole("workers", workers, 1, MOST_WORKERS, hint="a few suffice: they share processors and memory")
        check_whole("queue", queue, 0)
        self.plan = plan
        for line in plan.facts.warnings:
            log.warning("its build says: %s", line)
        self.threads = threads or machine.threads()
        self.workers = workers
        self.multiple, self.channels = plan.facts.pictures.multiple, plan.facts.pictures.channels
        self.upscale = plan.facts.upscale
        chosen = choice or choose(plan, backend, precision)
        self._backend = chosen.backend
        self._device = device or device_of(self._backend)
        check_no_capture(self._device)
        memory = memory or default_memory(self._device)
        pixels = pixels_that_fit(plan, chosen, memory, workers)
        budget = Budget(pixels, self.multiple, plan.facts.latent is not None, pace_of(plan, chosen))
        self._networks = Networks(
            plan, chosen.backend, chosen.precision, max(1, self.threads // workers), settled=chosen.settled,
            engine=engine, cache=cache_of(plan) if cache else None,
        )  # fmt: skip
        self._workers = [Worker(self._networks, budget.pixels, self._device, graphs) for _ in range(workers)]
        self._pool = Pool(self._workers, queue, Worker.forget)
        self._dispatch = Dispatch(self._pool, budget, self.channels, self._device, self.upscale)
        if self._device is not None:
            capture_ahead(self._workers, plan.facts.picture_shape, budget, self._dtypes("uint8"))

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
        image: object,
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
            tile: cut into tiles of this side, a multiple of the network's; 0 never cuts; by default memory decides,
                and on a CPU what the plan's build measured of large pictures.
                Tiling changes the result a little, because the network looks at averages over what it sees.
            overlap: pixels shared by neighbouring tiles, blended; by default an eighth of the tile, at most 64.
            timeout: seconds to wait for a worker.
            cancellation: may end the call while it waits, between tiles, and on a CPU between evaluations.

        Returns:
            A new array of the same shape, with sides `upscale` times as long; uint8 for uint8, float32 for float. For
            a tensor a new tensor of torch, complete for whatever the caller's current stream is given next; the host
            does not wait for it.

        Raises:
            InputError: for another shape or dtype, values outside [0, 1], or tiles that cannot be.
            BackendError: where the engine fails.
            BusyError, DeadlineError: where the restore was not launched.
            CancelledError: where it was cancelled.
        """
        check_no_capture(self._device)
        image, out = self._dispatch.with_result(image)
        self.restore_into(image, out, seed, tile=tile, overlap=overlap, timeout=timeout, cancellation=cancellation)
        return out

    def restore_into(
        self,
        image: object,
        out: object,
        seed: int = 0,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
        bound: bool = False,
    ) -> None:
        """`restore` into an array of the caller's, of the result's shape, uint8 or float32; two arrays or two tensors.

        Nothing is allocated for a dense uint8 or float32 picture of a size seen before that is neither tiled nor
        enlarged. `image` and `out` may be the same array.

        Args:
            image, seed, tile, overlap, timeout, cancellation: as in `restore`.
            out: written.
            bound: for tensors, read and write these very two without a copy: their addresses are captured, once, and
                kept as sizes are. For a product that restores from the same memory again and again. Not where pictures
                are enlarged first.
        """
        check_no_capture(self._device)
        request = Request(timeout, cancellation, seed=seed, tile=tile, overlap=overlap)
        self._dispatch.restore_into(image, out, request, bound)

    def lend(
        self,
        image: object,
        seed: int = 0,
        *,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> AbstractContextManager[Any]:
        """`restore`, with the result where the runtime has it, not in a copy; never in tiles.

        It is valid inside the `with` alone: the worker is kept that long, and the next restore writes there again.
        What the caller's stream was given inside is waited for.
        """
        check_no_capture(self._device)
        return self._dispatch.lent(image, Request(timeout, cancellation, seed=seed))

    def tile_of(self, height: int, width: int, batch: int = 1) -> int | None:
        """Side of the tiles into which memory or speed cut pictures of a size, that of the large pictures where they
        are enlarged; None where they are restored whole."""
        return self._dispatch.budget.tile((batch, height, width), Request())

    def chain(
        self, size: tuple[int, int, int], dtypes: tuple[str, str] = ("uint8", "uint8")
    ) -> AbstractContextManager[Chain]:
        """What restores pictures of a size (N, H, W), for measurements; kept from other calls inside the `with`."""

        @contextmanager
        def kept(worker: Worker) -> Iterator[Chain]:
            with worker.at_work():
                yield worker.chain(size, dtypes)

        return self._pool.worker(Request(), kept)

    def synchronize(self) -> None:
        """Wait for all restores of tensors, and complain about what went wrong since the last time.

        Raises:
            BackendError: where the GPU failed, or a result was not finite; names the step.
        """
        check_no_capture(self._device)
        errors: list[BackendError] = []
        with self._pool.every_worker() as workers:
            for worker in workers:
                try:
                    with worker.at_work():
                        worker.check()
                except BackendError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def warm_up(self, height: int, width: int, batch: int = 1, *, dtype: str = "uint8", tensors: bool = False) -> None:
        """Compile, and on a GPU capture, for one size ahead of the first picture; on every worker.

        Where pictures of this size are cut into tiles, that is for its tiles.

        Args:
            height, width, batch: of the pictures, as `restore` takes them.
            dtype: of pictures and results, `uint8` or `float32`.
            tensors: whether the pictures will be tensors of the GPU.

        Raises:
            InputError: for a size or a type that no picture has, and a batch or a latent that exceeds the memory.
            BackendError: where it cannot be done.
        """
        whole = all(is_whole(side, 1) for side in (height, width, batch))
        if not whole or dtype not in ("uint8", "float32"):
            raise InputError(
                f"cannot warm up for {shown(batch)} x {shown(height)}x{shown(width)} of {shown(dtype)}",
                hint="give whole numbers from 1 on, and uint8 or float32",
            )
        check_no_capture(self._device)
        size, dtypes = (batch, self.upscale * height, self.upscale * width), self._dtypes(dtype)
        tile = self._dispatch.budget.warm_tile(size)
        if tile is not None:
            # As they are cut: from the host, blended as floats.
            size, dtypes, tensors = (batch, min(tile, size[1]), min(tile, size[2])), (dtypes[0], "float32"), False
        with self._pool.every_worker() as workers:
            for worker in workers:
                with worker.at_work():
                    worker.chain(size, dtypes).warm_up(tensors)

    def _dtypes(self, dtype: str) -> tuple[str, str]:
        """Of what is restored and of its result, for pictures of a type: what was enlarged is floats."""
        return dtype if self.upscale == 1 else "float32", dtype

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
