"""A plan in a model repository of NVIDIA Triton Inference Server; docs/serving.md describes it.

REPOSITORY/NAME/config.pbtxt        the model's configuration, the user's to edit
REPOSITORY/NAME/1/model.py          what the server's Python backend runs
REPOSITORY/NAME/1/model.mrsplan     the plan
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mrs import _version
from mrs.runtime import backends
from mrs.runtime.errors import InputError
from mrs.runtime.manifest import Manifest
from mrs.runtime.plan import Plan, read_plan
from mrs.runtime.system.atomic import publish, replacing

CONFIG, SCRIPT, PLAN = "config.pbtxt", "model.py", "model.mrsplan"
# Of what servers, URLs and file systems take in a name, what needs no quoting anywhere.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# The server ignores folders that begin with 0, and reads no more than 63 bits.
VERSION = re.compile(r"[1-9][0-9]{0,18}")
LAST = (1 << 63) - 1

SCRIPT_TEXT = '''\
"""Serves the plan beside this file; written by mrs-trt {version}, which the server's Python must have installed."""

from pathlib import Path

from mrs.runtime.serving.inference_server import PlanServer


class TritonPythonModel(PlanServer):
    plan = Path(__file__).with_name("{plan}")
'''

CONFIG_TEXT = """\
# Written by mrs-trt {version}. Yours to edit: new versions of the model keep it.
name: "{name}"
backend: "python"
# Requests are not merged: a picture's noise depends on its number in its batch.
max_batch_size: 0
input [
  {{
    name: "picture"
    data_type: TYPE_UINT8
    dims: [ -1, -1, -1, {channels} ]
  }},
  {{
    name: "seed"
    data_type: TYPE_UINT32
    dims: [ 1 ]
    optional: true
  }}
]
output [
  {{
    name: "restored"
    data_type: TYPE_UINT8
    dims: [ -1, -1, -1, {channels} ]
  }}
]
# {instances}
instance_group [
  {{
    kind: {kind}
    count: 1
  }}
]
# Compiled before the server is ready; add the sizes that you serve.
model_warmup [
  {{
    name: "{height}x{width}"
    batch_size: 1
    inputs {{
      key: "picture"
      value {{
        data_type: TYPE_UINT8
        dims: [ {count}, {height}, {width}, {channels} ]
        zero_data: true
      }}
    }}
  }}
]
"""
INSTANCES = {
    "KIND_CPU": "Each instance is a process with its share of the processors; the parameter threads sets another.",
    "KIND_GPU": "Each GPU has as many instances as count says; gpus: [ 0 ] names some.",
}


@dataclass(frozen=True)
class ModelVersion:
    """What was written.

    Attributes:
        model: the model's folder.
        number: of its new version.
        kept: whether the configuration was there before.
        advice: what to change in a configuration that was kept; "" where nothing.
    """

    model: Path
    number: int
    kept: bool
    advice: str

    def summary(self) -> str:
        """Aligned lines: where it is and how it is served."""
        lines = [
            ("model", f"{self.model.name}, version {self.number}"),
            ("written", f"{self.model / str(self.number)}"),
            ("config", f"{self.model / CONFIG}{' (kept)' if self.kept else ''}{self.advice}"),
            ("serve with", f"tritonserver --model-repository={self.model.parent.resolve()}"),
        ]
        return "\n".join(f"{label:<13} {value}" for label, value in lines)


def check_place(repository: Path, name: str) -> None:
    """Refuse what could not be written after the work is done.

    Raises:
        InputError: for a name that may not suit the server, a folder that cannot be written, another kind of model.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"{name!r} is no name for a model", hint="use --name with letters, digits, _, - and . (at most 128)"
        )
    model = repository / name
    try:
        for folder in (repository, model):
            if os.path.lexists(folder) and not folder.is_dir():
                raise InputError(f"cannot write {folder}: it is not a folder", hint="choose another folder or --name")
        # The first that exists of these is written to.
        place = next((folder for folder in (model, repository, repository.parent) if folder.is_dir()), None)
        foreign = _next(model) > 1 and not list(model.glob(f"*/{PLAN}"))
    except OSError as error:
        raise InputError(f"cannot write {repository}: {error.strerror}", hint="choose another folder") from None
    if place is None:
        raise InputError(
            f"cannot write {repository}: its folder does not exist", hint=f"make {repository.parent} first"
        )
    if not os.access(place, os.W_OK):
        raise InputError(f"cannot write {place}: it is read-only", hint="choose another folder")
    if foreign:
        raise InputError(f"{model} holds another kind of model", hint="choose another --name")


def add_version(make: Callable[[Path], Plan], repository: Path, name: str, *, overwrite: bool = False) -> ModelVersion:
    """Add a plan to a repository, as version 1 of a new model or as the next of one that is there.

    The version appears whole or not at all, so that a server may look at any time.

    Args:
        make: writes the plan to a path, and returns it.
        repository: the folder; made where it does not exist, but not its parents.
        name: of the model.
        overwrite: replace the configuration of a model that is there; its versions are never replaced.

    Raises:
        InputError: as `check_place`, and where the disk is full.
    """
    check_place(repository, name)
    model = repository / name
    mark = f".{name[:32]}.{secrets.token_hex(6)}"
    # Made beside the models: what takes long is no folder, which the server would take for a model.
    file, stage = repository / f"{mark}.mrsplan", repository / f"{mark}.part"
    new = not repository.exists()
    try:
        repository.mkdir(exist_ok=True)
        plan = make(file)
        config = config_text(plan.facts, name)
        kept = (model / CONFIG).exists() and not overwrite
        advice = _advice((model / CONFIG).read_text("utf-8", "replace"), config) if kept else ""
        stage.mkdir()
        (stage / "1").mkdir()
        os.replace(file, stage / "1" / PLAN)
        _write(stage / "1" / SCRIPT, SCRIPT_TEXT.format(version=_version.__version__, plan=PLAN))
        _write(stage / CONFIG, config)
        if model.exists() and not kept:
            try:
                publish(stage / CONFIG, model / CONFIG, overwrite)
            except InputError:
                # Another's, which came meanwhile.
                kept = True
        return ModelVersion(model, _publish(stage, model), kept, advice)
    except OSError as error:
        raise InputError(f"cannot write {model}: {error.strerror or error}", hint="choose another folder") from None
    except InputError as error:
        # By names that nobody knows.
        if mark not in error.message:
            raise
        told = error.message.replace(str(file), str(model)).replace(str(stage), str(model))
        raise InputError(told, hint=error.hint) from None
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(stage, ignore_errors=True)
        if new:
            with suppress(OSError):  # it holds the model
                repository.rmdir()


def copied(source: Path) -> Callable[[Path], Plan]:
    """For `add_version`: a plan that is there already, checked and then copied as it is.

    Raises:
        PlanError: where it is damaged.
        InputError: where it restores latents.
    """
    plan = read_plan(source)
    if plan.facts.latent is not None:
        raise InputError(f"{source} restores latents, which no server is given yet", hint="use mrs-trt restore")

    def make(path: Path) -> Plan:
        with replacing(path) as file, source.open("rb") as content:
            shutil.copyfileobj(content, file)
        return plan

    return make


def config_text(manifest: Manifest, name: str) -> str:
    """`config.pbtxt` for a plan.

    Args:
        manifest: of the plan.
        name: of the model.
    """
    kind = "KIND_GPU" if backends.get(manifest.backend).device == "cuda" else "KIND_CPU"
    count, *sides = manifest.shape
    # Those of pictures that are enlarged to it.
    height, width = (-(-side // manifest.upscale) for side in sides)
    return CONFIG_TEXT.format(
        version=_version.__version__, name=name, channels=manifest.network.channels, kind=kind,
        instances=INSTANCES[kind], count=count, height=height, width=width,
    )  # fmt: skip


def _advice(present: str, wanted: str) -> str:
    """What a configuration that is kept says other than the plan needs."""
    kinds = [set(re.findall(r"\bKIND_[CG]PU\b", text)) for text in (present, wanted)]
    if kinds[0] >= kinds[1]:
        return ""
    return f"; the plan was made for {kinds[1].pop()}: edit instance_group, or pass --overwrite"


def _publish(stage: Path, model: Path) -> int:
    """Rename what was staged; who comes second of two at once gets the next number."""
    while True:
        number = _next(model)
        try:
            # Onto a folder that is not empty nothing is renamed.
            if model.exists():
                os.rename(stage / "1", model / str(number))
            else:
                os.rename(stage, model)
            return number
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise


def _next(model: Path) -> int:
    """The number of the model's next version; refused where the server could not read it."""
    number = 1 + max(_versions(model), default=0) if model.exists() else 1
    if number > LAST:
        raise InputError(f"{model} has version {LAST}, the last that there can be", hint="choose another --name")
    return number


def _versions(model: Path) -> list[int]:
    numbers = (int(entry.name) for entry in model.iterdir() if VERSION.fullmatch(entry.name))
    return [number for number in numbers if number <= LAST]


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
