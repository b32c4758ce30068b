# SPDX-License-Identifier: Apache-2.0
"""Find the objects of an image, list them, and save the image with their outlines.

python examples/find_objects.py photo.jpg overlay.png
"""

from __future__ import annotations

import argparse

import cv2

import foveate


def main() -> None:
    """Run the shipped bundle on one image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("overlay")
    options = parser.parse_args()

    detections = foveate.load("mini")(options.image)
    for label, score, box in zip(
        detections.labels, detections.scores, detections.boxes, strict=True
    ):
        x0, y0, x1, y1 = box
        print(
            f"{detections.class_names[label]:12} {score:.2f}  "
            f"from ({x0:.0f}, {y0:.0f}) to ({x1:.0f}, {y1:.0f})"
        )
    overlay = detections.draw(options.image)
    cv2.imwrite(options.overlay, cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
