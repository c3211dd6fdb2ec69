"""EXIF, colour profile and resolution of a picture file, ready to be written beside other pixels.

XMP, IPTC, comments and thumbnails are left behind: they describe, or show, the picture as it was.
"""

from __future__ import annotations

import io
import math
import re
import struct
from typing import Any

from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

EXIF_PREFIX = b"Exif\0\0"

_SHORT, _LONG = 3, 4  # types of values
_ORIENTATION = int(ExifTags.Base.Orientation)
_EXIF_IFD = int(ExifTags.IFD.Exif)
_GPS_IFD = int(ExifTags.IFD.GPSInfo)
_INTEROP_IFD = int(ExifTags.IFD.Interop)

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


def upright_exif(exif: bytes | None) -> tuple[bytes | None, int]:
    """The EXIF with Orientation 1 and without thumbnail, and the orientation (1 to 8) that it had.

    The bytes are changed in place, so that every other tag and all offsets (which the notes of camera makers rely on)
    stay as they are. EXIF that cannot be read gives (None, 1), as picture viewers ignore it too.
    """
    data = bytearray(re.sub(rb"^(Exif\0\0){1,2}", b"", exif or b""))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        return None, 1
    orientation = 1
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            if tag == _ORIENTATION:
                (orientation,) = struct.unpack_from(f"{order}{'I' if kind == _LONG else 'H'}", data, entry + 8)
                struct.pack_into(f"{order}HHIHH", data, entry, tag, _SHORT, 1, 1, 0)
        # Without the offset of the next directory, the thumbnail of the unrestored picture is no longer found.
        if len(data) >= start + 2 + 12 * count + 4:
            struct.pack_into(f"{order}I", data, start + 2 + 12 * count, 0)
    except struct.error:
        return None, 1
    return EXIF_PREFIX + bytes(data), orientation if 1 <= orientation <= 8 else 1


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


def source_profile(image: Image.Image) -> bytes | None:
    """The ICC profile of an opened picture, None where it has none or what it has is no ICC profile."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and len(profile) >= 128 and profile[36:40] == b"acsp" else None


def profile_space(profile: bytes) -> str:
    """The colour space that an ICC profile describes: `RGB`, `GRAY`, `CMYK`, ..."""
    return profile[16:20].decode("ascii", "replace").strip()


def cmyk_to_srgb(image: Image.Image) -> Image.Image:
    """RGB for an opened CMYK picture: through its ICC profile where it has a usable one, else by plain arithmetic."""
    profile = source_profile(image)
    if profile is not None and profile_space(profile) == "CMYK":
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            assert converted is not None  # None is for conversions in place
            return converted
        except ImageCms.PyCMSError:
            pass  # a broken profile tells no more than none
    return image.convert("RGB")


def source_resolution(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch (x, y) of an opened picture, None where unknown or beyond what every format can hold."""
    try:
        dpi: Any = image.info["dpi"]
        x, y = float(dpi[0]), float(dpi[1])
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
        return None
    # Pillow reports 1 for a TIFF that does not say.
    return (x, y) if all(math.isfinite(v) and 1 < v < 65535 for v in (x, y)) else None
