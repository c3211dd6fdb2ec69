"""Pictures that a caller gave, on their way to a worker and back: arrays, tensors, and results that are lent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from mrs.kernels.update import Pixels
from mrs.runtime import pictures_in
from mrs.runtime.device import Device
from mrs.runtime.enlarging import enlarged, enlarged_shape
from mrs.runtime.errors import DeviceMemoryError, InputError
from mrs.runtime.pictures_in import AnyArray
from mrs.runtime.pool import Pool
from mrs.runtime.request import Request
from mrs.runtime.tiling import Budget, restore_within
from mrs.runtime.tracing import timed
from mrs.runtime.worker import Size, Worker

if TYPE_CHECKING:
    from torch import Tensor


class Dispatch:
    """Gives each call's pictures to the worker that is its turn.

    Args:
        pool: of the workers.
        budget: how much a worker is given at once.
        channels: C of pictures.
        device: whose tensors are taken too; None on a CPU.
        upscale: by what pictures are enlarged first; all that comes after sees the large ones.
    """

    def __init__(
        self, pool: Pool[Worker], budget: Budget, channels: int, device: Device | None, upscale: int = 1
    ) -> None:
        self._pool, self.budget, self._channels, self._device = pool, budget, channels, device
        self._upscale = upscale

    def with_result(self, image: object) -> tuple[object, Pixels | Tensor]:
        """A picture as array or tensor, and a new one of its kind, and of its shape enlarged, for its result.

        Raises:
            InputError: for what is neither.
            BackendError: where a GPU has no memory for it.
        """
        tensor = pictures_in.tensor_of(image, self._device)
        if self._device is None or tensor is None:
            array = pictures_in.array_of(image)
            pictures_in.check_shape(array.shape, self._channels)
            made = enlarged_shape(array.shape, self._upscale)
            return array, np.empty(made, np.uint8 if array.dtype == np.uint8 else np.float32)
        pictures_in.check_shape(tuple(tensor.shape), self._channels)
        made = enlarged_shape(tuple(tensor.shape), self._upscale)
        with pictures_in.copying(made, self._device):
            return tensor, self._device.empty(made, "uint8" if pictures_in.dtype_of(tensor) == "uint8" else "float32")

    def restore_into(self, image: object, out: object, request: Request, bound: bool) -> None:
        """See `Restorer.restore_into`."""
        tensor, target = pictures_in.tensor_of(image, self._device), pictures_in.tensor_of(out, self._device)
        if (tensor is None) != (target is None):
            raise InputError(
                "image and out lie on different devices", hint="give two arrays, or two tensors of the GPU"
            )
        if self._device is not None and tensor is not None and target is not None:
            timed("restore", self._restore_tensor)(self._device, tensor, target, request, bound)
        elif bound:
            raise InputError("arrays of the host cannot be bound", hint="give tensors of the GPU, or bound=False")
        else:
            timed("restore", self._restore_array)(pictures_in.array_of(image), out, request)

    def lent(self, image: object, request: Request) -> AbstractContextManager[Pixels | Tensor]:
        """See `Restorer.lend`."""
        tensor = pictures_in.tensor_of(image, self._device)
        if self._device is not None and tensor is not None:
            return self._lent_tensor(self._device, tensor, request)
        array = pictures_in.array_of(image)
        given = pictures_in.dense_array(array, self._channels)
        pictures = self._large(given)
        # On a CPU a new array would be of the type of what is restored.
        out = np.empty(pictures.shape, given.dtype) if self._device is None and pictures.dtype != given.dtype else None

        @contextmanager
        def lent(worker: Worker) -> Iterator[Pixels]:
            with worker.at_work():
                dtypes = pictures_in.dtype_of(pictures), pictures_in.dtype_of(given)
                result = worker.chain(_size(pictures), dtypes).restore_into(
                    pictures, out, request.seed, before=request.between()
                )
                yield result if array.ndim == 4 else result[0]

        return self._pool.worker(request, lent)

    def _lent_tensor(self, device: Device, tensor: Tensor, request: Request) -> AbstractContextManager[Tensor]:
        given = pictures_in.dense_tensor(tensor, self._channels)
        pictures = self._large_tensor(device, given)
        batch = len(tensor.shape) == 4

        @contextmanager
        def lent(worker: Worker) -> Iterator[Tensor]:
            with worker.at_work():
                dtypes = pictures_in.dtype_of(pictures), pictures_in.dtype_of(given)
                chain = worker.tensor_chain(_size(pictures), dtypes)
                caller = device.current()
                result = chain.restore_tensor(pictures, None, request.seed, caller)
                try:
                    yield result if batch else result[0]
                finally:
                    chain.returned(caller)

        return self._pool.worker(request, lent)

    def _restore_array(self, image: AnyArray, out: object, request: Request) -> None:
        given = pictures_in.dense_array(image, self._channels)
        out = pictures_in.writeable(enlarged_shape(image.shape, self._upscale), out)
        pictures = self._large(given)
        # Dense arrays are written; a strided or unaligned one is filled from a dense copy.
        dense = out if pictures_in.can_be_written(out) else np.empty(out.shape, out.dtype)
        with self._pool.worker(request, Worker.at_work) as worker:
            restore_within(self.budget, worker, pictures, dense if dense.ndim == 4 else dense[None], request)
        if dense is not out:
            out[...] = dense

    def _restore_tensor(self, device: Device, image: Tensor, out: Tensor, request: Request, bound: bool) -> None:
        given = pictures_in.dense_tensor(image, self._channels)
        made = enlarged_shape(tuple(image.shape), self._upscale)
        pictures_in.check_tensor_out(made, out)
        target = (out if len(out.shape) == 4 else out[None]).detach()
        if bound and self._upscale > 1:
            raise InputError("a picture that is enlarged first cannot be bound", hint="leave out bound")
        if bound and not (target.is_contiguous() and given.data_ptr() == image.data_ptr()):
            raise InputError("only dense tensors of uint8 or float32 can be bound", hint="give such, or bound=False")
        if self.budget.tile(tuple(target.shape[:3]), request) is None:
            try:
                pictures = self._large_tensor(device, given)
                with self._pool.worker(request, Worker.at_work) as worker:
                    dtypes = pictures_in.dtype_of(pictures), pictures_in.dtype_of(target)
                    chain = worker.tensor_chain(_size(pictures), dtypes, (pictures, target) if bound else None)
                    chain.restore_tensor(pictures, target, request.seed, device.current())
                return
            except DeviceMemoryError:
                if bound or request.tile == 0 or self.budget.whole:
                    raise
        # Tiles are cut and blended on the host.
        array = np.empty(tuple(target.shape), pictures_in.dtype_of(target))
        with pictures_in.copying(given.shape, device):
            on_host = device.to_host(given)
        self._restore_array(on_host, array, request)
        with pictures_in.copying(array.shape, device):
            device.from_host(target, array)

    def _large(self, pictures: Pixels) -> Pixels:
        """What is restored instead of dense pictures: these, or float32 where they are enlarged."""
        return pictures if self._upscale == 1 else timed("enlarge", enlarged)(pictures, self._upscale)

    def _large_tensor(self, device: Device, pictures: Tensor) -> Tensor:
        """The same of tensors, on the caller's stream, which restores follow."""
        if self._upscale == 1:
            return pictures
        from mrs.runtime.cuda.enlarging import enlarged as enlarged_tensor

        with pictures_in.copying(enlarged_shape(tuple(pictures.shape), self._upscale), device):
            return enlarged_tensor(pictures, self._upscale)


def _size(pictures: Pixels | Tensor) -> Size:
    """(N, H, W) of (N, H, W, C)."""
    count, height, width, _ = pictures.shape
    return count, height, width
