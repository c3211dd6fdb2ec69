"""Pictures in and out: finding, reading, checking where results go, and writing them like their sources.

A result keeps its source's transparency, grey, EXIF, colour space (ICC profile or a PNG's chunks) and resolution. What
the format of the result cannot hold is refused before time is spent on restoring, if leaving it out would change how
the picture looks; otherwise it is left out: 16 bits except in PNG and TIFF, EXIF and resolution except where the format
has a place for them.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mrs.kernels.update import Pixels
from mrs.runtime.enlarging import enlarged_levels
from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.colour import needed
from mrs.runtime.pictures.decoding import Picture, picture_size, read_picture
from mrs.runtime.pictures.folders import FORMATS, SUFFIXES, Found, find_pictures
from mrs.runtime.pictures.limits import PictureLimits
from mrs.runtime.pictures.metadata import descriptive_tags, profile_space, upright_exif
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.inputs import path_of

__all__ = [
    "SUFFIXES", "Found", "Picture", "PictureLimits", "check_target", "enlarged", "find_pictures", "picture_size",
    "read_picture", "write_picture",
]  # fmt: skip

_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
_LONGEST_JPEG_EXIF = 65533
_BAND = 256  # rows converted at a time, which bounds the memory for intermediate values


def check_target(path: Path, overwrite: bool = False, like: Picture | None = None) -> None:
    """Check that a result can be written to `path`; with `like`, that its format holds what this picture has.

    Raises:
        PictureError: for an unsupported suffix, a missing or read-only folder, an existing file (the source included)
            unless `overwrite`, and for transparency, ICC profile, EXIF or size that do not fit the format.
    """
    form = _format(path)
    if not os.path.isdir(path.parent):
        raise PictureError(
            f"cannot write {path}: its folder does not exist",
            hint=f"make {path.parent} first; as a folder of results, {path.parent}{os.sep} is made",
        )
    if os.path.isdir(path):
        raise PictureError(f"cannot write {path}: it is a folder", hint="give a file name")
    if os.path.lexists(path) and not overwrite:
        raise PictureError(f"{path} exists", hint="pass --overwrite to replace it")
    if not os.access(path.parent, os.W_OK):
        raise PictureError(f"cannot write {path}: its folder is read-only", hint="choose another folder")
    if like is not None:
        _check_fits(path, form, like.rgb.shape, like)


def enlarged(picture: Picture, factor: int) -> Picture:
    """What a result is to be like that is `factor` times as high and as wide as its source.

    Transparency is enlarged as the colours are, sizes in EXIF are the result's. Its `rgb` has that size and no colours.
    """
    if factor == 1:
        return picture
    height, width = (factor * side for side in picture.rgb.shape[:2])
    return replace(
        picture,
        # One zero, whatever the size.
        rgb=np.broadcast_to(np.uint8(0), (height, width, 3)),
        alpha=None if picture.alpha is None else enlarged_levels(picture.alpha, factor),
        exif=upright_exif(picture.exif, (width, height))[0],
    )


def write_picture(
    path: str | Path, rgb: Pixels, like: Picture | None = None, overwrite: bool = False, quality: int = 95
) -> None:
    """Write `rgb` to `path`, whole or not at all, in the format that the suffix names.

    PNG, TIFF (uncompressed, the only kind in which Pillow writes EXIF) and BMP are lossless; so is WebP where `like`
    came from a lossless file. JPEG keeps full colour resolution.

    Args:
        rgb: (height, width, 3), uint8 or floating point; floats are clipped to [0, 1] and rounded to the nearest level.
        like: the source; its transparency, EXIF, ICC profile and resolution go into the file, and where it is grey the
            mean of the three channels is written as grey, of 16 bits where the source has them and the format is PNG
            or TIFF.
        quality: of JPEG and lossy WebP, 1 to 100.

    Raises:
        PictureError: as `check_target` does; for NaN or infinity, another shape or dtype, a size unlike that of the
            source's transparency, or a `quality` out of range.
        InputError: where the file system refuses.
    """
    path = path_of("picture", path)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size or not (rgb.dtype == np.uint8 or rgb.dtype.kind == "f"):
        raise PictureError(
            f"cannot write {path}: pixels are {rgb.dtype} of shape {rgb.shape}", hint="give (H, W, 3) uint8 or float"
        )
    if rgb.dtype.kind == "f" and not np.isfinite(rgb).all():
        raise PictureError(f"cannot write {path}: pixels hold NaN or infinity", hint="restore in another precision")
    if not 1 <= quality <= 100:
        raise PictureError(f"cannot write {path}: quality is {quality}", hint="give 1 to 100")
    check_target(path, overwrite)
    form = _format(path)
    like = like or Picture(rgb, lossless=False)
    _check_fits(path, form, rgb.shape, like)
    try:
        data = _encode(rgb, like, form, quality)
    except Exception as error:  # Pillow's writers meet foreign metadata with any kind of exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"cannot encode {path} as {form}: {reason}", hint="choose another format") from error
    with replacing(path, overwrite) as file:
        file.write(data)


def _format(path: Path) -> str:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        kind = f"the suffix {path.suffix}" if path.suffix else "a name without suffix"
        raise PictureError(
            f"cannot write {path}: {kind} names no supported format", hint=f"use one of {' '.join(SUFFIXES)}"
        ) from None


def _check_fits(path: Path, form: str, shape: tuple[int, ...], like: Picture) -> None:
    hint = "choose .png or .tif"
    if max(shape) > _LONGEST_SIDE.get(form, max(shape)):
        size = f"{shape[1]}x{shape[0]}"
        raise PictureError(f"cannot write {path}: {size} is more than {_LONGEST_SIDE[form]} a side", hint=hint)
    if like.transparent and form in ("JPEG", "BMP"):
        raise PictureError(f"cannot write {path}: {form} holds no transparency", hint="choose .png, .webp or .tif")
    if like.alpha is not None and like.alpha.shape != shape[:2]:
        raise PictureError(
            f"cannot write {path}: {shape[1]}x{shape[0]} pixels, but the source's transparency has "
            f"{like.alpha.shape[1]}x{like.alpha.shape[0]}",
            hint="write it without `like`",
        )
    if like.icc is not None and form == "BMP":
        raise PictureError(f"cannot write {path}: BMP holds no ICC profile, and the source has one", hint=hint)
    if like.icc is not None and form == "WEBP" and profile_space(like.icc) == "GRAY":
        raise PictureError(f"cannot write {path}: WebP holds no ICC profile of grey, and the source has one", hint=hint)
    lost = "" if form == "PNG" else needed(like.colour, like.icc)
    if lost:
        raise PictureError(
            f"cannot write {path}: {form} has no place for {lost}, and the source has one", hint="choose .png"
        )
    if like.exif is not None and form == "JPEG" and len(like.exif) > _LONGEST_JPEG_EXIF:
        raise PictureError(
            f"cannot write {path}: the source has {len(like.exif)} bytes of EXIF, JPEG holds {_LONGEST_JPEG_EXIF}",
            hint=hint,
        )


def _encode(rgb: Pixels, like: Picture, form: str, quality: int) -> bytes:
    """The bytes of the file."""
    deep = like.bits == 16 and like.grey and like.alpha is None and form in ("PNG", "TIFF")
    levels = _levels(rgb, like.grey, np.uint16 if deep else np.uint8)
    if like.alpha is not None and form not in ("JPEG", "BMP"):
        levels = np.dstack([levels, like.alpha])
    options: dict[str, object] = {}
    if form == "JPEG":
        options = {"quality": quality, "subsampling": "4:4:4"}
    elif form == "WEBP" and like.lossless:
        options = {"lossless": True, "exact": True}  # exact: also the colours of fully transparent pixels
    elif form == "WEBP":
        options = {"quality": quality}
    if like.icc is not None:
        options["icc_profile"] = like.icc
    if like.colour and form == "PNG":
        options["pnginfo"] = chunks = PngInfo()
        for name, content in like.colour:
            chunks.add(name, content)
    if like.dpi is not None:
        options["dpi"] = like.dpi
    if like.exif is not None and form == "TIFF":
        # A TIFF's EXIF is its own directory, where the source's size or strips would be taken for those of the result.
        exif = Image.Exif()
        exif.load(like.exif)
        options["exif"] = descriptive_tags(exif)
    elif like.exif is not None:
        options["exif"] = like.exif
    file = io.BytesIO()
    Image.fromarray(levels).save(file, form, **options)
    return file.getvalue()


def _levels(rgb: Pixels, grey: bool, dtype: type[np.uint8] | type[np.uint16]) -> NDArray[np.uint8 | np.uint16]:
    """Integer levels, (H, W) where `grey`, else (H, W, 3)."""
    top = int(np.iinfo(dtype).max)
    levels = np.empty(rgb.shape[:2] if grey else rgb.shape, dtype)
    for row in range(0, len(rgb), _BAND):
        band, out = rgb[row : row + _BAND], levels[row : row + _BAND]
        if band.dtype != np.uint8:
            band = np.clip(band, 0, 1)
            out[:] = np.rint((band.mean(axis=2, dtype=np.float64) if grey else band) * top)
        elif grey:
            out[:] = (band.sum(axis=2, dtype=np.uint32) * (top // 255) + 1) // 3  # a third is never half way
        else:
            out[:] = band
    return levels
