"""What every format's `load` gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import ImageFile

from mrs.runtime.errors import PictureError

# Bytes that Pillow keeps for a pixel of each mode.
STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "LA": 4, "La": 4, "PA": 4, "RGB": 4, "RGBA": 4, "CMYK": 4}
# Bytes that a pixel of the result takes: float32 for 16 bits.
RESULT, DEEP_RESULT, ALPHA = 3, 12, 1


@dataclass(frozen=True)
class Loaded:
    """A decoded picture.

    Attributes:
        image: loaded, of one of the modes in `STORED`, lying as it is stored but for what `turned` says.
        lossless: whether the format is.
        turned: the orientation (1 to 8) of which the decoder has already turned it upright.
        white_is_zero: whether 16-bit levels still have to be inverted.
        colour: the chunks of a PNG, by name, that say what its samples mean.
        icc: a profile that Pillow does not find.
    """

    image: ImageFile.ImageFile
    lossless: bool = True
    turned: int = 1
    white_is_zero: bool = False
    colour: dict[bytes, bytes] = field(default_factory=dict)
    icc: bytes | None = None


def refuse_frames(path: object) -> PictureError:
    """The error for animations and pages."""
    return PictureError(f"{path} holds several frames or pages", hint="save the one to restore as a file of its own")


def check_mode(path: object, mode: str) -> None:
    """Refuse what cannot become grey or RGB.

    Raises:
        PictureError: naming the mode.
    """
    if mode not in STORED:
        raise PictureError(f"{path} has pixels of mode {mode}", hint="convert it to 8-bit RGB or to grey")
