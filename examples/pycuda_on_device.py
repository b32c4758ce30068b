# SPDX-License-Identifier: Apache-2.0
"""Find objects in an image that PyCUDA holds in the memory of a GPU, and keep the results there.

python examples/pycuda_on_device.py photo.jpg
"""

from __future__ import annotations

import argparse

import numpy as np
import pycuda.driver as cuda
from PIL import Image
from pycuda import gpuarray

import foveate


def main() -> None:
    """Make a context, as any program with PyCUDA does, and work in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    options = parser.parse_args()

    cuda.init()
    context = cuda.Device(0).make_context()
    try:
        report(options.image)
    finally:
        context.pop()


def report(path: str) -> None:
    """Print the best detection; of all masks, only its own leaves the GPU."""
    # (H, W, 3) uint8 in RGB. A kernel of your own may as well have made it.
    image = gpuarray.to_gpu(np.array(Image.open(path).convert("RGB")))

    # The pipeline works in the context that is current, and never changes or destroys it.
    with foveate.load("mini", device="pycuda") as pipeline:
        found = pipeline(image, on_device=True)  # arrays of PyCUDA
        if not len(found):
            print("nothing found")
            return
        box, label, score = found.boxes[0].get(), found.labels[0].get(), found.scores[0].get()
        logits = found.mask_logits[int(found.rows[0].get())].get()
        mask = logits > pipeline.bundle.manifest.mask.threshold
        print(
            f"{found.class_names[int(label)]} {float(score):.2f} in {box.round().tolist()}, "
            f"{mask.mean():.0%} of its window"
        )


if __name__ == "__main__":
    main()
