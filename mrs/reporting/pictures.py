"""Which pictures of results the page shows: what is a picture, and as many as a page may hold."""

from __future__ import annotations

from collections.abc import Sequence

from mrs.benchmarking.results import Picture
from mrs.reporting.text import plural

# How files of each type begin. A browser is given nothing else, whatever a results file calls it.
BEGINNINGS = {
    "image/png": (b"\x89PNG\r\n\x1a\n", b""),
    "image/jpeg": (b"\xff\xd8\xff", b""),
    "image/webp": (b"RIFF", b"WEBP"),
}
LONGEST_SIDE = 20_000


def fitting(pictures: Sequence[Picture], most_bytes: int) -> tuple[tuple[Picture, ...], list[str]]:
    """Pictures that can be shown, all of one name and kind or none of them.

    Args:
        pictures: of one file of results.
        most_bytes: that they may take on the page.

    Returns:
        Those that are shown, in their order, and what must be said of the others.
    """
    sound = [picture for picture in pictures if _sound(picture)]
    notes = []
    if len(sound) < len(pictures):
        notes.append(
            f"Left out, because they are no PNG, JPEG or WebP: {plural(len(pictures) - len(sound), 'picture')}."
        )
    left, taken = most_bytes, set[tuple[str, bool]]()
    for key in dict.fromkeys(map(_together, sound)):
        # As base64, four bytes for three.
        size = sum(4 * (len(picture.data) // 3 + 1) for picture in sound if _together(picture) == key)
        if size <= left:
            taken.add(key)
            left -= size
    kept = tuple(picture for picture in sound if _together(picture) in taken)
    if len(kept) < len(sound):
        notes.append(f"Left out, so that the page stays small: {plural(len(sound) - len(kept), 'picture')}.")
    return kept, notes


def _together(picture: Picture) -> tuple[str, bool]:
    return picture.name, picture.role == "state"


def _sound(picture: Picture) -> bool:
    begin, after_size = BEGINNINGS.get(picture.media_type, (b"", b""))
    begins = bool(begin) and picture.data.startswith(begin) and picture.data[8:].startswith(after_size)
    return begins and all(0 < side <= LONGEST_SIDE for side in (picture.height, picture.width))
