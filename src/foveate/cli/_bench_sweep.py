# SPDX-License-Identifier: Apache-2.0
"""``foveate bench sweep`` and ``foveate bench presets``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._console import print_error, print_line, show_log
from foveate.cli._options import BundleArgument, parse_scales, pin_bundle
from foveate.cli._presets import preset_lines


def sweep(
    bundle: BundleArgument = "mini",
    *,
    dataset: Annotated[
        list[Path],
        typer.Option(help="Data set by which accuracy and time are measured; repeatable."),
    ],
    scales: Annotated[
        list[str] | None,
        typer.Option(
            help="Scales of the levels, such as 0.177,0.354,0.707,1.414, or all; repeatable. By "
            "default four choices that leave out more and more levels."
        ),
    ] = None,
    top_k: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Number of proposals; repeatable. By default the bundle's, and half of it."
        ),
    ] = None,
    max_side: Annotated[
        list[int] | None,
        typer.Option(
            min=16, help="Longer side of the working image; repeatable. By default the bundle's."
        ),
    ] = None,
    window_nms_iou: Annotated[
        list[float] | None,
        typer.Option(
            help="Overlap of two windows above which the lower one is dropped; repeatable. By default "
            "the bundle's."
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of threads; repeatable. By default one per core."),
    ] = None,
    max_in_flight: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Number of images that are processed at a time; repeatable. By default 2."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Further bundle to measure, such as the same one in another precision; repeatable."
        ),
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="single-stream or offline, as in `foveate bench`.")
    ] = "single-stream",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first images of each data set.")
    ] = None,
    timed: Annotated[
        int, typer.Option(min=1, help="Number of images of each data set that are timed.")
    ] = 3,
    turns: Annotated[
        int, typer.Option(help="Number of turns of each configuration and of the default one.")
    ] = 10,
    device: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    backend: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file of the record; - for stdout.")
    ] = None,
) -> None:
    """Measure the accuracy and the relative time of many configurations of a bundle.

    All combinations of the values are measured, each in turns with the default configuration: the
    bundle's levels, proposals and working image, with the first of the other values.
    `foveate bench presets` makes presets from the record.
    """
    from foveate.bench.session import Target
    from foveate.bench.sweep_options import SweepOptions
    from foveate.cli._bench import open_truths, run_sweep
    from foveate.cli._files import check_outputs

    options = SweepOptions(
        scales=tuple(parse_scales(one) for one in scales or ()),
        top_k=tuple(top_k or ()),
        max_side=tuple(max_side or ()),
        window_nms_iou=tuple(window_nms_iou or ()),
        threads=tuple(threads or (None,)),
        max_in_flight=tuple(max_in_flight or (2,)),
        scenario=scenario,  # type: ignore[arg-type]  # SweepOptions checks it
        turns=turns,
        timed=timed,
    )
    target = Target(bundle=bundle, device=device, backend=backend, options=options.default)
    truths = open_truths(dataset, limit)
    check_outputs(json_file, inputs=[file for truth in truths.values() for file in truth.files])
    show_log("foveate.runtime")
    variants = [pin_bundle(one) for one in variant or ()]
    record = run_sweep(target, truths, options, variants, json_file)
    if record.failed:
        count = f"{len(record.failed)} of {record.planned} configurations failed"
        print_error(f"{count}, the others were measured: {record.failed[0].reason}")
        raise typer.Exit(1)


def presets(
    bundle: Annotated[str, typer.Argument(help="Bundle whose presets are written.")],
    record: Annotated[Path, typer.Argument(help="Record of a sweep over this bundle.")],
    *,
    balanced: Annotated[
        float, typer.Option(help="Share of the average recall of accurate that balanced keeps.")
    ] = 0.95,
    fast: Annotated[float, typer.Option(help="The same for fast.")] = 0.8,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept a sweep that was interrupted.")
    ] = False,
) -> None:
    """Choose the presets accurate, balanced and fast from a sweep, and write them to a bundle.

    accurate has the highest average recall of 100 proposals; balanced and fast are the fastest
    configurations that keep a share of it on each data set.
    """
    from foveate.bench.preset_choice import ChoiceOptions, choose_presets
    from foveate.bench.record_file import read_sweep
    from foveate.bundle import Bundle, write_presets

    options = ChoiceOptions(balanced=balanced, fast=fast, partial=partial)
    opened = Bundle.open(bundle)
    chosen = choose_presets(read_sweep(record), opened.manifest, options)
    write_presets(opened, chosen)
    print_line(f"{opened.root} has the presets")
    for line in preset_lines(chosen):
        print_line(line)
