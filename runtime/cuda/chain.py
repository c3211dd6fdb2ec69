"""One restore on a GPU: a list of launches on memory made once, captured as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mrs.kernels.gpu import key, records
from mrs.kernels.table import Table
from mrs.kernels.update import Pixels
from mrs.runtime.backends.protocol import F32
from mrs.runtime.cpu_chain import Condition
from mrs.runtime.cuda.alone import alone
from mrs.runtime.cuda.buffers import Buffers
from mrs.runtime.cuda.conditioner import CudaConditioner
from mrs.runtime.cuda.diagnosis import Diagnosis
from mrs.runtime.cuda.failures import translate_errors
from mrs.runtime.cuda.lists import Lists
from mrs.runtime.cuda.nodes import copy_of, nodes_of, told_of
from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import MrsError
from mrs.runtime.shared import Shared
from mrs.runtime.system.handlers import let_through
from mrs.runtime.tracing import timed

Origin = tuple[int, int]


class CudaChain:
    """A network and the sampler's buffers for one size of picture.

    Args:
        device: a `Cuda`.
        shared: the network, compiled for the padded size, whose buffers are written here, and what makes latents of
            pictures where it restores latents. Other chains may use the same, on the same stream: what they do there
            comes one after another. Without a stream it is a new one; an engine with a stream of its own brings it.
        table: the solver.
        shape: (N, C, H, W) of the pictures.
        dtypes: types of pictures and results, `uint8` or `float32`.
        graphs: capture, where the network can be captured (see `protocol.Network`); otherwise everything is launched
            one by one, with the same result.
        bound: tensors of the caller's, (N, H, W, C), that `restore_tensor` reads and writes without a copy; they live
            as long as this.
        condition: gives the context of pictures to a network that is told of the whole picture; a `CudaConditioner`
            does so on the device, as a part of the list.
        mirrors: whether the network's padding is the picture's reflection, not zeros.

    Attributes:
        shared: for further chains.
        stream: on which everything happens.
        unfinished: whether something was begun and neither ended nor failed with an error of ours: an interrupt came
            in between. Who finds it makes a new chain.

    Raises:
        CaptureError: where the restore cannot be captured; says why.
        DeviceMemoryError: where the device's memory does not suffice.
        BackendError: where the network fails.
    """

    def __init__(
        self,
        device: Device,
        shared: Shared,
        table: Table,
        shape: tuple[int, int, int, int],
        *,
        dtypes: tuple[str, str] = ("uint8", "uint8"),
        graphs: bool = True,
        bound: tuple[Tensor, Tensor] | None = None,
        condition: Condition | None = None,
        mirrors: bool = False,
    ) -> None:
        self.unfinished, self.condition = False, condition
        # What makes contexts on the device: then these are entries of the list.
        self._looker = condition if isinstance(condition, CudaConditioner) else None
        self.device, self.network, self.shape, self.dtypes = device, shared.network, shape, dtypes
        network, coder = shared.network, shared.coder
        self.steps, self.slots, self.threshold = len(table.rows), table.history, table.clamp == "threshold"
        # An engine with a stream of its own replays graphs of its own, which cannot be launched into a capture.
        own = getattr(network, "stream", None)
        self._bound = bound is not None
        # Restores of tensors since the last look at their status, and what an earlier look found.
        self._unchecked, self._late = False, None  # type: tuple[bool, MrsError | None]
        # Whatever mode of torch the caller is in, the buffers serve in all.
        with translate_errors(device, shape, "while its buffers are made"), torch.inference_mode(False):
            self.stream = own if own is not None else shared.stream if shared.stream is not None else device.stream()
            self.shared = replace(shared, stream=self.stream)
            # Tensors of the caller's may still be in the making.
            device.follow(self.stream, device.current())
            with device.on(self.stream):
                self.buffers = Buffers(
                    device, network, shape, dtypes,
                    steps=self.steps, slots=self.slots, threshold=self.threshold, bound=bound, mirrors=mirrors,
                )  # fmt: skip
                self.arrays = self.buffers.arrays
                device.copy(self.arrays.records, torch.from_numpy(records(table)))
                # What fails here is told here.
                device.wait(self.stream)
                told = list(told_of(device, network, self.arrays))
                make = partial(nodes_of, device) if coder is None else coder.nodes
                rest = make(network, self.arrays)
                looks = list(self._looker.nodes(self.arrays.source, network.context)) if self._looker else told
                self.nodes = [*looks, *rest]
                # Tables of what is made to fit.
                device.wait(self.stream)
        up, down, status = (
            copy_of(device, name, *self.buffers.copied(name)) for name in ("upload", "download", "status")
        )
        # Parts of a picture are told of the whole of it.
        lists = {"host": [up, *self.nodes, down], "part": [up, *told, *rest, down], "device": [*self.nodes, status]}
        self._lists = Lists(
            device, self.stream, shape, lists, self.arrays,
            graphs=graphs and own is None, bound=self._bound, looker=self._looker,
        )  # fmt: skip
        self._diagnosis = Diagnosis(device, self.stream, shape, self._lists, self.buffers, self.steps)
        self._lists.prepare("host" if bound is None else "device")

    def restore_into(
        self,
        picture: Pixels,
        out: Pixels | None,
        seed: int,
        origin: Origin = (0, 0),
        context: F32 | None = None,
        before: Callable[[], None] | None = None,
    ) -> Pixels:
        """Restore dense pictures (N, H, W, C) of the host into `out`, of the types that the chain was made for.

        Args:
            picture: the degraded pictures, uint8 or float32 in [0, 1].
            out: uint8 or float32, written; None to leave the result where it is.
            seed: of the noise.
            origin: (y, x) of these pictures in the whole pictures whose noise they share.
            context: of the whole pictures, (N, K), where these are parts of them; otherwise it is made of these.
            before: called once, before the launch; what it raises ends the restore there.

        Returns:
            `out`, or the chain's own array, which is valid until the next restore.

        Raises:
            BackendError: where the device fails, or the network gives infinities or NaN; names the step.
        """
        how = "host" if context is None or self._looker is None else "part"
        with self._begun(how):
            self._settle()
            if how not in self._lists:
                self._lists.prepare(how)
            if before is not None:
                before()
            # Nothing else writes these: the stream has done all that it was given.
            self.buffers.key[...] = key(seed, origin=origin)
            self.buffers.picture[...] = picture
            if context is not None:
                self.buffers.context[...] = context
            elif self.condition is not None and self._looker is None:
                self.buffers.context[...] = timed("conditioner", self.condition)(picture)
            timed("graph" if self.captured else "launches", self._lists.run_and_wait)(how)
            self._diagnosis.check_status(how)
            if out is not None:
                out[...] = self.buffers.result
        return self.buffers.result if out is None else out

    def restore_tensor(
        self, picture: Tensor, out: Tensor | None, seed: int, caller: Stream, origin: Origin = (0, 0)
    ) -> Tensor:
        """Restore dense pictures (N, H, W, C) of the device; the host waits for nothing.

        But where the host makes the context of a network that is told of the whole picture: the picture is copied
        there then, and the host waits for what `caller` was given before.

        Args:
            picture: the degraded pictures; floats are not looked at, and must be within [0, 1].
            out: written after what `caller` was given before, and complete for what it is given afterwards; None to
                leave the result where it is.
            seed: of the noise.
            caller: the caller's stream.
            origin: (y, x) of these pictures in the whole pictures whose noise they share.

        Returns:
            `out`, or the chain's own array, which is valid until the next restore.

        Raises:
            BackendError: where the device refuses. Later failures, and results that are not finite, `check` tells.
        """
        words = torch.from_numpy(key(seed, origin=origin))
        target = self.arrays.result if out is None else out
        with self._begun("device"):
            if "device" not in self._lists:
                self._lists.prepare("device")
            context = None
            if self.condition is not None and self._looker is None:
                with self.device.on(caller):
                    context = torch.from_numpy(self.condition(self.device.to_host(picture)))
            self._unchecked = True
            self.device.follow(self.stream, caller)
            with self._lists.working():
                self.device.copy(self.arrays.key, words)
                if context is not None and self.arrays.context is not None:
                    self.device.copy(self.arrays.context, context)
                if not self._bound:
                    self.device.copy(self.arrays.source, picture)
                self._lists.run("device")
                if out is not None and not self._bound:
                    self.device.copy(target, self.arrays.result)
            self.device.follow(caller, self.stream)
            for tensor in (picture, target):
                self.device.keep(tensor, self.stream)
        return target

    def returned(self, caller: Stream) -> None:
        """Take back what `restore_tensor` left in the chain's own array: `caller` was given its last use."""
        self.device.follow(self.stream, caller)

    def check(self) -> None:
        """Wait until all is done, and complain about what went wrong since the last time.

        Raises:
            BackendError: where the device failed, or the network gave infinities or NaN; names the step.
        """
        with self._begun("device"):
            self._settle()
        if self._late is not None:
            error, self._late = self._late, None
            raise error

    def warm_up(self, tensors: bool) -> None:
        """Prepare for pictures of the device too."""
        if tensors and "device" not in self._lists:
            with self._begun("device"):
                self._lists.prepare("device")

    def evaluate_all(self) -> None:
        """The network's part of a restore alone, on whatever its input holds, as one graph too; to be timed."""
        with self._begun("network"):
            if "network" not in self._lists:
                self._lists.add("network", [node for node in self.nodes if node.name == "network"])
                self._lists.prepare("network")
            with translate_errors(self.device, self.shape, "in the network"):
                self._lists.run_and_wait("network")

    @property
    def captured(self) -> bool:
        """Whether restores are launches of a graph."""
        return self._lists.captured

    def close(self) -> None:
        """Wait until all is done, and let go of graphs and memory."""
        # A graph that is destroyed ends captures of other threads: those of ONNX Runtime, and all by its memory.
        with alone(), self.device.apart():
            # What failed was told, or nobody asks any more.
            try:
                self.device.wait(self.stream)
            except self.device.Failure as error:
                let_through(error)
            self._lists.clear()

    @contextmanager
    def _begun(self, how: str) -> Iterator[None]:
        """Mark what is begun inside as unfinished, until it ends, or fails with an error of ours.

        Args:
            how: the list that is carried out.
        """
        before, self.unfinished = self.unfinished, True
        # Other threads may capture meanwhile.
        with self.device.apart():
            try:
                yield
            except MrsError:
                self.unfinished = before
                raise
            except self.device.Failure as error:
                raise self._diagnosis.failure(how, error) from error
        self.unfinished = before

    def _settle(self) -> None:
        """Wait for restores of tensors, and put aside what went wrong in them: they are no fault of the next one's."""
        if not self._unchecked:
            return
        try:
            try:
                self.device.wait(self.stream)
            except self.device.Failure as error:
                raise self._diagnosis.failure("device", error) from error
            self._diagnosis.check_status("device")
        except MrsError as error:
            self._late = self._late or error
        self._unchecked = False
