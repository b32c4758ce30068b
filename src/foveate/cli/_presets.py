# SPDX-License-Identifier: Apache-2.0
"""Presets as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.plain_text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from foveate.bundle import PresetSpec


def preset_lines(presets: Mapping[str, PresetSpec]) -> Iterator[str]:
    """Yield the lines of presets: options and relative time, then the figures of each data set."""
    for name, preset in presets.items():
        time = preset.relative_time
        yield (
            f"  preset {name}: {_options(preset)}; {time.value:.3f} times as long as without "
            f"({time.low:.3f} to {time.high:.3f})"
        )
        for dataset, one in preset.measured.items():
            figures = "".join(f", {key} {value:.3f}" for key, value in one.figures.items())
            images = counted(one.images, "image", "images")
            yield f"    {dataset}: {images}, {one.relative_time.value:.3f} times as long{figures}"


def _options(preset: PresetSpec) -> str:
    parts = [
        f"{name} {' '.join(f'{one:g}' for one in value) if isinstance(value, tuple) else value}"
        for name, value in preset.options.items()
    ]
    return ", ".join(parts) or "the options of the bundle"
