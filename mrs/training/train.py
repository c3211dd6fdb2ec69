"""Training of a network on a folder of clean pictures, degraded on the fly.

`objective.py` has the losses. Everything random comes from (seed, iteration), so that a resumed run equals an
uninterrupted one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrs import degradations
from mrs.export import checkpoint
from mrs.export.architectures import Architecture
from mrs.export.architectures.nafnet import NAFNet
from mrs.folders import paths_below, read_bytes
from mrs.kernels.threads import Task, Threads, end
from mrs.numerics.schedule import Schedule
from mrs.runtime.errors import InputError
from mrs.runtime.system import machine
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.inputs import check_not_read
from mrs.training.objective import OUTPUTS, Objective

WARM_UP = 500
SAVE_EVERY = 1000
LOG_EVERY = 100
# Losses by task, where several are mixed: of fewer iterations they would jump about.
TASKS_EVERY = 1000


class Progress(TypedDict):
    """What is told of a training run now and then.

    Attributes:
        iteration: how many are done.
        loss: mean since the last time.
        rate: of learning.
        tasks: the same loss for each degradation by name, now and then.
    """

    iteration: int
    loss: float
    rate: float
    tasks: NotRequired[dict[str, float]]


@dataclass(frozen=True)
class Recipe:
    """All that a training run depends on, besides its pictures.

    Args:
        arch: the network: one that is told of the degraded picture, and of nothing else, or for the denoising process
            one that sees the noisy picture alone.
        schedule: the forward process; it is written into the weights' metadata.
        output: what the network learns to predict, `noise` or `velocity`, with the loss of that (`objective.py`).
        degradation: a name of `mrs.degradations.DEGRADATIONS`; `noise` for the denoising process, which adds its own.
        iterations: optimizer steps.
        batch: patches per step.
        patch: height and width of a patch in pixels.
        learning_rate: AdamW's peak rate, after a linear warm-up and before a cosine decay to a hundredth.
        ema: decay per step of the averaged weights, which are what is saved.
        bf16: compute in bfloat16 where autocast does.
        compile: fuse the network with torch.compile (needs a C++ compiler on a CPU).
        seed: of weights, patches, degradations, times and noise.
    """

    arch: Architecture = field(default_factory=lambda: NAFNet(16, (1, 1, 1, 4), 1, (1, 1, 1, 1)))
    schedule: Schedule = field(default_factory=lambda: Schedule(max_sigma=10.0, convention="ir-sde"))
    output: str = "noise"
    degradation: str = "rain"
    iterations: int = 20_000
    batch: int = 8
    patch: int = 64
    learning_rate: float = 6e-4
    ema: float = 0.999
    bf16: bool = True
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        degradations.get(self.degradation)
        if self.output not in OUTPUTS:
            raise InputError(f"output {self.output!r} cannot be trained", hint=f"use {' or '.join(OUTPUTS)}")
        for name in ("iterations", "batch", "patch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is not positive")
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is negative")
        if self.arch.channels != 3:
            raise InputError(f"a network of {self.arch.channels} channels cannot be trained on RGB pictures")
        self._check_network()
        if self.patch % self.arch.multiple:
            raise InputError(
                f"patch {self.patch} is not a multiple of {self.arch.multiple}",
                hint="the network halves it once per level",
            )
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning rate {self.learning_rate} is outside (0, 1)")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema {self.ema} is outside [0, 1)")

    def _check_network(self) -> None:
        """Refuse a network that this process cannot train."""
        # Those for latents are known by names of their own: built again, their weights would be taken for another's.
        if self.arch.context or self.arch.latent or self.arch.lensed:
            raise InputError(f"a {self.arch.name} for latents or with an encoder's features cannot be trained here")
        if self.arch.condition == self.schedule.denoises:
            told = "is told" if self.arch.condition else "is not told"
            raise InputError(
                f"a {self.arch.name} that {told} of the degraded picture is not for the {self.schedule.process} process"
            )
        if self.schedule.denoises and (self.output, self.degradation) != ("noise", "noise"):
            wrong = self.output if self.output != "noise" else self.degradation
            raise InputError(f"the denoising process has no {wrong} to learn", hint="it learns noise, from noise")


def train(
    folder: str | Path,
    output: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    overwrite: bool = True,
    device: str = "cpu",
    save_every: int = SAVE_EVERY,
    report: Callable[[Progress], None] = lambda row: None,
) -> None:
    """Train and write the averaged weights, with schedule and recipe as metadata, to `output` (.safetensors).

    Every `save_every` iterations the weights so far and the full state (`output` + `.state`) are written, from which
    `resume` goes on. An interrupted run (Ctrl-C, a lost machine) leaves those of the last such iteration.

    Args:
        folder: clean pictures, searched recursively; all are held in memory as uint8. The same ones when resuming.
        output: the weights' file.
        recipe: what to train, by default the shipped model's network.
        resume: continue from `output` + `.state`; a recipe with another number of iterations then goes on with its own
            rate from there. It may also say otherwise than before about `bf16` and `compile`, for another machine.
        overwrite: whether `output` and its state may be replaced where they exist, or appear meanwhile.
        device: where to train: `cpu`, `cuda`.
        save_every: iterations, at least 1; it changes nothing about the weights.
        report: called every `LOG_EVERY` iterations with iteration, loss (mean since the last call), rate; every
            `TASKS_EVERY` also, where the degradation mixes tasks, with tasks: each one's loss since the last time.

    Raises:
        InputError: for a folder without pictures large enough or with an unreadable one, an output that cannot be
            written, a device that is not there, a network that does not fit into memory, a missing or damaged state,
            one of another recipe, or a loss that is no longer finite.
    """
    recipe = recipe or Recipe()
    if save_every < 1:
        raise InputError(f"save_every {save_every} is not positive")
    output = Path(output)
    if output.suffix != ".safetensors":
        raise InputError(f"output {output} is not a .safetensors file")
    check_not_read(output, folder)
    # The first write comes an hour later.
    if not output.parent.is_dir():
        raise InputError(f"cannot write {output}: its folder does not exist", hint="make it first")
    where = _device(device)
    if where.type == "cpu":
        _check_memory(recipe)
    pictures = load_pictures(Path(folder), recipe.patch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = recipe.arch.module()
    net = net.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {key: value.detach().clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    first = 0
    state_path = output.with_name(output.name + ".state")
    replace = overwrite or resume
    if resume:
        first = _restore(state_path, recipe, net, average, optimizer)
        if first == recipe.iterations:
            # Finished, but its weights may have been lost.
            _save(output, state_path, recipe, first, net, average, optimizer, replace)
            return
    called: Callable[..., Tensor] = torch.compile(net) if recipe.compile else net
    objective = Objective(recipe.schedule, recipe.output, where)

    losses, by_task = [], _ByTask()
    for iteration, batch in _batches(pictures, recipe, first):
        rate = _rate(recipe, iteration)
        for group in optimizer.param_groups:
            group["lr"] = rate
        *arrays, tasks = batch
        clean, mu, t, noise = (torch.from_numpy(part).to(where) for part in arrays)
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=recipe.bf16):
            each = objective(called, clean, mu, t, noise)
        loss = each.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        # The average starts fast, so that it forgets the random start.
        decay = min(recipe.ema, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            for key, value in net.state_dict().items():
                average[key].lerp_(value, 1 - decay)
        losses.append(loss.detach())
        by_task.add(tasks, each.detach())
        done = iteration + 1
        if done % LOG_EVERY == 0 or done == recipe.iterations:
            mean = float(torch.stack(losses).mean())
            if not math.isfinite(mean):
                raise InputError(f"the loss is {mean} at iteration {done}", hint="lower the learning rate")
            row: Progress = {"iteration": done, "loss": mean, "rate": rate}
            if recipe.degradation == "mixed" and done % TASKS_EVERY == 0:
                row["tasks"] = by_task.means()
            report(row)
            losses.clear()
        if done % save_every == 0 or done == recipe.iterations:
            _save(output, state_path, recipe, done, net, average, optimizer, replace)
            # From now on these files are this run's own.
            replace = True


class _ByTask:
    """Losses of pictures by what was done to them."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._losses: list[Tensor] = []

    def add(self, names: NDArray[np.generic], losses: Tensor) -> None:
        """Of one batch, (N,) each. The losses stay on their device, which is not waited for."""
        self._names += names.tolist()
        self._losses.append(losses)

    def means(self) -> dict[str, float]:
        """Of each task since the last call, by name."""
        names, losses = np.array(self._names), torch.cat(self._losses).cpu().numpy()
        self._names.clear()
        self._losses.clear()
        return {str(name): float(losses[names == name].mean()) for name in np.unique(names)}


def _check_memory(recipe: Recipe) -> None:
    """Refuse a network or a batch that does not fit; what fits may still need more."""
    arch = recipe.arch
    weights = sum(math.prod(shape) for shape in arch.weight_shapes().values())
    # Weights, their average, gradients and two moments; and the activations of one evaluation at full resolution.
    needed = 4 * 5 * weights + arch.bytes_per_pixel * recipe.batch * recipe.patch**2
    what = f"a network of {arch.summary} with {weights:,} weights, at batch {recipe.batch} of {recipe.patch}"
    machine.check_memory(what, needed, hint="use a smaller or shallower network, or a smaller batch or patch")


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        # torch reports a driver that is absent as an assertion.
        raise InputError(f"device {name!r} is not there", hint="use cpu, or cuda on a machine with a GPU") from None
    return device


def load_pictures(folder: Path, patch: int) -> list[NDArray[np.uint8]]:
    """All pictures below `folder` of at least `patch` pixels each way, sorted by path, as (H, W, 3) uint8.

    Raises:
        InputError: where there is none, or for the first that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist", hint="give a folder of clean pictures")
    read = map(read_bytes, paths_below(folder))
    pictures = [picture for picture in read if min(picture.shape[:2]) >= patch]
    if not pictures:
        raise InputError(f"folder {folder} holds no picture of at least {patch}x{patch} pixels")
    return pictures


def _batches(
    pictures: list[NDArray[np.uint8]], recipe: Recipe, first: int
) -> Iterator[tuple[int, tuple[NDArray[np.generic], ...]]]:
    """(iteration, batch) from `first` on, each batch made one ahead in a thread while the last one is trained on."""
    thread = Threads(1)
    ahead = Task(_batch, pictures, recipe, first)
    try:
        thread.submit(ahead)
        for iteration in range(first, recipe.iterations):
            batch = ahead.result()
            if iteration + 1 < recipe.iterations:
                ahead = Task(_batch, pictures, recipe, iteration + 1)
                thread.submit(ahead)
            yield iteration, batch
    finally:
        end([ahead])


def _batch(pictures: list[NDArray[np.uint8]], recipe: Recipe, iteration: int) -> tuple[NDArray[np.generic], ...]:
    """clean and mu (N, 3, P, P) float32 in [0, 1], t (N,) int64 in 1..T, noise like clean, tasks (N,) by name."""
    rng = np.random.default_rng([recipe.seed, iteration])
    clean, degraded, tasks = [], [], []
    for _ in range(recipe.batch):
        picture = pictures[rng.integers(len(pictures))]
        y, x = (int(rng.integers(size - recipe.patch + 1)) for size in picture.shape[:2])
        cut = picture[y : y + recipe.patch, x : x + recipe.patch]
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        patch = cut.astype(np.float32) / np.float32(255)
        clean.append(patch)
        tasks.append(degradations.draw(recipe.degradation, rng))
        # What takes noise away starts at any time of the process, whose noise is added there.
        degraded.append(patch if recipe.schedule.denoises else degradations.get(tasks[-1])(patch, rng))
    t = rng.integers(1, recipe.schedule.T + 1, recipe.batch)
    shape = (recipe.batch, 3, recipe.patch, recipe.patch)
    noise = rng.standard_normal(shape, dtype=np.float32)
    to_planes = (0, 3, 1, 2)
    return (
        np.ascontiguousarray(np.stack(clean).transpose(to_planes)),
        np.ascontiguousarray(np.stack(degraded).transpose(to_planes)),
        t,
        noise,
        np.array(tasks),
    )


def _rate(recipe: Recipe, iteration: int) -> float:
    warm = min(1.0, (iteration + 1) / WARM_UP)
    cosine = 0.5 + 0.5 * math.cos(math.pi * iteration / recipe.iterations)
    return recipe.learning_rate * warm * (0.01 + 0.99 * cosine)


def _save(
    output: Path,
    state_path: Path,
    recipe: Recipe,
    done: int,
    net: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    overwrite: bool,
) -> None:
    described = asdict(recipe)
    described["arch"] = {"architecture": recipe.arch.name, **recipe.arch.to_dict()}
    metadata = {
        "schedule": described.pop("schedule"),
        "output": described.pop("output"),
        "recipe": described,
        "iterations": done,
    }
    checkpoint.save(output, average, metadata, overwrite)
    with replacing(state_path, overwrite) as file:
        torch.save(
            {
                "recipe": repr(recipe),
                "iteration": done,
                "net": net.state_dict(),
                "average": average,
                "optimizer": optimizer.state_dict(),
            },
            file,
        )


def _essence(recipe: str) -> str:
    """A recipe's description without what a resumed run may change: how long, and how it is computed."""
    return re.sub(r"\b(iterations|bf16|compile)=\w+", "", recipe)


def _restore(
    path: Path,
    recipe: Recipe,
    net: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> int:
    if not path.is_file():
        raise InputError(f"no state to resume from: {path} does not exist", hint="start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 (torch raises many types for damaged files)
        state = None
    if not isinstance(state, dict) or state.keys() != {"recipe", "iteration", "net", "average", "optimizer"}:
        raise InputError(f"{path} is not a readable training state", hint="start without --resume")
    if _essence(state["recipe"]) != _essence(repr(recipe)):
        raise InputError(
            f"{path} is the state of another recipe: {state['recipe']}", hint="give the same options as before"
        )
    if state["iteration"] > recipe.iterations:
        raise InputError(
            f"{path} is at iteration {state['iteration']}, past the {recipe.iterations} asked for",
            hint="give more iterations",
        )
    net.load_state_dict(state["net"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["iteration"])
