"""Pictures in folders: told by what they hold; what is passed over is counted and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from mrs.runtime.errors import PictureError
from mrs.runtime.pictures.folders import Found, find_pictures, search
from tests.runtime.pictures.picture_files import encoded

PICTURES = {form: encoded(Image.new("RGB", (3, 2)), form) for form in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(folder: Path, **forms: str) -> None:
    """Files by their names, with two underscores for a full stop."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, form in forms.items():
        (folder / name.replace("__", ".")).write_bytes(PICTURES[form])


def relatives(found: Found) -> list[str]:
    return [str(relative) for _, relative in found.pictures]


class TestFindPictures:
    def test_folders_are_searched_in_order_without_hidden_and_other_files(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            "b.PNG",
            "a/z.jpg",
            "a/b/c.webp",
            "a.tif",
            "notes.txt",
            ".hidden.png",
            ".cache/d.png",
            "a/.e/f.bmp",
        )
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "link.png").symlink_to("gone.png")
        found = find_pictures([tmp_path])
        assert relatives(found) == ["a/b/c.webp", "a/z.jpg", "a.tif", "b.PNG"]
        assert all(source == tmp_path / relative for source, relative in found.pictures)
        assert found.told() == "skipped 2: link to nothing (link.png), another format (notes.txt)"

    def test_files_stay_whatever_their_name_and_keep_the_given_order(self, tmp_path: Path) -> None:
        touch(tmp_path, "in/z.png", "in/.a.jpg", "in/photo")
        given = [tmp_path / "in" / name for name in ("z.png", ".a.jpg", "photo")]
        assert find_pictures(given).pictures == [(path, Path(path.name)) for path in given]

    def test_a_picture_named_twice_is_found_once(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png")
        (tmp_path / "elsewhere").symlink_to(tmp_path)
        given = [tmp_path, tmp_path / "a.png", tmp_path / "elsewhere" / "a.png"]
        assert find_pictures(given).pictures == [(tmp_path / "a.png", Path("a.png"))]

    def test_two_pictures_with_one_result_are_refused(self, tmp_path: Path) -> None:
        touch(tmp_path, "one/a.png", "two/a.png")
        with pytest.raises(PictureError, match=r"one/a\.png and .*two/a\.png would both be written as a\.png"):
            find_pictures([tmp_path / "one", tmp_path / "two"])

    def test_the_folder_of_the_results_is_not_searched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "a.png", "out/a.png")
        monkeypatch.chdir(tmp_path)
        assert find_pictures([tmp_path], exclude=Path("out")).pictures == [(tmp_path / "a.png", Path("a.png"))]

    def test_links_to_folders_are_not_followed(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png")
        (tmp_path / "loop").symlink_to(tmp_path)
        found = find_pictures([tmp_path])
        assert relatives(found) == ["a.png"]
        assert found.told() == "skipped 1: link to a folder (loop)"

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match=r"no\.png does not exist"):
            find_pictures([tmp_path / "no.png"])

    def test_folder_without_pictures(self, tmp_path: Path) -> None:
        touch(tmp_path, "notes.txt", ".hidden.png")
        with pytest.raises(PictureError) as caught:
            find_pictures([tmp_path])
        assert caught.value.message == f"folder {tmp_path} holds no pictures; skipped 1: another format (notes.txt)"
        assert "WebP" in caught.value.hint

    def test_nothing_given(self) -> None:
        with pytest.raises(PictureError, match="no pictures given"):
            find_pictures([])

    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.png")
        with pytest.raises(PictureError, match="is neither a file nor a folder"):
            find_pictures([tmp_path / "a.png"])

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "a.png")
        unlistable(monkeypatch, tmp_path)
        with pytest.raises(PictureError, match=f"cannot read {tmp_path}: Permission denied"):
            find_pictures([tmp_path])
        with pytest.raises(PictureError, match=r"cannot read .*: File name too long"):
            find_pictures([tmp_path / ("a" * 300)])


def unlistable(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let listing one folder fail, also for root, who may list everything."""
    real = os.scandir

    def fail(path: os.PathLike[str]) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", fail)


class TestContent:
    def test_tells_pictures_whatever_their_suffix(self, tmp_path: Path) -> None:
        write(
            tmp_path, x__jfif="JPEG", z__jpe="JPEG", Y__JFIF="JPEG", plain="JPEG", scan__2024="PNG", p__dat="WEBP",
            t__btf="TIFF", b__dib="BMP", a__gif="GIF",
        )  # fmt: skip
        found = find_pictures([tmp_path])
        assert relatives(found) == [
            "Y.JFIF", "b.dib.bmp", "p.dat.webp", "plain.jpg", "scan.2024.png", "t.btf.tif", "x.jfif", "z.jpe",
        ]  # fmt: skip
        assert found.told() == "skipped 1: another format (a.gif)"

    def test_tells_the_name_of_a_single_file_too(self, tmp_path: Path) -> None:
        write(tmp_path, photo="JPEG", x__png="JPEG", notes="GIF")
        given = [tmp_path / name for name in ("photo", "x.png", "notes")]
        assert relatives(find_pictures(given)) == ["photo.jpg", "x.png", "notes"]

    def test_two_that_would_get_one_name_are_refused(self, tmp_path: Path) -> None:
        write(tmp_path, photo="JPEG", photo__jpg="JPEG")
        with pytest.raises(PictureError, match=r"would both be written as photo\.jpg"):
            find_pictures([tmp_path])

    def test_a_text_that_begins_like_a_bmp_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "prices").write_text("BMW, Audi and others, and what they cost")
        touch(tmp_path, "a.png", "empty")
        assert find_pictures([tmp_path]).told() == "skipped 2: another format (empty, prices)"

    def test_raw_pictures_of_cameras_are_passed_over(self, tmp_path: Path) -> None:
        write(tmp_path, a__NEF="TIFF", a__jpg="JPEG", b__dng="JPEG")
        found = find_pictures([tmp_path])
        assert relatives(found) == ["a.jpg", "b.dng.jpg"]
        assert found.told() == "skipped 1: raw from a camera (a.NEF)"

    def test_only_the_first_names_are_told(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png", *(f"{i}.txt" for i in range(12)))
        assert find_pictures([tmp_path]).told() == "skipped 12: another format (0.txt, 1.txt, 10.txt and 9 more)"

    def test_what_is_skipped_in_several_folders_is_told_together(self, tmp_path: Path) -> None:
        touch(tmp_path, "one/a.png", "one/a.txt", "two/b.png", "two/b.txt")
        assert find_pictures([tmp_path / "one", tmp_path / "two"]).told() == "skipped 2: another format (a.txt, b.txt)"

    def test_a_pipe_is_not_opened(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("pipe")
        (tmp_path / "null").symlink_to("/dev/null")
        assert find_pictures([tmp_path]).told() == "skipped 3: no regular file (link, null, pipe)"


class TestUnreadable:
    def test_a_folder_does_not_cost_the_rest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "a.png", "lost+found/b.png", "z/c.png")
        unlistable(monkeypatch, tmp_path / "lost+found")
        found = find_pictures([tmp_path])
        assert relatives(found) == ["a.png", "z/c.png"]
        ((path, error),) = found.unreadable
        assert path == tmp_path / "lost+found"
        assert error.message == f"cannot read {path}: Permission denied"

    def test_a_file_of_unknown_kind_does_not_cost_the_rest(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "a.png", "b", "c.jpg")
        real = Path.open

        def fail(self: Path, mode: str) -> object:
            if self.name == "b":
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, mode)

        monkeypatch.setattr(Path, "open", fail)
        found = search(tmp_path)
        assert relatives(found) == ["a.png", "c.jpg"]
        assert [path.name for path, _ in found.unreadable] == ["b"]

    def test_a_link_that_leads_to_itself_leads_nowhere(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png")
        (tmp_path / "loop").symlink_to("loop")
        found = search(tmp_path)
        assert relatives(found) == ["a.png"]
        assert len(found.unreadable) + len(found.skipped) == 1

    def test_all_there_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "lost+found/b.png")
        unlistable(monkeypatch, tmp_path / "lost+found")
        with pytest.raises(PictureError, match=r"cannot read .*lost\+found: Permission denied"):
            find_pictures([tmp_path])
