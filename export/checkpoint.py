"""Checkpoints of ConditionalNAFNet: reading, hyper-parameters from shapes, strict loading, writing.

A checkpoint is a flat state dict in a `.pth` (as Refusion's published code saves it) or `.safetensors` file, with or
without a `module.` prefix, or nested under `params_ema`, `params` or `state_dict`. Nothing in a file is run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrs.export.nafnet import Architecture, ConditionalNAFNet
from mrs.runtime.atomic import replacing
from mrs.runtime.errors import CheckpointError, InputError

# In this order: an average of the weights is what its authors measured.
NESTS = ("params_ema", "params", "state_dict")
METADATA_KEY = "mrs"
# Nests inside nests, such as params in state_dict; a damaged file may hold itself.
MAX_DEPTH = 4


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        state: the flat state dict, float32 tensors under the published keys.
        arch: hyper-parameters, read from the shapes.
        sha256: of the file's bytes, hex.
        metadata: what `save` wrote beside the weights (schedule, network output, recipe); empty for other files.
    """

    state: dict[str, Tensor]
    arch: Architecture
    sha256: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def network(self) -> ConditionalNAFNet:
        """The network with these weights, in evaluation mode.

        Raises:
            CheckpointError: naming the keys that are missing, left over, of a wrong shape, or not finite numbers.
        """
        _check_fit(self.arch, self.state)
        # Without storage first: random numbers are neither spent nor touched.
        with torch.device("meta"):
            net = ConditionalNAFNet(self.arch)
        net.to_empty(device="cpu").load_state_dict(self.state)
        return net.eval()


def load_checkpoint(path: str | Path) -> ConditionalNAFNet:
    """The network in a checkpoint file, in evaluation mode; call it as `net(x, mu, t)`.

    Raises:
        CheckpointError: for a file that is missing, damaged, holds code, or does not fit ConditionalNAFNet.
    """
    return read_checkpoint(path).network()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a `.pth` or `.safetensors` file without running anything in it.

    Raises:
        CheckpointError: for a file that is missing, damaged, holds code, or does not fit ConditionalNAFNet.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(9)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} does not exist", hint="give a .pth or .safetensors file") from None
    except IsADirectoryError:
        raise CheckpointError(f"checkpoint {path} is a folder", hint="give a .pth or .safetensors file") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    # Told by content: a safetensors file starts with the length of its JSON header, in 8 bytes.
    if path.suffix.lower() == ".safetensors" or head[4:] == b"\0\0\0\0{":
        loaded, metadata = _read_safetensors(path)
    elif head.startswith((b"PK", b"\x80")):
        loaded, metadata = _read_pickle(path), {}
    else:
        raise CheckpointError(
            f"{path} is not a checkpoint: its content is neither PyTorch's nor safetensors'",
            hint="check that the weights themselves were downloaded, not a page or a pointer to them",
        )
    state = flatten(loaded, str(path))
    arch = infer_architecture(state, str(path))
    _check_fit(arch, state, str(path))
    return Checkpoint(state, arch, sha256, metadata)


def save(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write weights and metadata as safetensors; the file appears whole or not at all."""
    from safetensors.torch import save as to_bytes

    tensors = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in state.items()}
    content = to_bytes(tensors, {METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})
    with replacing(Path(path)) as file:
        file.write(content)


def flatten(loaded: Any, name: str = "checkpoint") -> dict[str, Tensor]:
    """The flat state dict inside a loaded object: nests opened, `module.` taken off, floating weights as float32.

    Raises:
        CheckpointError: where there are no weights in it, or other things among them.
    """
    for _ in range(MAX_DEPTH):
        if not isinstance(loaded, Mapping):
            break
        # An empty nest is what trainers without an average leave.
        nest = next((key for key in NESTS if isinstance(loaded.get(key), Mapping) and loaded[key]), None)
        if nest is None:
            break
        loaded = loaded[nest]
    if not isinstance(loaded, Mapping) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(
            f"{name} holds no state dict", hint=f"expected tensors by name, at the top or under {', '.join(NESTS)}"
        )
    state: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{name} holds {type(value).__name__} under {key!r} among its weights")
        if not _is_plain(value):
            raise CheckpointError(f"{name} holds under {key!r} a tensor without all of its numbers")
        key = str(key).removeprefix("module.")
        if key in state:
            raise CheckpointError(f"{name} holds {key} twice, with and without module.")
        state[key] = value.detach().to(torch.float32) if value.is_floating_point() else value.detach()
    return state


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor stores all of its elements: a small file can claim endless sparse or repeated ones."""
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def infer_architecture(state: Mapping[str, Tensor], name: str = "checkpoint") -> Architecture:
    """Hyper-parameters from the names and shapes of the weights.

    Raises:
        CheckpointError: where the weights are not of a ConditionalNAFNet.
    """
    intro, ending = state.get("intro.weight"), state.get("ending.weight")
    if intro is None or ending is None or intro.ndim != 4 or ending.ndim != 4:
        raise CheckpointError(
            f"{name} is no ConditionalNAFNet: it has no convolutions intro and ending (it has {_some(list(state), 3)})",
            hint="Refusion checkpoints are supported; IR-SDE's ConditionalUNet is not yet",
        )
    # A level may have no block, but it has its resampling convolutions. One digit: channels double at each level, so
    # there are never ten.
    pattern = re.compile(r"(?:downs|ups|encoders|decoders)\.(\d)\.")
    levels = max((int(match[1]) + 1 for match in map(pattern.match, state) if match), default=0)
    try:
        return Architecture(
            width=intro.shape[0],
            enc_blocks=tuple(_count(state, f"encoders.{level}") for level in range(levels)),
            mid_blocks=_count(state, "middle_blks"),
            dec_blocks=tuple(_count(state, f"decoders.{level}") for level in range(levels)),
            channels=ending.shape[0],
        )
    except InputError as error:
        raise CheckpointError(f"{name} is no ConditionalNAFNet: {error.message}") from None


def _count(state: Mapping[str, Tensor], part: str) -> int:
    """Blocks of one part, numbered from 0 without gaps; so that a file cannot claim more blocks than it has keys."""
    pattern = re.compile(re.escape(part) + r"\.(\d{1,3})\.")
    found = {int(match[1]) for match in map(pattern.match, state) if match}
    gap = next(index for index in range(len(found) + 1) if index not in found)
    if gap < len(found):
        raise CheckpointError(f"every weight of {part}.{gap} is missing")
    return gap


def _check_fit(arch: Architecture, given: Mapping[str, Tensor], name: str = "state dict") -> None:
    with torch.device("meta"):
        expected = ConditionalNAFNet(arch).state_dict()
    common = sorted(expected.keys() & given.keys())
    misshapen = [
        f"{key} is {tuple(given[key].shape)}, not {tuple(expected[key].shape)}"
        for key in common
        if given[key].shape != expected[key].shape
    ]
    mistyped = [f"{key} is {given[key].dtype}" for key in common if not given[key].is_floating_point()]
    not_finite = [key for key in common if not bool(torch.isfinite(given[key]).all())]
    problems = [
        f"{label}: {_some(keys)}"
        for label, keys in (
            ("missing", sorted(expected.keys() - given.keys())),
            ("left over", sorted(given.keys() - expected.keys())),
            ("wrong shape", misshapen),
            ("not floating point", mistyped),
            ("NaN or infinite", not_finite),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(f"{name} does not fit ConditionalNAFNet; " + "; ".join(problems))


def _some(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # Remarks on file formats, for developers.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (torch raises many types for damaged files)
        # torch's own texts are long, and advise to load without weights_only.
        text = str(error)
        refused = re.search(r"GLOBAL `?([\w.]+)", text)
        if refused or "TorchScript" in text or (isinstance(error, pickle.UnpicklingError) and "operand" not in text):
            what = refused[1] if refused else "other objects"
            raise CheckpointError(
                f"{path} holds more than weights ({what}), and loading it could run code",
                hint="save the bare state dict, or convert it to .safetensors where you trust the file",
            ) from None
        raise CheckpointError(
            f"{path} is not a readable checkpoint: it is cut short, damaged, or was not written by torch.save",
            hint="download or copy it again",
        ) from None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            text = (file.metadata() or {}).get(METADATA_KEY, "{}")
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} is not a readable checkpoint: {reason}", hint="download or copy it again"
        ) from None
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        # Passing over it would restore with another schedule than the weights were trained with.
        raise CheckpointError(
            f"the metadata {METADATA_KEY!r} of {path} are no JSON object", hint="remove them, or train again"
        )
    return state, metadata
