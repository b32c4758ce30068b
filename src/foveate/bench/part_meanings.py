# SPDX-License-Identifier: Apache-2.0
"""What the parts of the time of an image are, in a few words for readers of a report."""

from __future__ import annotations

MEANINGS = {
    "waiting": "arrival to start",
    "start to result": "the whole image",
    "reading": "decoding the file",
    "copies": "to and from the device",
    "host": "caller, before and after",
    "enqueue": "caller, starting the work",
    "sending": "handing over the request",
    "answer": "until the answer is there",
    "device": "any stream at work",
    "propose": "scores windows",
    "refine": "draws masks",
    "features": "maps for the classifier",
    "classify": "names objects",
    "resize": "shrinks the image",
    "letterbox": "fits the image to a level",
    "select_top_k": "keeps the best windows",
    "crop_features": "cuts maps of windows",
    "mask_boxes": "boxes around masks",
    "nms": "drops repeated boxes",
    "gather_boxes": "collects the kept boxes",
    "postprocess": "classes, boxes and scores",
    "take_masks": "fetches the masks",
}
