"""EXIF, colour profile and resolution of a picture file, ready to be written beside other pixels.

XMP, IPTC, comments and thumbnails are left behind: they describe, or show, the picture as it was.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable
from contextlib import suppress

from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

EXIF_PREFIX = b"Exif\0\0"

_SHORT, _LONG = 3, 4  # types of values
_ORIENTATION = int(ExifTags.Base.Orientation)
_EXIF_IFD = int(ExifTags.IFD.Exif)
_GPS_IFD = int(ExifTags.IFD.GPSInfo)
_INTEROP_IFD = int(ExifTags.IFD.Interop)

_SIZES: tuple[tuple[int | None, tuple[int, int], tuple[int, int] | None], ...] = (
    (None, (256, 257), (282, 283)),  # ImageWidth, ImageLength; XResolution, YResolution
    (_EXIF_IFD, (0xA002, 0xA003), (0xA20E, 0xA20F)),  # PixelXDimension ...; FocalPlaneXResolution ...
    (_INTEROP_IFD, (0x1001, 0x1002), None),  # RelatedImageWidth ...
)
"""Directories, each below the one before it, with their tags of a size (width, height) and of resolutions (x, y)."""

# Tags of a TIFF directory that say how its pixels are stored. With another picture's pixels they would be wrong.
_STRIP_TAGS = frozenset([*range(254, 267), 273, *range(277, 285), *range(288, 294), 296, 301, 317, *range(320, 326)])
_SAMPLE_TAGS = frozenset([330, *range(332, 343), 347, *range(512, 522), *range(529, 533)])
_FOREIGN_TAGS = frozenset([700, 33723, 34377, 34675, 37724])
"""XMP, IPTC and Photoshop's, which are left behind, and the ICC profile, which is kept apart."""


def source_exif(image: Image.Image) -> bytes | None:
    """The EXIF of an opened and loaded picture as one TIFF structure behind `EXIF_PREFIX`, None where it has none."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif
    try:
        if "Raw profile type exif" in image.info:  # how ImageMagick wrote it before PNG had a chunk for EXIF
            return bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            tags = descriptive_tags(image.getexif())
            return tags.tobytes() if len(tags) else None
    except Exception:  # noqa: BLE001  Pillow fails in any way on damaged metadata, which must not cost the picture
        return None
    return None


def upright_exif(exif: bytes | None, size: tuple[int, int]) -> tuple[bytes | None, int]:
    """The EXIF of the upright picture, without thumbnail, and the orientation (1 to 8) that it had.

    Orientation becomes 1; where tags give a size it becomes that of the upright picture, and where the picture lay on
    its side resolutions along its axes change places. The bytes are changed in place, so that every other tag and all
    offsets (which the notes of camera makers rely on) stay as they are. EXIF that cannot be read gives (None, 1), as
    picture viewers ignore it too.

    Args:
        exif: with or without `EXIF_PREFIX`; None for none.
        size: (width, height) of the picture as it is stored.
    """
    data = bytearray(re.sub(rb"^(Exif\0\0){1,2}", b"", exif or b""))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        return None, 1
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        main = _entries(data, order, start)
        orientation = _number(data, order, main.get(_ORIENTATION)) or 1
        orientation = orientation if 1 <= orientation <= 8 else 1
        if _ORIENTATION in main:
            struct.pack_into(f"{order}HHIHH", data, main[_ORIENTATION], _ORIENTATION, _SHORT, 1, 1, 0)
        # Without the offset of the next directory, the thumbnail of the unrestored picture is no longer found.
        (count,) = struct.unpack_from(f"{order}H", data, start)
        if len(data) >= start + 2 + 12 * count + 4:
            struct.pack_into(f"{order}I", data, start + 2 + 12 * count, 0)
    except struct.error:
        return None, 1
    directory: dict[int, int] | None = main
    for below, sizes, axes in _SIZES:
        # A damaged sub-directory costs no more than itself.
        with suppress(struct.error):
            if below is not None:
                directory = _below(data, order, directory, below)
            _turn(data, order, directory or {}, sizes, axes, size, orientation)
    return EXIF_PREFIX + bytes(data), orientation


def _entries(data: bytearray, order: str, start: int) -> dict[int, int]:
    """Where the entry of each tag of a directory lies; the first of several.

    Raises:
        struct.error: where the directory is not within the data.
    """
    (count,) = struct.unpack_from(f"{order}H", data, start)
    places: dict[int, int] = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag, *_) = struct.unpack_from(f"{order}HHII", data, entry)
        places.setdefault(tag, entry)
    return places


def _number(data: bytearray, order: str, entry: int | None) -> int | None:
    """The value of an entry of one whole number; None for any other."""
    if entry is None:
        return None
    _, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
    if count != 1 or kind not in (_SHORT, _LONG):
        return None
    return int(struct.unpack_from(f"{order}{'I' if kind == _LONG else 'H'}", data, entry + 8)[0])


def _below(data: bytearray, order: str, directory: dict[int, int] | None, tag: int) -> dict[int, int] | None:
    """The sub-directory that an entry leads to."""
    start = _number(data, order, (directory or {}).get(tag))
    return None if start is None else _entries(data, order, start)


def _turn(
    data: bytearray,
    order: str,
    places: dict[int, int],
    sizes: tuple[int, int],
    axes: tuple[int, int] | None,
    size: tuple[int, int],
    orientation: int,
) -> None:
    """Write the upright size where the tags `sizes` are, and let `axes` change places where the picture was turned."""
    width, height = size if orientation < 5 else size[::-1]
    for tag, value in zip(sizes, (width, height), strict=True):
        if _number(data, order, places.get(tag)) is not None:
            struct.pack_into(f"{order}HHII", data, places[tag], tag, _LONG, 1, value)
    if axes is not None and orientation >= 5 and all(tag in places for tag in axes):
        x, y = (slice(places[tag] + 2, places[tag] + 12) for tag in axes)
        data[x], data[y] = data[y], data[x]


def descriptive_tags(exif: Image.Exif) -> Image.Exif:
    """Those tags that describe the picture and not how its pixels are stored, with their sub-directories."""
    tags = Image.Exif()
    for tag in exif:
        if tag in (_EXIF_IFD, _GPS_IFD):
            tags.get_ifd(tag).update(exif.get_ifd(tag))
            tags[tag] = 0  # replaced by the offset of the sub-directory when written
        elif tag not in _STRIP_TAGS | _SAMPLE_TAGS | _FOREIGN_TAGS:
            tags[tag] = exif[tag]
    camera = tags.get_ifd(_EXIF_IFD)
    if _INTEROP_IFD in camera:
        camera[_INTEROP_IFD] = exif.get_ifd(_INTEROP_IFD)
    return tags


def sound_profile(profile: object) -> bytes | None:
    """What a file has for an ICC profile, None where it is none."""
    return profile if isinstance(profile, bytes) and len(profile) >= 128 and profile[36:40] == b"acsp" else None


def profile_space(profile: bytes) -> str:
    """The colour space that an ICC profile describes: `RGB`, `GRAY`, `CMYK`, ..."""
    return profile[16:20].decode("ascii", "replace").strip()


def to_srgb(mode: str, profile: bytes | None) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB of CMYK, or of parts of it: its ICC profile where that is usable, else plain arithmetic."""
    if profile is not None and profile_space(profile) == mode:
        try:
            transform = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                mode,
                "RGB",
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except ImageCms.PyCMSError:
            pass  # a broken profile tells no more than none
        else:
            return transform.apply
    return lambda inks: inks.convert("RGB")


def source_resolution(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch (x, y) of an opened picture, None where unknown or beyond what every format can hold."""
    try:
        dpi = image.info["dpi"]
        x, y = float(dpi[0]), float(dpi[1])
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
        return None
    # Pillow reports 1 for a TIFF that does not say.
    return (x, y) if all(math.isfinite(v) and 1 < v < 65535 for v in (x, y)) else None
