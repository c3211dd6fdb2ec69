"""The folder follows the XDG Base Directory Specification."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrs.runtime.user_cache import user_cache


@pytest.mark.parametrize(
    ("given", "expected"),
    [("/somewhere", "/somewhere/mrs-trt"), ("", "/me/.cache/mrs-trt"), ("relative", "/me/.cache/mrs-trt")],
)
def test_the_folder(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", "/me")
    assert user_cache() == Path(expected)
    monkeypatch.delenv("XDG_CACHE_HOME")
    if not given:
        assert user_cache() == Path(expected)
