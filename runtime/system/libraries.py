"""What is told of the libraries below: which version is installed, and what their errors say in one line."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, TypeAlias

from mrs.runtime.errors import BackendError

# What pybind11 makes of exceptions of C++; the last where their text is no UTF-8, because it quotes a file.
CPLUSPLUS = (RuntimeError, ValueError, MemoryError, IndexError, OverflowError, UnicodeDecodeError)
# How ONNX Runtime begins its messages: a code, a place in its source, a function's signature.
SOURCE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S+\.(?:cc|h):\d+ (?:[^()]*::\w+\([^()]*\)(?: const)? )?")
LONGEST = 300
# These libraries publish no types.
OrtSession: TypeAlias = Any
OpenVinoCore: TypeAlias = Any
OpenVinoModel: TypeAlias = Any
OPT_OUT = "ORT_DISABLE_TELEMETRY"


def installed_version(*distributions: str) -> str:
    """Version of the first of these that is installed, for one module may come from several; "" where none is."""
    for name in distributions:
        try:
            # Damaged metadata have none.
            return version(name) or ""
        except PackageNotFoundError:
            continue
    return ""


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime without its telemetry, which from 1.29 on is decided when it is imported.

    It would keep a number for this device in the user's cache folder and send how it is used over the network. Who
    imported it before, or sets ORT_DISABLE_TELEMETRY himself, has decided.

    Raises:
        ImportError: where it is not installed, or does not load.
    """
    decided = OPT_OUT in os.environ
    if not decided:
        os.environ[OPT_OUT] = "1"
    try:
        return importlib.import_module("onnxruntime")
    finally:
        if not decided:
            os.environ.pop(OPT_OUT, None)


@contextmanager
def telling(what: str, hint: str = "", kinds: tuple[type[Exception], ...] = CPLUSPLUS) -> Iterator[None]:
    """Make a BackendError of what a library raises inside the block: `what` and its first telling line.

    Args:
        what: failed, such as "openvino failed at step 2".
        hint: what to do.
        kinds: that the library raises. Classes that derive from these are not taken: such are raised by Python code,
            the handler of a signal for example.
    """
    try:
        yield
    except kinds as error:
        if type(error) not in kinds:
            raise
        raise BackendError(f"{what}: {first_line(error)}", hint=hint) from error


def first_line(error: BaseException) -> str:
    """What an error says in its first line that tells anything; its class where none does."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError) and isinstance(error.object, bytes):
        # The message itself, which holds bytes of a file.
        text = error.object.decode("utf-8", "replace")
    lines = [" ".join(SOURCE.sub("", line).split()) for line in text.splitlines()]
    # A line that ends with a colon says where in the library, and the next one what.
    line = next((line for line in lines if line and not line.endswith(":")), "") or " ".join(lines).strip()
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
    return (line if len(line) <= LONGEST else f"{line[:LONGEST]}...") or type(error).__name__
