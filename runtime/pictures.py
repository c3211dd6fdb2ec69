"""Pictures in and out: finding, reading, checking where results go, and writing them like their sources.

A result keeps its source's transparency, grey, EXIF, ICC profile and resolution. What the format of the result cannot
hold is refused before time is spent on restoring, if leaving it out would change how the picture looks; otherwise it is
left out: 16 bits except in PNG and TIFF, EXIF and resolution except where the format has a place for them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrs.runtime.atomic import replacing
from mrs.runtime.errors import PictureError
from mrs.runtime.picture_decoding import MAX_PIXELS, Picture, picture_size, read_picture
from mrs.runtime.picture_metadata import descriptive_tags, profile_space

__all__ = [
    "MAX_PIXELS", "SUFFIXES", "Picture", "check_target", "find_pictures", "picture_size", "read_picture",
    "write_picture",
]  # fmt: skip

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}

SUFFIXES = tuple(_FORMATS)
"""Suffixes, in lower case, of the picture files that are found in folders and can be written."""

_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
_LONGEST_JPEG_EXIF = 65533
_BAND = 256  # rows converted at a time, which bounds the memory for intermediate values


def find_pictures(inputs: Sequence[Path], exclude: Path | None = None) -> list[tuple[Path, Path]]:
    """The picture files that `inputs` name, each with the relative path that its result should have.

    A file stands for itself, whatever its suffix, and its result gets its name. A folder is searched recursively, in
    sorted order, without hidden entries, entries of other suffixes, and the folder `exclude` (where results go); the
    result of a picture in it gets the picture's path within the folder.

    Raises:
        PictureError: for a missing or unreadable input, a folder without pictures, no input at all, or two pictures
            whose results would have the same path.
    """
    found: dict[Path, Path] = {}  # source by relative path of its result
    for path in inputs:
        try:
            for source, relative in _pictures_of(path, exclude):
                other = found.setdefault(relative, source)
                if other != source and not other.samefile(source):
                    raise PictureError(
                        f"{other} and {source} would both be written as {relative}",
                        hint="restore them in separate runs",
                    )
        except OSError as error:
            raise PictureError(
                f"cannot read {error.filename or path}: {error.strerror}", hint="check the path and its permissions"
            ) from error
    if not found:
        raise PictureError("no pictures given", hint="name picture files or folders of them")
    return [(source, relative) for relative, source in found.items()]


def _pictures_of(path: Path, exclude: Path | None) -> Iterator[tuple[Path, Path]]:
    if path.is_file():
        yield path, Path(path.name)
    elif path.is_dir():
        sources = sorted(_walk(path, exclude))
        if not sources:
            raise PictureError(f"folder {path} holds no pictures", hint=f"supported are {' '.join(SUFFIXES)}")
        for source in sources:
            yield source, source.relative_to(path)
    elif path.exists():
        raise PictureError(f"{path} is neither a file nor a folder", hint="give picture files or folders of them")
    else:
        raise PictureError(f"picture {path} does not exist", hint="check the path")


def _walk(folder: Path, exclude: Path | None) -> Iterator[Path]:
    def fail(error: OSError) -> None:  # os.walk passes over folders it cannot list
        raise error

    excluded = None if exclude is None else exclude.resolve()
    for parent, folders, files in os.walk(folder, onerror=fail):
        # os.walk descends into what is left in its own list.
        folders[:] = [name for name in folders if name[0] != "." and Path(parent, name).resolve() != excluded]
        for name in files:
            path = Path(parent, name)
            if name[0] != "." and path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def check_target(path: Path, overwrite: bool = False, like: Picture | None = None) -> None:
    """Check that a result can be written to `path`; with `like`, that its format holds what this picture has.

    Raises:
        PictureError: for an unsupported suffix, a missing or read-only folder, an existing file (the source included)
            unless `overwrite`, and for transparency, ICC profile, EXIF or size that do not fit the format.
    """
    form = _format(path)
    if not os.path.isdir(path.parent):
        raise PictureError(f"cannot write {path}: its folder does not exist", hint=f"make {path.parent} first")
    if os.path.isdir(path):
        raise PictureError(f"cannot write {path}: it is a folder", hint="give a file name")
    if os.path.lexists(path) and not overwrite:
        raise PictureError(f"{path} exists", hint="pass --overwrite to replace it")
    if not os.access(path.parent, os.W_OK):
        raise PictureError(f"cannot write {path}: its folder is read-only", hint="choose another folder")
    if like is not None:
        _check_fits(path, form, like.rgb.shape, like)


def write_picture(
    path: Path, rgb: NDArray[Any], like: Picture | None = None, overwrite: bool = False, quality: int = 95
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
        return _FORMATS[path.suffix.lower()]
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
    if like.exif is not None and form == "JPEG" and len(like.exif) > _LONGEST_JPEG_EXIF:
        raise PictureError(
            f"cannot write {path}: the source has {len(like.exif)} bytes of EXIF, JPEG holds {_LONGEST_JPEG_EXIF}",
            hint=hint,
        )


def _encode(rgb: NDArray[Any], like: Picture, form: str, quality: int) -> bytes:
    """The bytes of the file."""
    deep = like.bits == 16 and like.grey and like.alpha is None and form in ("PNG", "TIFF")
    levels = _levels(rgb, like.grey, np.uint16 if deep else np.uint8)
    if like.alpha is not None and form not in ("JPEG", "BMP"):
        levels = np.dstack([levels, like.alpha])
    options: dict[str, Any] = {}
    if form == "JPEG":
        options = {"quality": quality, "subsampling": "4:4:4"}
    elif form == "WEBP" and like.lossless:
        options = {"lossless": True, "exact": True}  # exact: also the colours of fully transparent pixels
    elif form == "WEBP":
        options = {"quality": quality}
    if like.icc is not None:
        options["icc_profile"] = like.icc
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


def _levels(rgb: NDArray[Any], grey: bool, dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
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
