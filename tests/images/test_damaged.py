# SPDX-License-Identifier: Apache-2.0
"""Images that are truncated, damaged, too large, or take too much memory."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from tests.fuzz import images
from tests.fuzz.harness import run
from tests.samples.images import encode, encode_png, read, smooth

from foveate.errors import InputError
from foveate.images.decoding import MAX_PIXELS, TooManyPixelsError, decode
from foveate.images.reading import read_image

JPEGS: list[dict[str, object]] = [
    {},
    {"quality": 95, "subsampling": 0},
    {"progressive": True},
    {"restart_marker_rows": 1},
]
# A header that claims 30000 x 30000 pixels, in a file of a few bytes.
HUGE = struct.pack("<ii", 30_000, 30_000)


def noise(height: int = 90, width: int = 120) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_image_is_an_error(
    tmp_path: Path, kind: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(noise(), kind)
    with pytest.raises(InputError, match=r"truncated: .*holiday\.jpg: copy or download"):
        read(tmp_path, data[: int(share * len(data))], "holiday.jpg")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_jpeg_is_an_error_though_it_ends_with_a_marker(
    tmp_path: Path, options: dict[str, object], share: float
) -> None:
    data = encode(Image.fromarray(smooth(240, 320)), "JPEG", **options)
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path, data[: int(share * len(data))] + b"\xff\xd9")


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("kept", [0, 200])
def test_a_jpeg_with_zeros_in_the_middle_is_an_error(
    tmp_path: Path, options: dict[str, object], kept: int, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(noise(), "JPEG", **options)
    half = len(data) // 2
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path, data[:half] + bytes(200) + data[half + kept :])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("options", JPEGS)
def test_a_jpeg_without_a_part_of_its_scan_is_an_error(
    tmp_path: Path, options: dict[str, object]
) -> None:
    data = encode(noise(), "JPEG", **options)
    with pytest.raises(InputError, match="damaged"):
        read(tmp_path, data[: len(data) // 3] + data[len(data) * 3 // 4 :])


def test_an_oddity_of_a_jpeg_that_costs_no_pixel_is_no_error(tmp_path: Path) -> None:
    data = encode(Image.fromarray(smooth()), "JPEG")
    scan = data.index(b"\xff\xda")
    odd = bytearray(data)
    odd[scan + 4 + 2 * 3 + 2] = 5  # the last coefficient, which must be 63 and is not looked at
    assert np.array_equal(read(tmp_path, bytes(odd)), read(tmp_path, data))


def test_a_jpeg_with_a_thumbnail_and_a_tail_is_complete(tmp_path: Path) -> None:
    inner = encode(Image.fromarray(smooth(16, 16)), "JPEG")
    data = encode(Image.fromarray(smooth()), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner
    with_thumbnail = data[:2] + segment + data[2:]
    assert read(tmp_path, with_thumbnail + b"trailing bytes").shape == (48, 64, 3)
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path, with_thumbnail[:-20])


@pytest.mark.parametrize("missing", [1, 2, 20])
def test_a_png_whose_data_end_well_but_early_is_an_error(tmp_path: Path, missing: int) -> None:
    rows = [b"\0" + row.tobytes() for row in smooth()]
    assert np.array_equal(read(tmp_path, encode_png(b"".join(rows), (64, 48), 8, 2)), smooth())
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path, encode_png(b"".join(rows[:-missing]), (64, 48), 8, 2))


@pytest.mark.parametrize("cut", [8, 12, 16, 20])
def test_a_png_whose_end_is_missing_is_an_error(tmp_path: Path, cut: int) -> None:
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path, encode(Image.fromarray(smooth()), "PNG")[:-cut])


def patched(kind: str, places: dict[int, bytes]) -> bytes:
    data = bytearray(images.samples(kind)[0])
    for place, value in places.items():
        data[place : place + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        encode_png(bytes(1000), (30_000, 30_000), 8, 2),
        patched("bmp", {18: HUGE}),
        patched("gif", {6: struct.pack("<HH", 30_000, 30_000)}),
        b"P6 30000 30000 255\n",
        patched("jp2", {48: struct.pack(">II", 30_000, 30_000)}),
        encode(Image.new("L", (8, 8)), "JPEG").replace(
            b"\x08\x00\x08\x00\x08\x01", b"\x08\x75\x30\x75\x30\x01"
        ),
        encode(Image.new("1", (20_000, 14_000)), "TIFF", compression="group4"),
    ],
    ids=["png", "bmp", "gif", "pnm", "jp2", "jpeg", "tiff"],
)
def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"\d+ x \d+ pixels, more than the 268,435,456 that"):
        read(tmp_path, content)
    assert MAX_PIXELS < 20_000 * 14_000


def test_a_frame_larger_than_its_canvas_is_refused(tmp_path: Path) -> None:
    data = images.samples("gif")[0]
    frame = data.index(b",\0\0\0\0")
    huge = data[: frame + 5] + struct.pack("<HH", 30_000, 30_000) + data[frame + 9 :]
    message = (
        r"more pixels than Pillow accepts \(Image size \(\d+ pixels\) exceeds limit of 178956970 "
        r"pixels\): .*: make it smaller, or raise PIL\.Image\.MAX_IMAGE_PIXELS"
    )
    with pytest.raises(InputError, match=message):
        read(tmp_path, huge)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP", "JPEG", "JPEG2000", "AVIF"])
def test_the_limit_is_ours_and_not_that_of_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it warns from so many on
    content = encode(Image.new("RGB", (300, 200)), kind)  # a TIFF in several strips
    assert read(tmp_path, content).shape == (200, 300, 3)
    assert decode(io.BytesIO(content), max_pixels=60_000).shape == (200, 300, 3)
    with pytest.raises(TooManyPixelsError, match="300 x 200 pixels, more than the 59,999 that"):
        decode(io.BytesIO(content), max_pixels=59_999)


def peak_of(path: Path) -> tuple[int, np.ndarray]:
    """Bytes of memory that reading an image takes at its peak, and the image."""

    def resident(kind: str) -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.partition(kind)[2].split()[0]) << 10

    Path("/proc/self/clear_refs").write_text("5")  # forget the former peak
    before = resident("VmRSS:")
    image = read_image(path)
    return resident("VmHWM:") - before, image


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux: it measures memory by /proc"
)
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"orientation": 6}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("PNG", "RGBA", {"orientation": 5, "compress_level": 1}),
        ("PNG", "LA", {"compress_level": 1}),
        ("PNG", "I;16", {"compress_level": 1}),
        ("TIFF", "RGBA", {}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
        ("WEBP", "RGB", {"method": 0}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("PPM", "RGB", {}),
    ],
)
def test_reading_takes_less_than_three_times_the_image(
    tmp_path: Path, kind: str, mode: str, options: dict[str, object]
) -> None:
    colors = Image.fromarray(smooth(2000, 2000))
    opened = colors.convert("L").convert("I;16") if mode == "I;16" else colors.convert(mode)
    options = dict(options)
    if "orientation" in options:
        exif = Image.Exif()
        exif[0x0112] = options.pop("orientation")
        options["exif"] = exif
    opened.save(tmp_path / "image", kind, **options)
    peak, image = peak_of(tmp_path / "image")
    assert peak < 3 * image.nbytes


def test_damaged_metadata_are_no_error(tmp_path: Path) -> None:
    # Tests turn warnings into errors, and Pillow warns of such EXIF.
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\0\x12\x01"
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(Image.fromarray(smooth()), kind, exif=exif)
        assert read(tmp_path, data).shape == (48, 64, 3)


def test_reading_in_threads_changes_nothing_for_the_process(tmp_path: Path) -> None:
    files: list[Path] = []
    for kind in ("jpeg", "png", "webp", "tiff"):
        sound = images.samples(kind)[0]
        for content in (sound, sound[: len(sound) // 2]):
            files.append(tmp_path / f"{len(files)}.{kind}")
            files[-1].write_bytes(content)

    def state() -> tuple[object, ...]:
        return list(warnings.filters), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES

    def work() -> None:
        for file in itertools.islice(itertools.cycle(files), 80):
            with contextlib.suppress(InputError):
                read_image(file)
            seen.append(state())

    before, seen = state(), list[tuple[object, ...]]()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 * 80
    assert all(one == before for one in seen)


@pytest.mark.parametrize("campaign", [campaign.name for campaign in images.CAMPAIGNS])
def test_damaged_files_give_an_image_or_an_error_of_ours(campaign: str) -> None:
    faults = [case for case in run("images", name=campaign, cases=34) if not case.passed]
    assert faults == []


@pytest.mark.parametrize("campaign", [campaign.name for campaign in images.CAMPAIGNS])
def test_the_files_that_are_damaged_are_sound_before(tmp_path: Path, campaign: str) -> None:
    for content in images.samples(campaign):
        assert read(tmp_path, content).size == images.HEIGHT * images.WIDTH * 3
