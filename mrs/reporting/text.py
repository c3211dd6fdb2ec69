"""Numbers and structures as text for the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

JsonObject: TypeAlias = "dict[str, JsonValue]"
JsonValue: TypeAlias = "JsonObject | list[JsonValue] | str | float | int | bool | None"


def number(value: float) -> str:
    """Three digits that count, or all before the point: 0.0123, 1.54, 40.3, 1,572."""
    size = abs(value)
    if size >= 1e7:
        return f"{value:.3g}"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 1 or not size:
        return f"{value:.{1 if size >= 10 else 2}f}"
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    """With their unit; from ten seconds on in seconds."""
    return f"{number(value / 1e3)} s" if value >= 1e4 else f"{number(value)} ms"


def memory(size: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{number(size / unit)} {name}"
    return f"{size:.0f} bytes"


def between(low: float, high: float) -> str:
    """A range."""
    return f"{number(low)} to {number(high)}"


def plural(count: int, name: str) -> str:
    """Such as 1 round, 2 rounds."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def listed(parts: Sequence[str]) -> str:
    """Such as a, b and c."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def sentence(text: str) -> str:
    """A line as a terminal shows it, such as `openvino left out: no memory`, as a sentence.

    A first word that is not all small letters, such as p99 or 512x512, stays as it is.
    """
    text = text.strip()
    first = text.partition(" ")[0]
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text + "." * bool(text and text[-1] not in ".!?")


def script_json(value: JsonValue) -> str:
    """JSON that ends no script element and opens no comment in one, whatever texts it has."""
    # Without these, no text can be markup; the two separators end a line for readers that take JSON for JavaScript.
    escapes = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(escapes)
