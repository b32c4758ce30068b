# SPDX-License-Identifier: Apache-2.0
"""Single layers of the kinds that the networks have, which show how fast the engine can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from foveate.arrays import Array
from foveate.bench.single_node import single_node
from foveate.bench.work import Kind
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine

_DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "uint8"}  # of inputs and outputs


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A layer from one number of channels to another.

    Args:
        kind: Kind of arithmetic.
        channels: Channels of the input, or columns of the left factor of a product.
        outputs: Channels of the output, or columns of the product.
        size: Rows and columns of the map; (1, rows) of a product.
        kernel: Side of the kernel of a convolution.
    """

    kind: Kind
    channels: int
    outputs: int
    size: tuple[int, int]
    kernel: int = 1

    @property
    def operations(self) -> int:
        """Multiplications and additions of one run."""
        if self.kind == "product":
            return 2 * prod(self.size) * self.channels * self.outputs
        return 2 * prod(self.size) * prod(self._weight_shape)

    def __str__(self) -> str:
        if self.kind == "product":
            return f"{self.size[1]}x{self.channels} by {self.channels}x{self.outputs}"
        layer = f"{self.kernel}x{self.kernel}, {self.channels} to {self.outputs} channels"
        return f"{layer}, {self.size[0]}x{self.size[1]}"

    @contextmanager
    def running(self, precision: str, threads: int) -> Iterator[Callable[[], None]]:
        """Open a session for the layer, and yield a function that runs it once.

        The precision is ``"fp32"``, ``"fp16"`` or ``"int8"``.

        Raises:
            BundleError: ONNX Runtime cannot run the layer in this precision on this machine.
        """
        with TemporaryDirectory(prefix="foveate-probe-") as folder:
            file = Path(folder, "probe.onnx")
            file.write_bytes(self.model(precision))
            engine = OnnxRuntimeEngine(file, threads=threads)
        dtype = np.dtype(_DTYPES[precision])
        inputs = {"x": _random(self.shape(self.channels), dtype)}
        outputs = {"y": np.zeros(self.shape(self.outputs), dtype)}
        try:
            yield lambda: engine.run(inputs, outputs)
        finally:
            engine.close()

    def shape(self, channels: int) -> tuple[int, ...]:
        """Return the shape of the input or the output, which has a number of channels."""
        if self.kind == "product":
            return (self.size[1], channels)
        return (1, channels, *self.size)

    def model(self, precision: str) -> bytes:
        """Return the layer in a precision as an ONNX file."""
        product, eight_bits = self.kind == "product", precision == "int8"
        weights = _random(
            self._weight_shape, np.dtype("int8" if eight_bits else _DTYPES[precision])
        )
        op = "MatMul" if product else "Conv"
        return single_node(
            f"QLinear{op}" if eight_bits else op,
            shape=self.shape(self.channels),
            result=self.shape(self.outputs),
            dtype=_DTYPES[precision],
            constants=_quantized(weights) if eight_bits else {"w": weights},
            attributes={} if product else self._attributes,
        )

    @property
    def _weight_shape(self) -> tuple[int, ...]:
        if self.kind == "product":
            return (self.channels, self.outputs)
        inputs = 1 if self.kind == "depthwise" else self.channels
        return (self.outputs, inputs, self.kernel, self.kernel)

    @property
    def _attributes(self) -> Mapping[str, int | list[int]]:
        group = self.channels if self.kind == "depthwise" else 1
        sides = [self.kernel, self.kernel]
        return {"group": group, "kernel_shape": sides, "pads": [self.kernel // 2] * 4}


def _quantized(weights: Array) -> dict[str, Array]:
    scale, zero = np.array(0.02, np.float32), np.array(0, np.uint8)
    return {
        "x_scale": scale,
        "x_zero": zero,
        "w": weights,
        "w_scale": scale,
        "w_zero": np.array(0, np.int8),
        "y_scale": scale,
        "y_zero": zero,
    }


def _random(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    generator = np.random.default_rng(0)
    if dtype.kind in "iu":
        return generator.integers(0, 100, shape, dtype)
    return generator.standard_normal(shape, np.float32).astype(dtype)


# For each kind an early layer of a network, on a large map, and a late one, with many channels.
PROBES = (
    Probe(kind="dense", channels=64, outputs=64, size=(120, 160), kernel=3),
    Probe(kind="dense", channels=256, outputs=256, size=(30, 40), kernel=3),
    Probe(kind="pointwise", channels=128, outputs=128, size=(60, 80)),
    Probe(kind="pointwise", channels=512, outputs=512, size=(30, 40)),
    Probe(kind="depthwise", channels=96, outputs=96, size=(120, 160), kernel=3),
    Probe(kind="depthwise", channels=480, outputs=480, size=(30, 40), kernel=3),
    Probe(kind="product", channels=1024, outputs=1024, size=(1, 512)),
)
