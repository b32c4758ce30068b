# SPDX-License-Identifier: Apache-2.0
"""Find objects in an image that PyTorch holds in the memory of a GPU, and keep the results there.

python examples/torch_on_device.py photo.jpg
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image
from torch.utils.dlpack import from_dlpack

import foveate


def main() -> None:
    """Print the largest detection; only its label, score and size leave the GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    options = parser.parse_args()

    # (H, W, 3) uint8 in RGB. A decoder on the GPU, or a previous network, may as well have made it.
    pixels = np.array(Image.open(options.image).convert("RGB"))
    image = torch.from_numpy(pixels).to("cuda", non_blocking=True)

    with foveate.load("mini", device="cuda") as pipeline:
        # The image is read after the work of PyTorch's current stream, by a copy within the GPU.
        found = pipeline(image, on_device=True)
        if not len(found):
            print("nothing found")
            return
        # The tensors share the memory of the results, which are complete.
        boxes, scores, labels, rows, logits = (
            from_dlpack(array)
            for array in (found.boxes, found.scores, found.labels, found.rows, found.mask_logits)
        )
        largest = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).argmax()
        mask = logits[rows[largest]] > pipeline.bundle.manifest.mask.threshold
        print(
            f"{found.class_names[int(labels[largest])]} {float(scores[largest]):.2f} in "
            f"{boxes[largest].round().int().tolist()}, {float(mask.float().mean()):.0%} of its window"
        )


if __name__ == "__main__":
    main()
