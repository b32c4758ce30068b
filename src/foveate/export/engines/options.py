# SPDX-License-Identifier: Apache-2.0
"""Options of a compilation."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.errors import OptionError
from foveate.system.tensorrt import Target, find_target
from foveate.typed_options import TypedOptions

COMPATIBILITIES = ("none", "ampere+", "same-compute-capability")


@dataclass(frozen=True, kw_only=True)
class CompileOptions(TypedOptions):
    """Options of a compilation; impossible combinations raise ``OptionError``.

    Args:
        target: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        archs: Compute capabilities such as ``"sm_89"``; by default that of this machine's GPU.
        stages: Stages to compile; all by default.
        image_sizes: Widths and heights in pixels, for each of which engines of fixed shapes are built.
        max_side: Longer side of the working image in pixels, if the pipeline has another than the
            manifest.
        buckets: Fixed numbers of windows and boxes; by default one engine accepts all numbers.
        ranges: Smallest, best and largest length of a dimension, in place of the manifest's.
        optimization_level: Effort with which TensorRT searches for fast kernels, 0 to 5.
        workspace_mb: Most scratch memory of a layer in MiB; by default TensorRT decides.
        hardware_compatibility: One of ``COMPATIBILITIES``.
        version_compatible: Whether later releases of the same major version can run the engine.
        strip_weights: Whether the plan has no weights; they come from the ONNX file when it is loaded.
        refit: Whether the weights of the plan can be replaced.
        tf32: Whether float32 is multiplied with 10 bits of fraction where a GPU has units for that.
        timing_cache: File of measured kernel times that builds share.
        plugins: Path of the plugin library; by default that in the user's cache, which is built
            if it is missing.
        no_plugins: Whether the function bodies of operators are compiled in place of plugins.
    """

    target: str
    archs: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    image_sizes: tuple[tuple[int, int], ...] = ()
    max_side: int | None = None
    buckets: tuple[int, ...] = ()
    ranges: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    optimization_level: int = 3
    workspace_mb: int | None = None
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    tf32: bool = False
    timing_cache: Path | None = None
    plugins: Path | None = None
    no_plugins: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        target = find_target(self.target)
        self._check_archs(target)
        self._check_numbers()
        if self.hardware_compatibility not in COMPATIBILITIES:
            what = f"there is no hardware compatibility {self.hardware_compatibility!r}"
            raise OptionError(what, remedy=f"use {', '.join(COMPATIBILITIES)}")
        if self.no_plugins and self.plugins is not None:
            raise OptionError("--plugins and --no-plugins exclude each other", remedy="omit one")
        if not target.plugins:
            self._check_unsupported()

    def builder_options(self) -> dict[str, Any]:
        """Return the options of the builder by name, which are part of an engine's key."""
        names = ("optimization_level", "workspace_mb", "hardware_compatibility")
        flags = ("version_compatible", "strip_weights", "refit", "tf32")
        return {name: getattr(self, name) for name in (*names, *flags)}

    def _check_archs(self, target: Target) -> None:
        for arch in self.archs:
            if re.fullmatch(r"sm_\d{2,3}", arch) is None:
                what = f"{arch!r} is not a compute capability"
                raise OptionError(what, remedy="write it as sm_89")
        if len(self.archs) > 1 and not target.cross:
            raise OptionError(
                f"{self.target} builds for the GPU of this machine only, found --arch "
                f"{' '.join(self.archs)}",
                remedy="omit --arch, or use --target tensorrt-rtx",
            )

    def _check_numbers(self) -> None:
        level = self.optimization_level
        if not 0 <= level <= 5:
            raise OptionError(f"the optimization level must lie in 0..5, found {level}")
        if any(bucket < 1 for bucket in self.buckets):
            raise OptionError(f"a bucket must be at least 1, found {min(self.buckets)}")
        self._check_at_least(max_side=16)
        if any(min(size) < 1 for size in self.image_sizes):
            raise OptionError("an image must have at least one pixel")
        for name, (low, best, high) in self.ranges.items():
            if not 1 <= low <= best <= high:
                what = f"the range of {name!r} must rise from 1 or more, found {low}:{best}:{high}"
                raise OptionError(what, remedy="write it as name=smallest:best:largest")

    def _check_unsupported(self) -> None:
        # TensorRT for RTX aborts on a plugin, and ignores or lacks the other options.
        given_options = {
            "--plugins": self.plugins is not None,
            "--timing-cache": self.timing_cache is not None,
            "--hardware-compatibility": self.hardware_compatibility != "none",
            "--version-compatible": self.version_compatible,
        }
        for option, given in given_options.items():
            if given:
                what = f"{self.target} does not support {option}"
                raise OptionError(what, remedy=f"omit {option}, or use --target tensorrt")
