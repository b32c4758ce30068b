# SPDX-License-Identifier: Apache-2.0
"""Propose objects in images, whatever they are, and write them as a COCO results list.

python examples/proposals_to_coco.py results.json a.jpg b.jpg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import foveate


def main() -> None:
    """Number the images from 1, in the order given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("images", nargs="+")
    options = parser.parse_args()

    pipeline = foveate.load("mini")
    results = []
    for image_id, image in enumerate(options.images, 1):
        results += pipeline.propose(image).to_coco(image_id)
    options.results.write_text(json.dumps(results), encoding="utf-8")
    print(f"{len(results)} proposals in {len(options.images)} images: {options.results}")


if __name__ == "__main__":
    main()
