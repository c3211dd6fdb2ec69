"""What TensorRT's Python bindings offer, read from their own descriptions: run with the bindings on the path, or read.

`python facts.py` prints the facts of the installed `tensorrt_bindings` as JSON; `read(version)` gives those that lie
beside this file. Only names, kinds and signatures are kept, of the classes that the backend touches.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

# The classes whose every member is kept.
CLASSES = (
    "Builder", "BuilderFlag", "DataType", "Dims", "ErrorCode", "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILogger",
    "INetworkDefinition", "IOptimizationProfile", "IProgressMonitor", "ITimingCache", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParser", "ParserError", "Runtime",
)  # fmt: skip
FOLDER = Path(__file__).parent / "facts"
VERSIONS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
# Of a build that does the same whatever the library's version is, and takes seconds.
newest = pytest.mark.parametrize("world", VERSIONS[-1:], indirect=True)
SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+\(self.*\).*)$", re.MULTILINE)


def read(version: str) -> dict[str, Any]:
    """The facts of a version: {class: {member: what it is}}; see `member`."""
    facts: dict[str, Any] = json.loads((FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    return facts


def collect(module: Any) -> dict[str, Any]:
    """The facts of a module."""
    classes = {name: _members(getattr(module, name)) for name in CLASSES}
    return {"__version__": module.__version__, **classes}


def _members(kind: type) -> dict[str, Any]:
    return {
        name: found
        for name in sorted(dir(kind))
        if (name == "__init__" or not name.startswith("_")) and (found := _member(kind, name)) is not None
    }


def _member(kind: type, name: str) -> Any:
    """`enum` for a value, `read` or `write` for a property that can be read or also set, signatures for a method."""
    value = getattr(kind, name)
    if isinstance(value, property):
        return "read" if value.fset is None else "write"
    if callable(value) and not isinstance(value, type):
        lines = SIGNATURE.findall(value.__doc__ or "")
        return [re.sub(r"tensorrt_bindings\.tensorrt\.", "", line).rstrip() for line in lines] or None
    return None if isinstance(value, type) else "enum"


def written(facts: dict[str, Any]) -> str:
    """As the files hold them: a line for each member, so that a new version's changes are seen."""
    return json.dumps(facts, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    import tensorrt_bindings

    sys.stdout.write(written(collect(tensorrt_bindings)))
