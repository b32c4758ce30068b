# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``foveate run``: which are images, and which are videos."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from foveate.errors import OptionError
from foveate.images.decoding import SUFFIXES as IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts"),
        *(".m2ts", ".wmv", ".flv", ".ogv", ".3gp", ".mjpg", ".mjpeg"),
    )
)

_CAMERA = "camera:"
# Not by `urlsplit`, which raises ValueError for some malformed URLs.
_URL_PATH = re.compile(r"://[^/?#]*([^?#]*)")


def split_sources(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that are images, and those that are videos.

    Patterns are replaced with what matches them, and a directory of videos with its videos.

    Raises:
        OptionError: There are both.
    """
    images: list[str] = []
    videos: list[str] = []
    for text in texts:
        for one in _expand(text):
            (videos if _is_video(one) else images).append(one)
    if images and videos:
        from foveate.video.opening import display_name

        video = display_name(videos[0])
        what = f"images and videos need commands of their own, found {images[0]} and {video}"
        raise OptionError(what, remedy="run Foveate once for the images, and once for the videos")
    return images, videos


def is_camera_or_url(video: str) -> bool:
    """Return whether a video is a camera or a URL, whose frames may take time to arrive."""
    return "://" in video or video.startswith(_CAMERA)


def _expand(text: str) -> list[str]:
    path = Path(text)
    with suppress(OSError, ValueError):
        if glob.has_magic(text) and "://" not in text and not path.exists():
            return sorted(glob.glob(text)) or [text]  # noqa: PTH207 - keeps the words of the user
        if text and path.is_dir():  # the path of an empty text is the current directory
            files = sorted(one for one in path.iterdir() if not one.name.startswith("."))
            videos = [str(one) for one in files if one.suffix.lower() in VIDEO_SUFFIXES]
            if videos and not any(one.suffix.lower() in IMAGE_SUFFIXES for one in files):
                return videos
    return [text]


def _is_video(text: str) -> bool:
    """Return whether an argument means a camera, a URL, or a file with the suffix of a video."""
    if (url := _URL_PATH.search(text)) is not None:
        return Path(url[1]).suffix.lower() not in IMAGE_SUFFIXES
    return text.startswith(_CAMERA) or Path(text).suffix.lower() in VIDEO_SUFFIXES
