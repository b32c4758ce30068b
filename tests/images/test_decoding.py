# SPDX-License-Identifier: Apache-2.0
"""Paths of images: what is no file, and what a directory holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.samples.images import read

from foveate.errors import InputError
from foveate.images.reading import find_images, read_image


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*gone\.jpg: check the path"):
        read_image(tmp_path / "gone.jpg")


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is empty: .*empty\.jpg: copy or download"):
        read(tmp_path, b"", "empty.jpg")


def test_a_text_file_by_the_name_of_an_image(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"not an image that can be decoded: .*notes\.jpg: convert"
    ):
        read(tmp_path, b"milk, bread and butter\n" * 20, "notes.jpg")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is a directory"):
        read_image(tmp_path)


def test_a_name_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_image(f"{tmp_path}/a\0b")


@pytest.mark.parametrize("reader", [read_image, lambda text: find_images([text])])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'found ""'),
        ("https://example.org/cat.jpg", r"URL.*: https://example\.org/cat\.jpg: download it"),
        ("x" * 300 + ".jpg", "name is too long"),
    ],
)
def test_a_text_that_names_no_file(reader: object, text: str, message: str) -> None:
    assert callable(reader)
    with pytest.raises(InputError, match=message):
        reader(text)


def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(InputError, match="device or a pipe"):
            read_image(path)


def test_a_chain_of_links_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    with pytest.raises(InputError, match=r"points to itself: .*a\.jpg"):
        read_image(tmp_path / "a.jpg")


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may look into every directory
    try:
        for text in (str(locked), str(locked / "x.jpg")):
            with pytest.raises(InputError, match=r"Permission denied.*locked"):
                find_images([text])
    finally:
        os.seteuid(user)


def test_a_folder_gives_its_images_by_name(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in ("b.JPG", "a.png", "c.webp", "d.jfif", "e.mpo", "f.pjpeg", "g.avif", ".hidden.jpg"):
        (inside / name).touch()
    (tmp_path / "notes.txt").touch()
    found, left_out = find_images([str(inside), str(tmp_path / "notes.txt")])
    names = ["a.png", "b.JPG", "c.webp", "d.jfif", "e.mpo", "f.pjpeg", "g.avif", "notes.txt"]
    assert [path.name for path in found] == names
    assert left_out == ""


def test_what_is_left_out_of_folders_is_counted_by_kind(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "d.jpg").mkdir(parents=True)
        for name in ("a.png", "b.heic", "c.HEIC", "README", "LICENSE"):
            (tmp_path / folder / name).touch()
        (tmp_path / folder / "gone.png").symlink_to("nowhere")
        os.mkfifo(tmp_path / folder / "pipe.png")
    _, left_out = find_images([str(tmp_path / "one"), str(tmp_path / "two")])
    counts = "2 .heic, 1 broken link, 1 device or pipe, 1 directory, 2 files without suffix in "
    assert left_out == f"left out: {counts}{tmp_path}/one; {counts}{tmp_path}/two"


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contains no readable images: .*: pass a directory"):
        find_images([str(tmp_path)])


def test_a_folder_of_other_files_says_what_they_are(tmp_path: Path) -> None:
    for name in ("a.heic", "b.heic"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"contains no readable images, but 2 \.heic: "):
        find_images([str(tmp_path)])
