"""The folder follows the XDG Base Directory Specification."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mrs.runtime.session import Restorer
from mrs.runtime.system.user_cache import user_cache


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


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container under a number that no passwd entry names."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_a_user_without_a_home_has_no_folder(homeless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_cache() is None
    monkeypatch.setenv("HOME", "relative")
    assert user_cache() is None


def test_whoever_keeps_something_does_without(homeless: None, fake, fake_plan, picture, caplog) -> None:
    from mrs.runtime.backends.tensorrt.timing_cache import TimingCache

    fake.make.exported = b"an engine"
    caplog.set_level(logging.WARNING, "mrs")
    with Restorer(fake_plan) as restorer:
        restorer.restore(picture[:8])
    assert caplog.messages == []
    known = TimingCache("NVIDIA H200 9.0", "11.0")
    known.keep(None)  # type: ignore[arg-type]
    (message,) = caplog.messages
    assert message.startswith("tensorrt's timings are not kept, the next build takes as long: this user has no home")
