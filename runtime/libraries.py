"""What is told of the libraries below: which version is installed, and what their errors say in one line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(*distributions: str) -> str:
    """Version of the first of these that is installed, for one module may come from several; "" where none is."""
    for name in distributions:
        try:
            # Damaged metadata have none.
            return version(name) or ""
        except PackageNotFoundError:
            continue
    return ""


def first_line(error: BaseException) -> str:
    """What an error says, without the advice that follows it; its class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
