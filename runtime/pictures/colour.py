"""What samples mean, by a PNG's chunks or a profile: carried where it can be, refused where no photograph is stored so.

The network learned from pictures as screens show them. Light (linear samples) and HDR (PQ, HLG) look different in
numbers, so they are refused. In a PNG cICP counts before the profile, the profile before sRGB, sRGB before gAMA and
cHRM (PNG specification, third edition, 4.3).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path

from mrs.runtime.errors import PictureError

Chunks = tuple[tuple[bytes, bytes], ...]
"""Names and contents of chunks, in the order in which they are written."""

# Transfer characteristics of ITU-T H.273 under which numbers are far from those of a photograph for screens.
_UNFIT = {8: "linear light", 9: "logarithmic", 10: "logarithmic", 16: "PQ", 18: "HLG"}
_SRGB_CODES = bytes((1, 13, 0, 1))
_LINEAR_FROM = 0.8  # of the exponents that files are encoded with; screens take 0.38 to 0.56
_SRGB_GAMMA, _GAMMA_MARGIN = 0.45455, 0.01
_SRGB_CHROMATICITIES, _CHROMATICITY_MARGIN = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), 0.005
_CURVES = (b"rTRC", b"gTRC", b"bTRC", b"kTRC")
_MOST_TAGS = 100


def carried(chunks: Mapping[bytes, bytes]) -> Chunks:
    """Those chunks of a PNG that have a meaning: not of a wrong length, and no gamma of zero."""
    lengths = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
    sound = {name: data for name, data in chunks.items() if lengths.get(name) == len(data)}
    if not any(sound.get(b"gAMA", b"\1")):
        del sound[b"gAMA"]
    return tuple((name, sound[name]) for name in lengths if name in sound)


def check_encoding(path: Path, chunks: Chunks, profile: bytes | None) -> None:
    """Refuse pictures that are not encoded for screens.

    Args:
        path: named in the error.
        chunks: from `carried`.
        profile: the ICC profile of the pixels.

    Raises:
        PictureError: naming the encoding.
    """
    known = dict(chunks)
    found = ""
    if b"cICP" in known:
        _, transfer, matrix, full = known[b"cICP"]
        if matrix or full != 1:
            found = "samples in a video's range (cICP)" if matrix == 0 else "samples that are no RGB (cICP)"
        elif transfer in _UNFIT:
            found = f"{_UNFIT[transfer]} samples (cICP)"
    elif profile is not None:
        found = f"{_profile_encoding(profile)} samples (ICC profile)" if _profile_encoding(profile) else ""
    elif b"sRGB" not in known and b"gAMA" in known and _gamma(known) >= _LINEAR_FROM:
        found = f"linear samples (gAMA {_gamma(known):g})"
    if found:
        raise PictureError(
            f"{path} holds {found}, and restoring takes pictures as screens show them",
            hint="convert it to sRGB with 8 bits",
        )


def needed(chunks: Chunks, profile: bytes | None) -> str:
    """What a picture loses that is written without the chunks, in words; "" where it looks the same.

    A profile beside the chunks is what the file itself has for viewers that do not know them.
    """
    known = dict(chunks)
    if profile is not None:
        return ""
    if b"cICP" in known:
        return "" if known[b"cICP"] == _SRGB_CODES else "a colour space by code (cICP)"
    if b"sRGB" in known:
        return ""
    if b"gAMA" in known and abs(_gamma(known) - _SRGB_GAMMA) > _GAMMA_MARGIN:
        return f"a gamma of its own (gAMA {_gamma(known):g})"
    if b"cHRM" in known:
        values = [value / 100000 for value in struct.unpack(">8I", known[b"cHRM"])]
        pairs = zip(values, _SRGB_CHROMATICITIES, strict=True)
        if any(abs(value - usual) > _CHROMATICITY_MARGIN for value, usual in pairs):
            return "primaries of its own (cHRM)"
    return ""


def _gamma(known: Mapping[bytes, bytes]) -> float:
    return float(struct.unpack(">I", known[b"gAMA"])[0]) / 100000


def _profile_encoding(profile: bytes) -> str:
    """What a profile says of its samples that is far from pictures for screens; "" where it says no such thing."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        entries = [struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, _MOST_TAGS))]
        tags = {name: profile[offset : offset + length] for name, offset, length in entries}
        if tags.get(b"cicp", b"")[:4] == b"cicp":
            return _UNFIT.get(tags[b"cicp"][9], "")
        curves = [tags[name] for name in _CURVES if name in tags]
        return "linear" if curves and all(_is_straight(curve) for curve in curves) else ""
    except (struct.error, IndexError):
        return ""  # as viewers, which ignore what they cannot read


def _is_straight(curve: bytes) -> bool:
    """Whether a tone curve of a profile gives light nearly in proportion to the samples."""
    if curve[:4] == b"para":
        (exponent,) = struct.unpack_from(">i", curve, 12)
        return bool(exponent / 65536 * _LINEAR_FROM <= 1)
    if curve[:4] != b"curv":
        return False
    (count,) = struct.unpack_from(">I", curve, 8)
    if count == 0:
        return True
    if count == 1:
        return bool(struct.unpack_from(">H", curve, 12)[0] / 256 * _LINEAR_FROM <= 1)
    place = count // 2
    (light,) = struct.unpack_from(">H", curve, 12 + 2 * place)
    level = place / (count - 1)
    return 0 < light < 65535 and 0 < level < 1 and math.log(light / 65535) / math.log(level) * _LINEAR_FROM <= 1
