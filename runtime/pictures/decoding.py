"""PNG, JPEG, WebP, TIFF and BMP files to upright RGB arrays.

Whatever Pillow would decode with a silent loss is refused by name: more than 8 bits per colour channel, animations and
pages, floats, colour spaces other than grey, RGB and CMYK, encodings that are not for screens. So is what would cost
more than `PictureLimits` allow. What each format asks for before it is decoded is in `formats`. No setting of Pillow
is touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mrs.kernels.update import Pixels
from mrs.runtime.errors import MrsError, PictureError
from mrs.runtime.pictures.colour import Chunks, carried, check_encoding
from mrs.runtime.pictures.formats import bmp, jpeg, png, tiff, webp
from mrs.runtime.pictures.formats.loaded import Loaded
from mrs.runtime.pictures.limits import DEFAULT_LIMITS, Budget, PictureLimits
from mrs.runtime.pictures.metadata import (
    profile_space,
    sound_profile,
    source_exif,
    source_resolution,
    to_srgb,
    upright_exif,
)
from mrs.runtime.system.inputs import path_of

KINDS = "PNG, JPEG, WebP, TIFF or BMP"
"""What can be read, in words."""

_GREY_MODES = ("1", "L", "LA", "La")
_START = 18  # bytes that tell the format
_BLOCK = 1 << 20  # pixels converted at a time, which bounds the memory for intermediate values

_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
"""What each value of EXIF's Orientation asks of the stored pixels (height first)."""

_AS_STORED = {6: 8, 8: 6}
"""The orientation that undoes another, where it is not the same."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture, and what is needed to write a result like it.

    Attributes:
        rgb: (height, width, 3); uint8, or float32 in [0, 1] where `bits` is 16. Grey pictures have equal channels.
        alpha: (height, width) uint8, 255 opaque; None where the file has no transparency.
        grey: whether the file holds grey levels.
        bits: bits per channel of the file's pixels, 8 or, for grey only, 16.
        lossless: whether the file's format is lossless.
        exif: EXIF behind the bytes `Exif\\0\\0`, with Orientation 1, this picture's size and without thumbnail.
        icc: the ICC profile of the pixels in `rgb`, where `grey` of grey levels.
        dpi: pixels per inch, (x, y).
        colour: chunks of a PNG that say, besides `icc`, what the samples mean: cICP, sRGB, gAMA, cHRM.
    """

    rgb: Pixels
    alpha: NDArray[np.uint8] | None = None
    grey: bool = False
    bits: int = 8
    lossless: bool = True
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    colour: Chunks = ()

    @property
    def transparent(self) -> bool:
        """Whether any pixel is not fully opaque."""
        return self.alpha is not None and bool((self.alpha != 255).any())


def format_of(start: bytes) -> ModuleType | None:
    """The module of `mrs.runtime.pictures.formats` for a file that begins so; None where there is none.

    Pillow's readers are called directly, and on open files, because `Image.open` applies Pillow's pixel limit, and with
    a path maps files into memory, which decodes TIFFs that lie on their side wrongly (Pillow 13.0).
    """
    if start.startswith(png.SIGNATURE):
        return png
    if start.startswith(jpeg.SIGNATURE):
        return jpeg
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return webp
    if start.startswith(tiff.SIGNATURES):
        return tiff
    # Many a text begins with the two letters.
    if start.startswith(bmp.SIGNATURE) and int.from_bytes(start[14:18], "little") in bmp.HEADERS:
        return bmp
    return None


def format_of_file(path: Path) -> ModuleType | None:
    """The module for a regular file, by its first bytes.

    Raises:
        OSError: where it cannot be read.
    """
    with path.open("rb") as file:
        return format_of(file.read(_START))


def read_picture(path: str | Path, limits: PictureLimits = DEFAULT_LIMITS) -> Picture:
    """The picture in the file `path`, whose format is told by its content.

    CMYK becomes sRGB, through the file's ICC profile where it has a usable one. ICC profiles that do not fit the pixels
    are left out, as viewers ignore them.

    Raises:
        InputError: for what is no path.
        PictureError: where the file is missing, unreadable, empty, no picture, damaged, cut short, exceeds the limits,
            or is of a kind that cannot be restored without loss.
    """
    path = path_of("picture", path)
    try:
        if path.is_dir():
            raise PictureError(f"{path} is a folder, not a picture", hint="give a picture file")
        if not path.exists():
            raise PictureError(f"picture {path} does not exist", hint="check the path")
        if not path.is_file():
            raise PictureError(f"{path} is not a regular file", hint="give a picture file")
        with path.open("rb") as file:
            return _read(path, file, limits)
    except MrsError:
        raise
    except MemoryError:
        raise PictureError(f"picture {path} does not fit into memory", hint="scale it down or cut it up") from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"picture {path} is too large: {str(error).split(',')[0]}", hint="scale it down") from error
    except OSError as error:
        if error.errno is not None:  # from the operating system, not from a decoder
            raise PictureError(
                f"cannot read {path}: {error.strerror}", hint="check the path and its permissions"
            ) from error
        raise _undecodable(path, error) from error
    except Exception as error:  # decoders meet hostile bytes with any kind of exception; the file is at fault
        raise _undecodable(path, error) from error


def picture_size(path: Path) -> tuple[int, int] | None:
    """(height, width) that the file's header tells, as stored, without decoding the pixels; None where it tells none.

    What is wrong with a file is `read_picture`'s to say.
    """
    # Decoders meet hostile bytes with any kind of exception.
    with suppress(Exception), path.open("rb") as file:
        form = format_of(file.read(_START))
        if form is not None:
            file.seek(0)
            width, height = form.size(file, _budget(path, file, DEFAULT_LIMITS))
            return height, width
    return None


def _budget(path: Path, file: BinaryIO, limits: PictureLimits) -> Budget:
    return Budget(path, limits, os.fstat(file.fileno()).st_size)


def _undecodable(path: Path, error: Exception) -> PictureError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return PictureError(
        f"cannot decode {path}: {reason}",
        hint="the file is damaged, cut short or of a rare kind: fetch it again, or export it as 8-bit PNG",
    )


def _read(path: Path, file: BinaryIO, limits: PictureLimits) -> Picture:
    start = file.read(_START)
    if not start:
        raise PictureError(f"picture {path} is empty", hint="fetch the file again")
    form = format_of(start)
    if form is None:
        raise PictureError(f"{path} is not a {KINDS} picture", hint="convert it to one of them")
    file.seek(0)
    loaded: Loaded = form.load(file, _budget(path, file, limits))
    image = loaded.image
    with image:
        profile = sound_profile(loaded.icc or image.info.get("icc_profile"))
        exif, orientation = upright_exif(source_exif(image), image.size)
        grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
        kept = profile
        if kept is not None and profile_space(kept) not in (("GRAY", "RGB") if grey else ("RGB",)):
            kept = None
        colour = carried(loaded.colour)
        check_encoding(path, colour, kept)
        rgb, alpha = _pixels(loaded, profile, orientation)
        return Picture(
            rgb=rgb,
            alpha=alpha,
            grey=grey,
            bits=16 if image.mode.startswith("I;16") else 8,
            lossless=loaded.lossless,
            exif=exif,
            icc=kept,
            dpi=_turned(source_resolution(image), max(orientation, loaded.turned)),
            colour=colour,
        )


def _pixels(loaded: Loaded, profile: bytes | None, orientation: int) -> tuple[Pixels, NDArray[np.uint8] | None]:
    """Upright RGB and alpha as in `Picture`."""
    image = loaded.image
    deep, inks = image.mode.startswith("I;16"), image.mode == "CMYK"
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    mode += "A" if not deep and image.has_transparency_data else ""
    convert = to_srgb(image.mode, profile) if inks else None
    width, height = image.size
    shape = (width, height) if orientation >= 5 else (height, width)
    rgb = np.empty((*shape, 3), np.float32 if deep else np.uint8)
    alpha = np.empty(shape, np.uint8) if mode.endswith("A") else None
    # The arrays lie as the picture should, these views of them as it is stored.
    stored = _UPRIGHT[_AS_STORED.get(orientation, orientation)]
    colours, opacity = stored(rgb), None if alpha is None else stored(alpha)
    for left, top, right, bottom in _blocks(width, height):
        block: Image.Image = image.crop((left, top, right, bottom))
        here = slice(top, bottom), slice(left, right)
        if deep:
            levels = np.asarray(block).astype(np.float32)
            levels /= 65535
            colours[here] = (1 - levels if loaded.white_is_zero else levels)[..., None]
            continue
        if convert is not None:
            block = convert(block)
        array = np.asarray(block if block.mode == mode else block.convert(mode))
        array = array.reshape(bottom - top, right - left, len(mode))
        if opacity is not None:
            opacity[here] = array[..., -1]
            array = array[..., :-1]
        colours[here] = array
    return rgb, alpha


def _blocks(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right, bottom of blocks of whole rows, or of parts of very long ones."""
    columns = min(width, _BLOCK)
    rows = max(1, _BLOCK // columns)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(width, left + columns), min(height, top + rows)


def _turned(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    return dpi if dpi is None or orientation < 5 else dpi[::-1]
