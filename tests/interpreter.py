"""Where Triton's kernels run in the tests: on a GPU where there is one, else through Triton's interpreter."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

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


def hasten() -> None:
    """Let the interpreter look through its language once a launch, not at every call of a function within, and remember
    NumPy's types: that was a quarter of its time. Has no effect where kernels are compiled.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    from triton import language
    from triton.runtime import interpreter

    if hasattr(interpreter._patch_lang, "__wrapped__"):
        return
    every_time, of_any = interpreter._patch_lang, interpreter._get_np_dtype
    of_one = functools.cache(of_any)

    @functools.wraps(every_time)
    def once(function: Any) -> Any:
        # Within a launch the functions of the language have given way to those that carry it out.
        known = (language, language.core)
        seen = [value for value in function.__globals__.values() if any(value is module for module in known)]
        done = seen and not any(language.core.is_builtin(module.load) for module in seen)
        return interpreter._LangPatchScope() if done else every_time(function)

    interpreter._patch_lang = once
    interpreter._get_np_dtype = lambda kind: (of_one if type(kind) is language.dtype else of_any)(kind)
