"""Some benchmarks load Triton's kernels: where these run is chosen first."""

from __future__ import annotations

from importlib.util import find_spec

from tests import interpreter

if find_spec("torch") is not None and find_spec("triton") is not None:
    interpreter.choose()
