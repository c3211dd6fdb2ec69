"""What a file says of its picture: carried to the result where it stays true, and dropped where it is damaged."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from mrs.runtime.pictures.metadata import (
    descriptive_tags,
    sound_profile,
    source_exif,
    source_resolution,
    upright_exif,
)
from tests.together import together

MAKE, ORIENTATION, WIDTH = 271, 274, 256
CAMERA, GPS, INTEROP = 0x8769, 0x8825, 0xA005
SIZE = 40, 30
MAKER_NOTE, THUMBNAIL = 0x927C, b"\xff\xd8 a thumbnail \xff\xd9"


def exif_bytes(order: str = "<", orientation: int | None = 6, kind: int = 3, thumbnail: bool = True) -> bytes:
    """EXIF written by hand: Make, Orientation, and a second directory that points to a thumbnail."""
    entries = [struct.pack(f"{order}HHI4s", MAKE, 2, 4, b"Us!\0")]
    if orientation is not None:
        value = struct.pack(f"{order}HH" if kind == 3 else f"{order}I", *(orientation, 0)[: 2 if kind == 3 else 1])
        entries.append(struct.pack(f"{order}HHI4s", ORIENTATION, kind, 1, value))
    second = 8 + 2 + 12 * len(entries) + 4
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries)) + b"".join(entries)
    if not thumbnail:
        return b"Exif\0\0" + data + bytes(4)
    data += struct.pack(f"{order}IH", second, 1)
    data += struct.pack(f"{order}HHII", 0x0201, 4, 1, second + 18) + bytes(4)
    return b"Exif\0\0" + data + THUMBNAIL


def tags(exif: bytes) -> Image.Exif:
    loaded = Image.Exif()
    loaded.load(exif)
    return loaded


@together("order", ["<", ">"])
@together("kind", [3, 4], ids=["short", "long"])
@together("orientation", range(1, 9))
def test_orientation_is_reported_and_set_to_1(order: str, kind: int, orientation: int) -> None:
    upright, found = upright_exif(exif_bytes(order, orientation, kind), SIZE)
    assert found == orientation
    assert upright is not None
    assert dict(tags(upright)) == {MAKE: "Us!", ORIENTATION: 1}


def test_everything_but_the_orientation_keeps_its_bytes_and_its_place() -> None:
    original = exif_bytes(orientation=8, thumbnail=False)
    upright, _ = upright_exif(original, SIZE)
    assert upright is not None
    assert len(upright) == len(original)
    assert sum(a != b for a, b in zip(upright, original, strict=True)) == 1


def test_the_thumbnail_of_the_old_picture_is_no_longer_found() -> None:
    assert tags(exif_bytes()).get_ifd(ExifTags.IFD.IFD1)
    upright, _ = upright_exif(exif_bytes(), SIZE)
    assert upright is not None
    assert not tags(upright).get_ifd(ExifTags.IFD.IFD1)


def test_exif_without_orientation_is_upright() -> None:
    upright, found = upright_exif(exif_bytes(orientation=None), SIZE)
    assert found == 1
    assert upright is not None
    assert dict(tags(upright)) == {MAKE: "Us!"}


@together("orientation", [0, 9, 65535])
def test_an_undefined_orientation_is_upright(orientation: int) -> None:
    upright, found = upright_exif(exif_bytes(orientation=orientation), SIZE)
    assert found == 1
    assert upright is not None
    assert tags(upright)[ORIENTATION] == 1


def test_exif_without_the_offset_of_a_next_directory_is_kept() -> None:
    upright, found = upright_exif(exif_bytes(orientation=3, thumbnail=False)[:-4], SIZE)
    assert found == 3
    assert upright is not None


@together("exif", [None, b"", b"Exif\0\0", b"Exif\0\0junk", exif_bytes()[:20], b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_unreadable_exif_is_dropped(exif: bytes | None) -> None:
    assert upright_exif(exif, SIZE) == (None, 1)


def test_exif_whose_prefix_is_doubled_is_read() -> None:
    upright, found = upright_exif(b"Exif\0\0" + exif_bytes(), SIZE)
    assert found == 6
    assert upright is not None
    assert upright.startswith(b"Exif\0\0II*\0")


def test_tags_of_storage_are_left_out_and_sub_directories_kept() -> None:
    full = Image.Exif()
    full[MAKE] = "Us"
    full[WIDTH] = 4000
    full[700] = b"<xmp/>"
    full[CAMERA] = {MAKER_NOTE: b"note", INTEROP: {1: "R98"}}
    full[GPS] = {1: "N", 2: (1.0, 2.0, 3.0)}
    kept = tags(descriptive_tags(tags(full.tobytes())).tobytes())
    assert set(kept) == {MAKE, CAMERA, GPS}
    assert kept.get_ifd(CAMERA)[MAKER_NOTE] == b"note"
    assert kept.get_ifd(GPS) == {1: "N", 2: (1.0, 2.0, 3.0)}
    assert kept.get_ifd(INTEROP) == {1: "R98"}


def opened(form: str, **options: Any) -> Image.Image:
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, form, **options)
    image = Image.open(file)
    image.load()
    return image


def test_exif_in_the_old_text_of_a_png_is_found() -> None:
    text = PngImagePlugin.PngInfo()
    exif = exif_bytes()
    text.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    with opened("PNG", pnginfo=text) as image:
        assert source_exif(image) == exif


def test_damaged_exif_in_the_old_text_of_a_png_is_dropped() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 4\nno hex\n")
    with opened("PNG", pnginfo=text) as image:
        assert source_exif(image) is None


def test_a_tiff_without_descriptive_tags_has_no_exif() -> None:
    with opened("TIFF", dpi=(300, 300)) as image:
        assert source_exif(image) is None


def test_what_is_no_icc_profile_is_dropped() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert sound_profile(profile) == profile
    for other in (b"x" * 200, b"", None, "text"):
        assert sound_profile(other) is None


@together(
    ("dpi", "expected"),
    [
        ((300, 150), (300.0, 150.0)),
        (None, None),
        (300, None),
        ((300,), None),
        ((1, 1), None),
        ((0, 300), None),
        ((float("nan"), 300), None),
        ((float("inf"), 300), None),
        ((1e9, 300), None),
        (("a", "b"), None),
    ],
)
def test_only_a_usable_resolution_is_kept(dpi: object, expected: tuple[float, float] | None) -> None:
    image = Image.new("L", (1, 1))
    image.info["dpi"] = dpi
    assert source_resolution(image) == expected


WIDTH_TAG, HEIGHT_TAG, X_RESOLUTION, Y_RESOLUTION = 256, 257, 282, 283
PIXEL_X, PIXEL_Y, FOCAL_X, FOCAL_Y, RELATED_X, RELATED_Y = 0xA002, 0xA003, 0xA20E, 0xA20F, 0x1001, 0x1002


def sized_exif(orientation: int) -> bytes:
    """All tags that state a size or a resolution, with what a camera would write for 4000x3000 pixels, x unlike y."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[WIDTH_TAG], exif[HEIGHT_TAG], exif[X_RESOLUTION], exif[Y_RESOLUTION] = (
        orientation, 4000, 3000, 300.0, 150.0,
    )  # fmt: skip
    exif[CAMERA] = {
        PIXEL_X: 4000,
        PIXEL_Y: 3000,
        FOCAL_X: 2.0,
        FOCAL_Y: 1.0,
        INTEROP: {RELATED_X: 4000, RELATED_Y: 3000},
    }
    return exif.tobytes()


@together("orientation", range(1, 9))
def test_sizes_and_resolutions_are_those_of_the_upright_picture(orientation: int) -> None:
    upright, found = upright_exif(sized_exif(orientation), (4000, 3000))
    assert upright is not None
    assert found == orientation
    width, height = (4000, 3000) if orientation < 5 else (3000, 4000)
    x, y = (2, 1) if orientation < 5 else (1, 2)
    main = tags(upright)
    assert (main[WIDTH_TAG], main[HEIGHT_TAG]) == (width, height)
    assert (main[X_RESOLUTION], main[Y_RESOLUTION]) == (150 * x, 150 * y)
    camera, interop = main.get_ifd(CAMERA), main.get_ifd(INTEROP)
    assert (camera[PIXEL_X], camera[PIXEL_Y]) == (width, height)
    assert (camera[FOCAL_X], camera[FOCAL_Y]) == (x, y)
    assert (interop[RELATED_X], interop[RELATED_Y]) == (width, height)


def test_a_size_that_was_wrong_is_put_right_in_place() -> None:
    original = sized_exif(1)
    upright, _ = upright_exif(original, (70000, 20))
    assert upright is not None
    assert len(upright) == len(original)
    assert tags(upright).get_ifd(CAMERA)[PIXEL_X] == 70000


@together("start", [0, 10**6, 2**32 - 1])
def test_a_damaged_sub_directory_costs_only_itself(start: int) -> None:
    data = bytearray(sized_exif(6))
    place = data.index(b"\x69\x87") if data[6:8] == b"II" else data.index(b"\x87\x69")
    data[place + 8 : place + 12] = start.to_bytes(4, "little" if data[6:8] == b"II" else "big")
    upright, found = upright_exif(bytes(data), (4000, 3000))
    assert upright is not None
    assert found == 6
    assert tags(upright)[WIDTH_TAG] == 3000
