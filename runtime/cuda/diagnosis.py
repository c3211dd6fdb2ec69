"""Where a restore went wrong: found out by another run, node by node."""

from __future__ import annotations

from collections.abc import Sequence

from mrs.runtime.cuda.buffers import Buffers
from mrs.runtime.cuda.failures import failure_of, out_of_memory
from mrs.runtime.cuda.lists import Lists, carry_out
from mrs.runtime.cuda.nodes import Node, audit_of, copy_of
from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import BackendError, MrsError
from mrs.runtime.system.handlers import let_through
from mrs.runtime.system.libraries import first_line


class Diagnosis:
    """Of one chain.

    Args:
        device: a `Cuda`.
        stream: on which the chain works.
        shape: (N, C, H, W) of the pictures.
        lists: what it carries out.
        buffers: of which the host reads the status.
        steps: rows of the table.
    """

    def __init__(
        self, device: Device, stream: Stream, shape: Sequence[int], lists: Lists, buffers: Buffers, steps: int
    ) -> None:
        self._device, self._stream, self._shape = device, stream, shape
        self._lists, self._buffers, self._steps = lists, buffers, steps

    def check_status(self, how: str) -> None:
        """Complain about what the list `how`, which is done, gave, where that was not finite.

        Raises:
            BackendError: names the step of the network, or encoder or decoder of latents.
        """
        if not self._buffers.status[0]:
            return
        raise BackendError(
            self._what_is_bad(how),
            hint='load the plan with precision="fp32", or check its weights',
        )

    def failure(self, how: str, error: Exception) -> MrsError:
        """What to raise for an error of the device: where it happened, as far as that can be found out."""
        let_through(error)
        if isinstance(error, self._device.OutOfMemory):
            return out_of_memory(self._shape, error)
        return failure_of(self._device, self._stream, self._lists[how], self._lists.working, error)

    def _what_is_bad(self, how: str) -> str:
        """Restore once more, and look at what each network gives after each evaluation."""
        found = "the network gave infinities or NaN"
        arrays = self._buffers.arrays
        if arrays.source.data_ptr() == arrays.result.data_ptr():
            # The picture is no longer there.
            self._clear_status()
            return found
        try:
            with self._lists.working():
                self._clear_status()
                self._lists.take()
                bad = next((node for node in self._lists[how] if self._gives_bad_numbers(node)), None)
        except self._device.Failure as error:
            let_through(error)
            return f"{found} and then failed: {first_line(error)}"
        self._clear_status()
        if bad is not None:
            where = f" at step {bad.step} of {self._steps}" if bad.step >= 0 else ""
            return f"the {bad.name} gave infinities or NaN{where}"
        return found + (
            ", but not again in the same restore" if how != "device" else " in a restore since the last check"
        )

    def _gives_bad_numbers(self, node: Node) -> bool:
        """Carry it out; whether it is an evaluation whose output is not finite."""
        node.work()
        if node.made is None:
            return False
        status = copy_of(self._device, "status", *self._buffers.copied("status"))
        carry_out([audit_of(self._device, node.made, self._buffers.arrays.status, node.step), status])
        self._device.wait(self._stream)
        return bool(self._buffers.status[0])

    def _clear_status(self) -> None:
        self._buffers.arrays.status.zero_()
        self._device.wait(self._stream)
        self._buffers.status[0] = 0
