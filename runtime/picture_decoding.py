"""PNG, JPEG, WebP, TIFF and BMP files to upright RGB arrays.

Whatever Pillow would decode with a silent loss is refused by name: more than 8 bits per colour channel, animations and
pages, floats, colour spaces other than grey, RGB and CMYK. Of a JPEG with secondary pictures (camera previews, depth,
gain maps) the primary one is read, as viewers do. No global setting of Pillow is touched.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL import WebPImagePlugin as WebpImagePlugin

from mrs.runtime.errors import MrsError, PictureError
from mrs.runtime.picture_metadata import (
    cmyk_to_srgb,
    profile_space,
    source_exif,
    source_profile,
    source_resolution,
    upright_exif,
)

MAX_PIXELS = 2**28
"""Pictures of more (16384x16384) are taken for decompression bombs. For WebP Pillow's own limit stays, 2/3 of this."""

_GREY_MODES = ("1", "L", "LA", "La")
_MODES = (*_GREY_MODES, "I;16", "I;16B", "P", "PA", "RGB", "RGBA", "CMYK")

_FULL_RANGE = {"L;2": 85, "L;4": 17}
"""Factors that take 2 and 4-bit grey to 0..255; Pillow applies them to the pixels, not to the transparent level."""

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257

_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
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


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture, and what is needed to write a result like it.

    Attributes:
        rgb: (height, width, 3); uint8, or float32 in [0, 1] where `bits` is 16. Grey pictures have equal channels.
        alpha: (height, width) uint8, 255 opaque; None where the file has no transparency.
        grey: whether the file holds grey levels.
        bits: bits per channel of the file's pixels, 8 or, for grey only, 16.
        lossless: whether the file's format is lossless.
        exif: EXIF behind the bytes `Exif\\0\\0`, with Orientation 1 and without thumbnail.
        icc: the ICC profile of the pixels in `rgb`, where `grey` of grey levels.
        dpi: pixels per inch, (x, y).
    """

    rgb: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    grey: bool = False
    bits: int = 8
    lossless: bool = True
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None

    @property
    def transparent(self) -> bool:
        """Whether any pixel is not fully opaque."""
        return self.alpha is not None and bool((self.alpha != 255).any())


def read_picture(path: Path) -> Picture:
    """The picture in the file `path`, whose format is told by its content.

    CMYK becomes sRGB, through the file's ICC profile where it has a usable one. ICC profiles that do not fit the pixels
    are left out, as viewers ignore them.

    Raises:
        PictureError: where the file is missing, unreadable, empty, no picture, damaged, cut short, of more than
            `MAX_PIXELS` pixels, or of a kind that cannot be restored without loss.
    """
    try:
        if path.is_dir():
            raise PictureError(f"{path} is a folder, not a picture", hint="give a picture file")
        if not path.exists():
            raise PictureError(f"picture {path} does not exist", hint="check the path")
        if not path.is_file():
            raise PictureError(f"{path} is not a regular file", hint="give a picture file")
        with path.open("rb") as file:
            return _read(path, file)
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
        plugin = _plugin(file.read(12))
        if plugin is not None:
            file.seek(0)
            width, height = plugin(file).size
            return height, width
    return None


def _undecodable(path: Path, error: Exception) -> PictureError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return PictureError(
        f"cannot decode {path}: {reason}",
        hint="the file is damaged, cut short or of a rare kind: fetch it again, or export it as 8-bit PNG",
    )


def _read(path: Path, file: BinaryIO) -> Picture:
    start = file.read(12)
    if not start:
        raise PictureError(f"picture {path} is empty", hint="fetch the file again")
    plugin = _plugin(start)
    if plugin is None:
        raise PictureError(f"{path} is not a PNG, JPEG, WebP, TIFF or BMP picture", hint="convert it to one of them")
    lossless = plugin is not JpegImagePlugin.JpegImageFile
    if plugin is WebpImagePlugin.WebPImageFile:
        lossless = _is_lossless_webp(file)
    file.seek(0)
    image = plugin(file)
    raw_mode = _png_raw_mode(image) if isinstance(image, PngImagePlugin.PngImageFile) else ""
    _refuse(path, image, raw_mode)
    if isinstance(image, PngImagePlugin.PngImageFile):
        image.verify()  # checksums, which loading skips, and the end of the file
        file.seek(0)
        image = plugin(file)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        # An orientation in XMP is for viewers of XMP; without it Pillow applies that of the TIFF tag alone.
        image.info.pop("xmp", None)
        # Pillow holds TIFF to its own lower limit when it allocates the pixels; memory in place is used as it is.
        image.im = Image.new(image.mode, (image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]), color=None).im
    with image:
        image.load()
        if raw_mode in _FULL_RANGE and "transparency" in image.info:
            image.info["transparency"] *= _FULL_RANGE[raw_mode]
        exif, orientation = upright_exif(source_exif(image))  # Pillow has turned a TIFF and says so here
        rgb, alpha, grey = _pixels(image)
        profile = source_profile(image)
        if profile is not None and profile_space(profile) not in (("GRAY", "RGB") if grey else ("RGB",)):
            profile = None
        upright = _UPRIGHT[orientation]
        return Picture(
            rgb=np.ascontiguousarray(upright(rgb)),
            alpha=None if alpha is None else np.ascontiguousarray(upright(alpha)),
            grey=grey,
            bits=16 if image.mode.startswith("I;16") else 8,
            lossless=lossless,
            exif=exif,
            icc=profile,
            dpi=_turned(source_resolution(image), orientation),
        )


def _plugin(start: bytes) -> Callable[[BinaryIO], ImageFile.ImageFile] | None:
    """Pillow's reader for a file that begins so.

    Readers are called directly, and on open files, because `Image.open` applies Pillow's pixel limit, and with a path
    maps files into memory, which decodes TIFFs that lie on their side wrongly (Pillow 13.0).
    """
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return WebpImagePlugin.WebPImageFile
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return TiffImagePlugin.TiffImageFile
    if start.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    return None


def _is_lossless_webp(file: BinaryIO) -> bool:
    file.seek(12)
    while len(header := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        file.seek(size + size % 2, io.SEEK_CUR)
    return False


def _refuse(path: Path, image: ImageFile.ImageFile, raw_mode: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"picture {path} has {width}x{height} = {width * height} pixels, the limit is {MAX_PIXELS}",
            hint="scale it down or cut it up",
        )
    if getattr(image, "is_animated", False):
        raise PictureError(f"{path} holds several frames or pages", hint="save the one to restore as a file of its own")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _refuse_tiff(path, image)
    elif ";16" in raw_mode and (image.mode != "I;16" or "transparency" in image.info):
        kind = "grey with transparency" if image.mode == "I;16" or raw_mode.startswith("LA") else "colour"
        raise PictureError(f"{path} holds 16-bit {kind}", hint="convert it to 8 bits, or to 16-bit grey")
    if image.mode not in _MODES:
        raise PictureError(f"{path} has pixels of mode {image.mode}", hint="convert it to 8-bit RGB or to grey")


def _png_raw_mode(image: PngImagePlugin.PngImageFile) -> str:
    """The stored kind of pixels in Pillow's terms, such as `RGB;16B`."""
    if not image.tile:
        raise SyntaxError("it holds no pixels")
    return str(image.tile[0].args)


def _refuse_tiff(path: Path, image: TiffImagePlugin.TiffImageFile) -> None:
    bits = set(image.tag_v2.get(_TIFF_BITS, (1,)))
    if set(image.tag_v2.get(_TIFF_SAMPLE_FORMAT, (1,))) != {1}:
        raise PictureError(f"{path} holds signed or floating-point samples", hint="convert it to 8 bits")
    if not bits <= {1, 2, 4, 8} and not (bits == {16} and image.mode.startswith("I;16")):
        depth = "/".join(str(number) for number in sorted(bits))
        raise PictureError(f"{path} holds {depth}-bit samples", hint="convert it to 8 bits, or to 16-bit grey")


def _pixels(image: ImageFile.ImageFile) -> tuple[NDArray[Any], NDArray[np.uint8] | None, bool]:
    """RGB as in `Picture`, alpha and whether it is grey, as the file stores them."""
    if image.mode.startswith("I;16"):
        levels = np.array(image).astype(np.float32)
        levels /= 65535
        # Pillow inverts 8-bit "white is zero", but not this.
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0:
            np.subtract(1, levels, out=levels)
        return _repeated(levels), None, True
    plain = cmyk_to_srgb(image) if image.mode == "CMYK" else image
    grey = plain.mode in _GREY_MODES
    mode = ("L" if grey else "RGB") + ("A" if plain.has_transparency_data else "")
    array = np.array(plain if plain.mode == mode else plain.convert(mode))
    alpha = None
    if mode.endswith("A"):
        array, alpha = array[..., :-1], array[..., -1]
    return _repeated(array.reshape(array.shape[:2])) if grey else array, alpha, grey


def _repeated(levels: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(levels[:, :, None], 3, axis=2)


def _turned(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    return dpi if dpi is None or orientation < 5 else dpi[::-1]
