"""What reading a picture may cost; what would cost more is refused before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mrs.runtime.errors import PictureError
from mrs.runtime.system import machine

# Bytes that Pillow keeps for each row besides its pixels: two pointers' worth and what rounds a row up.
_ROW = 12
_MIB = 1 << 20
_SMALLER = "scale it down or cut it up"


@dataclass(frozen=True)
class PictureLimits:
    """The most that a picture may cost to read; docs/pictures.md has the reasons for the defaults.

    Attributes:
        pixels: width times height.
        memory: bytes at the peak of reading, file and result included, which may also not exceed the free memory.
        allowance, ratio: up to `allowance` bytes of memory for any file; above, `ratio` for each byte of the file.
        work: pixels times scans, for a JPEG that is sent in several scans.
        parts: chunks of a PNG or WebP, segments of a JPEG, directories of a TIFF.
    """

    pixels: int = 1 << 28
    memory: int = 1 << 31
    allowance: int = 1 << 29
    ratio: int = 2000
    work: int = 1 << 32
    parts: int = 100_000


DEFAULT_LIMITS = PictureLimits()


@dataclass(frozen=True)
class Budget:
    """The limits as they apply to one file.

    Args:
        path: named in errors.
        limits: that hold.
        length: of the file, bytes.
    """

    path: Path
    limits: PictureLimits
    length: int

    def check_size(self, width: int, height: int) -> None:
        """Refuse too many pixels, or a side without any.

        Raises:
            PictureError: for too many.
            ValueError: for none.
        """
        if width < 1 or height < 1:
            raise ValueError(f"it has {width}x{height} pixels")
        if width * height > self.limits.pixels:
            raise PictureError(
                f"picture {self.path} has {width}x{height} = {width * height} pixels, the limit is "
                f"{self.limits.pixels}",
                hint=f"{_SMALLER}, or raise the limit: --max-pixels {width * height}",
            )

    def check_memory(self, width: int, height: int, per_pixel: float, more: int = 0) -> None:
        """Refuse what takes too much memory.

        Args:
            width, height: of the picture.
            per_pixel: bytes for each pixel at the peak, of the decoder and of the result.
            more: bytes that do not depend on the size.

        Raises:
            PictureError: where the limit, the file's length or the free memory does not allow as much.
        """
        needed = int(width * height * per_pixel) + height * _ROW + more
        limits, mib = self.limits, -(-needed // _MIB)
        what = f"reading {self.path} ({width}x{height}) takes {mib} MiB of memory"
        hint = f"{_SMALLER}, or raise the limit: --max-picture-memory {mib}"
        if needed > limits.memory:
            raise PictureError(f"{what}, the limit is {limits.memory // _MIB} MiB", hint=hint)
        if needed > max(limits.allowance, limits.ratio * self.length):
            raise PictureError(
                f"{what}, which is too much for a file of {self.length} bytes",
                hint=f"it looks like a decompression bomb; if it is none: --max-picture-memory {mib}",
            )
        free = machine.free_memory()
        if free is not None and needed > free:
            raise PictureError(f"{what}, of which {free // _MIB} MiB are free", hint=_SMALLER)

    def check_work(self, width: int, height: int, scans: int) -> None:
        """Refuse a picture that is sent in very many scans.

        Raises:
            PictureError: for too many for its size.
        """
        if width * height * scans > self.limits.work:
            raise PictureError(
                f"{self.path} sends its {width}x{height} pixels in {scans} scans, the limit for as many pixels is "
                f"{self.limits.work // (width * height)}",
                hint="save it anew, as a baseline JPEG",
            )

    def check_parts(self, count: int, named: str) -> None:
        """Refuse a file of very many parts.

        Raises:
            PictureError: for too many; `named` says of what.
        """
        if count > self.limits.parts:
            raise PictureError(f"{self.path} has more than {self.limits.parts} {named}", hint="save it anew")
