"""Where Triton's kernels run in the tests: on a GPU where there is one, else through Triton's interpreter."""

from __future__ import annotations

import os
import sys

import pytest


def choose() -> None:
    """Choose, before anything loads Triton, which looks only once. It and torch must be installed.

    Raises:
        pytest.UsageError: where it is too late.
    """
    import torch

    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
        return
    if "triton" in sys.modules:
        raise pytest.UsageError("triton was loaded before its interpreter could be chosen; set TRITON_INTERPRET=1")
    os.environ["TRITON_INTERPRET"] = "1"
