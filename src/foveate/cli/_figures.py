# SPDX-License-Identifier: Apache-2.0
"""The figures of a verification as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.export.checks.record import Record
    from foveate.export.execution.divergence import Difference


def table_of(record: Record) -> list[str]:
    """Return the figures of a verification as lines."""
    rows: dict[tuple[str, str], list[Difference]] = {}
    for stage in record.files:
        for image in record.images:
            for engine, outputs in image.engines(stage).items():
                for output, difference in sorted(outputs.items()):
                    rows.setdefault((engine, output), []).append(difference)
    width = max(10, *(len(engine) for engine, _ in rows)) if rows else 10
    lines = [f"{'stage':{width}} {'output':14} {'max':>8} {'mean':>8} {'cosine':>10}"]
    for (engine, output), found in rows.items():
        worst = max(one.relative for one in found)
        mean = max(one.mean_error / max(1.0, one.largest) for one in found)
        cosine = min(one.cosine for one in found)
        lines.append(f"{engine:{width}} {output:14} {worst:8.1e} {mean:8.1e} {cosine:10.7f}")
    pasted = [one.pasting for one in record.images if one.pasting is not None]
    if pasted:
        lines.append(
            f"paste: {sum(one.windows for one in pasted)} windows of "
            f"{sum(one.pixels for one in pasted)} pixels, "
            f"{sum(one.differing for one in pasted)} of which differ from the runtime's masks, "
            f"{sum(one.beyond for one in pasted)} of them not at the threshold"
        )
    pairs = [pair for one in record.images for pair in one.detections.pairs]
    expected = sum(one.detections.expected for one in record.images)
    found_again = sum(one.detections.found for one in record.images)
    lines.append(f"detections: {expected} by the reference, {found_again} by the bundle")
    if pairs:
        lines.append(
            f"  boxes within {max(pair.box_error for pair in pairs):.2g} px, masks of IoU "
            f"{min(pair.mask_iou for pair in pairs):.4f} or more"
        )
    for name, figure in record.accuracy.items():
        lines.append(f"{name}: {figure.found:.4f}, the reference {figure.expected:.4f}")
    return lines
