"""Checkpoints: a file to a flat state dict and back, whatever network the weights are of.

A checkpoint is a flat state dict in a `.pth` (as Refusion's published code saves it) or `.safetensors` file, with or
without a `module.` prefix, or nested under `params_ema`, `params` or `state_dict`. Nothing in a file is run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrs.export.torch_file import ClaimError, check_claims
from mrs.runtime.errors import CheckpointError
from mrs.runtime.plan import is_plan
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.inputs import path_of
from mrs.runtime.system.regular_files import open_regular

# In this order: an average of the weights is what its authors measured.
NESTS = ("params_ema", "params", "state_dict")
METADATA_KEY = "mrs"
# Nests inside nests, such as params in state_dict; a damaged file may hold itself.
MAX_DEPTH = 4
# What torch turns into float32; narrower kinds have no such conversion.
FLOATS = frozenset(
    dtype for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point and "float4" not in str(dtype)
)  # fmt: skip
# Of a key in an error; a file's keys may be of any length.
LONGEST_NAME = 100


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        state: the flat state dict, float32 tensors under the published keys.
        sha256: of the file's bytes, hex.
        metadata: what `save` wrote beside the weights (schedule, network output, recipe); empty for other files.
    """

    state: dict[str, Tensor]
    sha256: str
    metadata: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | Path, select: Callable[[Set[str]], Set[str]] | None = None) -> Checkpoint:
    """Read a `.pth` or `.safetensors` file without running anything in it.

    Args:
        path: of the file.
        select: which of its keys are wanted, where some are nothing to the network; all where it is not given.

    Raises:
        CheckpointError: for a file that is missing, damaged, or holds code.
    """
    path = path_of("checkpoint", path)
    try:
        with open_regular(path) as file:
            head = file.read(9)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} does not exist", hint="give a .pth or .safetensors file") from None
    except IsADirectoryError:
        raise CheckpointError(f"checkpoint {path} is a folder", hint="give a .pth or .safetensors file") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    loaded: object
    # Told by content: a safetensors file starts with the length of its JSON header, in 8 bytes.
    if head[4:] == b"\0\0\0\0{":
        loaded, metadata = _read_safetensors(path)
    elif is_plan(path):
        raise CheckpointError(f"{path} is a plan, not a checkpoint", hint="give the checkpoint that it was built from")
    elif head.startswith((b"PK", b"\x80")):
        loaded, metadata = _read_pickle(path), {}
    elif path.suffix.lower() == ".safetensors":
        loaded, metadata = _read_safetensors(path)
    else:
        raise CheckpointError(
            f"{path} is not a checkpoint: its content is neither PyTorch's nor safetensors'",
            hint="check that the weights themselves were downloaded, not a page or a pointer to them",
        )
    return Checkpoint(flatten(loaded, str(path), select), sha256, metadata)


def save(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, object], overwrite: bool = True) -> None:
    """Write weights and metadata as safetensors; the file appears whole or not at all.

    Raises:
        InputError: where it cannot be written, or exists and `overwrite` is not given.
    """
    from safetensors.torch import save as to_bytes

    tensors = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in state.items()}
    content = to_bytes(tensors, {METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})
    with replacing(Path(path), overwrite) as file:
        file.write(content)


def flatten(
    loaded: object, name: str = "checkpoint", select: Callable[[Set[str]], Set[str]] | None = None
) -> dict[str, Tensor]:
    """The flat state dict inside a loaded object: nests opened, `module.` taken off, floating weights as float32.

    See `read_checkpoint` for `select`.

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
            raise CheckpointError(f"{name} holds {type(value).__name__} under {_short(key)!r} among its weights")
        if not _is_plain(value):
            raise CheckpointError(f"{name} holds under {_short(key)!r} a tensor without all of its numbers")
        key = str(key).removeprefix("module.")
        if key in state:
            raise CheckpointError(f"{name} holds {_short(key)} twice, with and without module.")
        state[key] = value.detach()
    if select is not None:
        wanted = select(state.keys())
        state = {key: value for key, value in state.items() if key in wanted}
    # Weights that share their numbers would each get their own below.
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in state.values()}
    if sum(value.numel() * value.element_size() for value in state.values()) > sum(storages.values()):
        raise CheckpointError(f"{name} holds the same numbers under several names", hint="save each weight by itself")
    return {key: value.to(torch.float32) if value.dtype in FLOATS else value for key, value in state.items()}


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor stores all of its elements: a small file can claim endless sparse or repeated ones."""
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def check_fit(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, Tensor], kind: str, name: str = "state dict"
) -> None:
    """Refuse weights that are not a network's.

    Args:
        expected: keys and shapes of the network's weights.
        given: the weights.
        kind: of the network, for errors.
        name: of where they come from, for errors.

    Raises:
        CheckpointError: naming the keys that are missing, left over, of a wrong shape, or not finite numbers.
    """
    common = sorted(expected.keys() & given.keys())
    misshapen = [
        f"{key} is {tuple(given[key].shape)}, not {expected[key]}"
        for key in common
        if tuple(given[key].shape) != expected[key]
    ]
    mistyped = [f"{key} is {given[key].dtype}" for key in common if given[key].dtype not in FLOATS]
    not_finite = [key for key in common if given[key].dtype in FLOATS and not bool(torch.isfinite(given[key]).all())]
    problems = [
        f"{label}: {some(keys)}"
        for label, keys in (
            ("missing", sorted(expected.keys() - given.keys())),
            ("left over", sorted(given.keys() - expected.keys())),
            ("wrong shape", misshapen),
            ("not floating point of 8 to 64 bits", mistyped),
            ("NaN or infinite", not_finite),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{name} does not fit {kind}; " + "; ".join(problems),
            hint="give the weights as published or trained, whole and of one network alone",
        )


def some(names: list[str], most: int = 6) -> str:
    """A list of names for a line of text, cut where it is long."""
    shown = ", ".join(map(_short, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."


def _read_pickle(path: Path) -> object:
    try:
        check_claims(path)
        # Not by its path, whose suffix torch would believe.
        with warnings.catch_warnings(), path.open("rb") as file:
            # Remarks on file formats, for developers.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (torch raises many types for damaged files)
        # torch's own texts are long, and advise to load without weights_only.
        text = str(error)
        refused = re.search(r"GLOBAL `?([\w.]+)", text)
        more = error.more if isinstance(error, ClaimError) else refused and refused[1]
        if more or "TorchScript" in text or (isinstance(error, pickle.UnpicklingError) and "operand" not in text):
            what = more or "other objects"
            raise CheckpointError(
                f"{path} holds more than weights ({what}), and loading it could run code",
                hint="save the bare state dict, or convert it to .safetensors where you trust the file",
            ) from None
        why = f" ({error})" if isinstance(error, ClaimError) else ""
        raise CheckpointError(
            f"{path} is not a readable checkpoint: it is cut short, damaged, or was not written by torch.save{why}",
            hint="download or copy it again",
        ) from None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            text = (file.metadata() or {}).get(METADATA_KEY, "{}")
    except Exception as error:  # noqa: BLE001 (safetensors and torch raise many types for what they do not know)
        reason = " ".join(str(error).split()) or type(error).__name__
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
