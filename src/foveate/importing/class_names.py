# SPDX-License-Identifier: Apache-2.0
"""Names of the classes that published detectors know, in the order of their outputs."""

from __future__ import annotations

COCO = tuple(
    name.strip()
    for name in [
        "\n    person",
        " bicycle",
        " car",
        " motorcycle",
        " airplane",
        " bus",
        " train",
        " truck",
        " boat",
        " traffic light",
        "\n    fire hydrant",
        " stop sign",
        " parking meter",
        " bench",
        " bird",
        " cat",
        " dog",
        " horse",
        " sheep",
        " cow",
        " elephant",
        "\n    bear",
        " zebra",
        " giraffe",
        " backpack",
        " umbrella",
        " handbag",
        " tie",
        " suitcase",
        " frisbee",
        " skis",
        " snowboard",
        "\n    sports ball",
        " kite",
        " baseball bat",
        " baseball glove",
        " skateboard",
        " surfboard",
        " tennis racket",
        " bottle",
        "\n    wine glass",
        " cup",
        " fork",
        " knife",
        " spoon",
        " bowl",
        " banana",
        " apple",
        " sandwich",
        " orange",
        " broccoli",
        " carrot",
        "\n    hot dog",
        " pizza",
        " donut",
        " cake",
        " chair",
        " couch",
        " potted plant",
        " bed",
        " dining table",
        " toilet",
        " tv",
        " laptop",
        "\n    mouse",
        " remote",
        " keyboard",
        " cell phone",
        " microwave",
        " oven",
        " toaster",
        " sink",
        " refrigerator",
        " book",
        " clock",
        "\n    vase",
        " scissors",
        " teddy bear",
        " hair drier",
        " toothbrush\n    ",
    ]
)
"""80, by ascending id of their category."""

VOC = tuple(
    name.strip()
    for name in [
        "\n    aeroplane",
        " bicycle",
        " bird",
        " boat",
        " bottle",
        " bus",
        " car",
        " cat",
        " chair",
        " cow",
        " diningtable",
        " dog",
        " horse",
        "\n    motorbike",
        " person",
        " pottedplant",
        " sheep",
        " sofa",
        " train",
        " tvmonitor\n    ",
    ]
)
"""20, by name."""


def class_names(count: int) -> tuple[str, ...]:
    """Return COCO's names for 80 classes and Pascal VOC's for 20; others are numbered from 1."""
    known = {len(COCO): COCO, len(VOC): VOC}
    return known.get(count) or tuple(f"class {index}" for index in range(1, count + 1))
