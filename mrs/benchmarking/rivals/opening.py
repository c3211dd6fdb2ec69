"""Rivals by their names, opened and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.benchmarking.rivals.bare import bare
from mrs.benchmarking.rivals.engines import restores_on
from mrs.benchmarking.rivals.names import BACKEND, BACKENDS, BARE, IN_TORCH, NAMES
from mrs.benchmarking.rivals.rival import Companions, Rival
from mrs.runtime import backends
from mrs.runtime.errors import BackendError, InputError, MrsError
from mrs.runtime.plan import Plan, read_plan

if TYPE_CHECKING:
    from mrs.benchmarking.rivals.in_torch.network import PublishedNetwork

Size = tuple[int, int, int]
Tell = Callable[[str], None]


def silent(line: str) -> None:
    """Tell nobody."""


@contextmanager
def rivals(
    names: Sequence[str],
    plan_path: Path,
    checkpoint: Path | None,
    size: Size,
    threads: int,
    *,
    companions: Companions | None = None,
    note: Tell = silent,
    report: Tell = silent,
) -> Iterator[list[Rival]]:
    """Open rivals, and close them in the end.

    What is wrong with the arguments is raised before anything is compiled. A rival that cannot run here, or fails to
    compile, is left out with a note.

    Args:
        names: of `mrs.benchmarking.rivals.NAMES`; `backends` stands for all that can run here.
        plan_path: the plan that they are measured against.
        checkpoint: that the plan was built from, for the rivals in torch.
        size: (N, H, W) of the pictures as a chain takes them: those of super-resolution are enlarged already.
        threads: most threads to use on a CPU; torch's own number is as before afterwards.
        companions: of the checkpoint: encoder, autoencoder.
        note: is told of each that is left out, in one line.
        report: is told of progress.

    Raises:
        InputError: for an unknown name, a rival in torch without a checkpoint, a checkpoint of other weights than the
            plan's, or one whose companions are missing.
        PlanError: for a file that is no plan.
    """
    wanted = _known(names)
    plan = read_plan(plan_path)
    wanted = list(dict.fromkeys(each for name in wanted for each in _expanded(name, plan)))
    in_torch = [name for name in wanted if name in IN_TORCH]
    if in_torch and checkpoint is None:
        raise InputError(
            f"rival {in_torch[0]} needs the checkpoint that the plan was built from", hint="give --checkpoint FILE"
        )
    with ExitStack() as stack:
        network = None
        if in_torch and checkpoint is not None:
            network = _network(plan, checkpoint, companions or Companions(), threads, stack, note)
        opened = []
        for name in wanted:
            opener = _opener(name, plan, network, size, threads)
            if opener is None:
                continue
            report(f"preparing {name}")
            try:
                rival = opener()
            except InputError:
                raise
            except MrsError as error:
                note(f"rival {name} left out: {error}")
            else:
                stack.callback(rival.close)
                opened.append(rival)
        yield opened


def _opener(
    name: str, plan: Plan, network: PublishedNetwork | None, size: Size, threads: int
) -> Callable[[], Rival] | None:
    """What opens a rival; None for one in torch where there is none."""
    if name in BARE:
        return partial(bare, name, plan, size, threads)
    if name.startswith(BACKEND):
        return partial(restores_on, name.removeprefix(BACKEND), plan, size, threads)
    if network is None:
        return None
    from mrs.benchmarking.rivals.in_torch.contenders import contender

    return partial(contender, name, plan, network, size, threads)


def _network(
    plan: Plan, checkpoint: Path, companions: Companions, threads: int, stack: ExitStack, note: Tell
) -> PublishedNetwork | None:
    """The checkpoint's network, with torch on so many threads until the stack ends; None without torch."""
    missing = [name for name in ("torch", "onnx", "safetensors") if find_spec(name) is None]
    if missing:
        note(f"rivals {', '.join(IN_TORCH)} left out: {', '.join(missing)} not installed")
        return None
    import torch

    from mrs.benchmarking.rivals.in_torch.network import read_network

    stack.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(threads)
    try:
        return read_network(plan, checkpoint, companions, threads)
    except BackendError as error:
        note(f"rivals {', '.join(IN_TORCH)} left out: {error}")
        return None


def _known(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InputError(f"rival {unknown[0]!r} is unknown", hint=f"use some of {', '.join(NAMES)}")
    return list(names)


def _expanded(name: str, plan: Plan) -> list[str]:
    """`backends` as those that can run here, without the plan's own, which is no rival."""
    if name != BACKENDS:
        return [name]
    return [f"{BACKEND}{engine.name}" for engine in backends.available() if engine.name != plan.facts.backend]
