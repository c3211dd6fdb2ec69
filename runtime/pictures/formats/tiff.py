"""TIFF files: the page to read is chosen, and its strips or tiles are counted, before Pillow decodes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image, TiffImagePlugin

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.formats import libtiff
from mrs.runtime.pictures.formats.jpeg import check_piece
from mrs.runtime.pictures.formats.loaded import ALPHA, DEEP_RESULT, RESULT, STORED, Loaded, check_mode, refuse_frames
from mrs.runtime.pictures.limits import Budget

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_KIND, _OLD_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_SAMPLES, _ROWS, _PLANAR, _SUB_DIRECTORIES, _SAMPLE_FORMAT = 277, 278, 284, 330, 339
_STRIP_OFFSETS, _STRIP_LENGTHS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_LENGTHS = 273, 279, 322, 323, 324, 325
_ORIENTATION = int(ExifTags.Base.Orientation)
_REDUCED, _MASK = 1, 4  # bits of the kind
_OLD_REDUCED = 2
_RAW = (32803, 34892)  # photometric interpretations of a camera's sensor: filter array, linear
_PLAIN, _JPEG = 1, 7  # compressions

_VALUES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_VALUES = 1024


@dataclass(frozen=True)
class _Directory:
    kind: int
    photometric: int
    sub_directories: tuple[int, ...]
    next: int


def size(file: BinaryIO, budget: Budget) -> tuple[int, int]:
    """(width, height) by the header of a file that is at its beginning; upright, as Pillow tells it."""
    width, height = _opened(file, budget).size
    return width, height


def load(file: BinaryIO, budget: Budget) -> Loaded:
    """Decode a file that is at its beginning.

    Raises:
        PictureError: where it exceeds its budget, or is of a kind that cannot be restored without loss.
        Exception: of any kind, where it is damaged or cut short.
    """
    image = _opened(file, budget)
    tags = image.tag_v2
    width, height = tags[_WIDTH], tags[_HEIGHT]
    budget.check_size(width, height)
    _check_samples(image, budget)
    check_mode(budget.path, image.mode)
    piece = _check_pieces(file, tags, budget)
    orientation = tags.get(_ORIENTATION, 1)
    stored = STORED[image.mode]
    result = DEEP_RESULT if image.mode.startswith("I;16") else RESULT + ALPHA * image.mode.endswith(("A", "a"))
    # libtiff unpacks a strip or a tile before Pillow gets it, and Pillow turns the picture into another one.
    budget.check_memory(width, height, stored + max(result, stored if orientation != 1 else 0), more=piece)
    # An orientation in XMP is for viewers of XMP; without it Pillow applies that of the TIFF tag alone.
    image.info.pop("xmp", None)
    # Pillow holds TIFF to its own lower limit when it allocates the pixels; memory in place is used as it is.
    image.im = Image.new(image.mode, (width, height), color=None).im
    with libtiff.errors() as errors:
        try:
            image.load()
        except OSError:
            if not errors:  # which say more than a number
                raise
    if errors:
        raise ValueError(f"libtiff reports: {errors[0]}")
    return Loaded(
        image,
        turned=orientation if orientation in range(1, 9) else 1,
        # Pillow inverts 8-bit "white is zero", but not this.
        white_is_zero=image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0,
    )


def _opened(file: BinaryIO, budget: Budget) -> TiffImagePlugin.TiffImageFile:
    """At the page that is to be read."""
    order, big = _form(file)
    if order == ">" and big:  # Pillow takes its header for that of a small one
        raise PictureError(f"{budget.path} is a BigTIFF of big-endian numbers", hint="save it as little-endian TIFF")
    page = _page(file, budget)
    file.seek(0)
    image = TiffImagePlugin.TiffImageFile(file)
    if page:
        image.seek(page)
    return image


def _page(file: BinaryIO, budget: Budget) -> int:
    """The place of the picture in full resolution; thumbnails, overviews and masks may lie before or after it."""
    pages = list(_directories(file, budget))
    subs = [sub for page in pages for sub in page.sub_directories]
    budget.check_parts(len(pages) + len(subs), "directories")
    below = [_directory(file, sub) for sub in subs]
    if any(directory.photometric in _RAW for directory in (*pages, *below)):
        raise PictureError(f"{budget.path} holds a camera's raw data", hint="develop it and export it as 8-bit PNG")
    full = [place for place, page in enumerate(pages) if not page.kind & (_REDUCED | _MASK)]
    if len(full) > 1 or (len(pages) > 1 and not full):
        raise refuse_frames(budget.path)
    if not full and any(not directory.kind & (_REDUCED | _MASK) for directory in below):
        raise PictureError(
            f"{budget.path} has its picture in full resolution in a sub-directory", hint="export it as 8-bit PNG"
        )
    return full[0] if full else 0


def _directories(file: BinaryIO, budget: Budget) -> Iterator[_Directory]:
    """Those of the chain; one that leads back is its end."""
    file.seek(0)
    order, big = _form(file)
    start = struct.unpack(f"{order}Q" if big else f"{order}I", file.read(8 if big else 4))[0]
    seen: set[int] = set()
    while start and start not in seen:
        seen.add(start)
        budget.check_parts(len(seen), "directories")
        directory = _directory(file, start)
        yield directory
        start = directory.next


def _form(file: BinaryIO) -> tuple[str, bool]:
    """Byte order for `struct`, and whether offsets have 64 bits; the file is then at the first offset."""
    start = file.read(4)
    order = "<" if start[:2] == b"II" else ">"
    big = start[2:] in (b"+\0", b"\0+")
    if big:
        file.read(4)
    return order, big


def _directory(file: BinaryIO, start: int) -> _Directory:
    file.seek(0)
    order, big = _form(file)
    file.seek(start)
    count = struct.unpack(f"{order}Q" if big else f"{order}H", file.read(8 if big else 2))[0]
    width = 20 if big else 12
    if count > 65535:
        raise ValueError(f"a directory with {count} entries")
    entries = file.read(count * width)
    end = file.read(8 if big else 4)
    values: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries) - width + 1, width):
        tag, kind = struct.unpack_from(f"{order}HH", entries, at)
        if tag in (_KIND, _OLD_KIND, _PHOTOMETRIC, _SUB_DIRECTORIES) and kind in _VALUES:
            values.setdefault(tag, _values(file, order, big, kind, entries[at + 4 : at + width]))
    old = values.get(_OLD_KIND, (0,))[0] == _OLD_REDUCED
    return _Directory(
        kind=values.get(_KIND, (_REDUCED * old,))[0],
        photometric=values.get(_PHOTOMETRIC, (0,))[0],
        sub_directories=values.get(_SUB_DIRECTORIES, ()),
        # Some writers leave the last offset out.
        next=int.from_bytes(end, "little" if order == "<" else "big"),
    )


def _values(file: BinaryIO, order: str, big: bool, kind: int, entry: bytes) -> tuple[int, ...]:
    """Of an entry behind its tag and its kind; at least one."""
    count = struct.unpack_from(f"{order}Q" if big else f"{order}I", entry)[0]
    form = f"{order}{min(count, _MOST_VALUES)}{_VALUES[kind]}"
    place = entry[8 if big else 4 :]
    if struct.calcsize(form) > len(place):
        file.seek(struct.unpack(f"{order}Q" if big else f"{order}I", place)[0])
        place = file.read(struct.calcsize(form))
    return struct.unpack_from(form, place) or (0,)


def _check_samples(image: TiffImagePlugin.TiffImageFile, budget: Budget) -> None:
    bits = set(image.tag_v2.get(_BITS, (1,)))
    if set(image.tag_v2.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise PictureError(f"{budget.path} holds signed or floating-point samples", hint="convert it to 8 bits")
    if not bits <= {1, 2, 4, 8} and not (bits == {16} and image.mode.startswith("I;16")):
        depth = "/".join(str(number) for number in sorted(bits))
        raise PictureError(f"{budget.path} holds {depth}-bit samples", hint="convert it to 8 bits, or to 16-bit grey")


def _check_pieces(file: BinaryIO, tags: TiffImagePlugin.ImageFileDirectory_v2, budget: Budget) -> int:
    """Refuse strips or tiles that are missing, or shorter than their pixels; returns the bytes of one, unpacked."""
    width, height, samples = tags[_WIDTH], tags[_HEIGHT], tags.get(_SAMPLES, 1)
    tiled = _TILE_OFFSETS in tags
    if tiled:
        columns, rows = tags[_TILE_WIDTH], tags[_TILE_HEIGHT]
    else:
        columns, rows = width, min(height, tags.get(_ROWS, height))
    if columns < 1 or rows < 1:
        raise ValueError(f"its strips or tiles have {columns}x{rows} pixels")
    planes = samples if tags.get(_PLANAR, 1) == 2 else 1
    row = -(-columns * (samples // planes) * max(tags.get(_BITS, (1,))) // 8)
    down = -(-height // rows)
    needed = -(-width // columns) * down * planes
    named = "tiles" if tiled else "strips"
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    lengths = tags.get(_TILE_LENGTHS if tiled else _STRIP_LENGTHS)
    if min(len(offsets), needed if lengths is None else len(lengths)) < needed:
        raise ValueError(f"cut short: it has {len(offsets)} of {needed} {named}")
    plain, jpeg = tags.get(_COMPRESSION, 1) == _PLAIN, tags.get(_COMPRESSION, 1) == _JPEG
    for place, offset in enumerate(offsets[:needed]):
        last = not tiled and place % down == down - 1
        least = row * (height - rows * (down - 1) if last else rows) if plain else 1
        length = least if lengths is None else lengths[place]
        if length < least or offset + max(least, 0 if plain else length) > budget.length:
            raise ValueError(f"cut short: the data of its {named} ends before the pixels of number {place} of {needed}")
        if jpeg and lengths is not None:
            file.seek(offset)
            check_piece(file.read(length), budget)
    return 0 if plain else int(row * rows)
