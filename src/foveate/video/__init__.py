# SPDX-License-Identifier: Apache-2.0
"""Reading frames of videos, cameras and streams, and writing videos."""

from foveate.video.frame import Frame, FrameReader
from foveate.video.frames import Frames
from foveate.video.opening import open_reader
from foveate.video.webm import WebmWriter

__all__ = ["Frame", "FrameReader", "Frames", "WebmWriter", "open_reader"]
