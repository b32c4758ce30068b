# SPDX-License-Identifier: Apache-2.0
"""``foveate bench``: measure the speed of a bundle, and compare measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from foveate.cli._bench_size import size
from foveate.cli._bench_sweep import presets, sweep
from foveate.cli._console import print_error, show_log
from foveate.cli._options import BundleArgument, MaxSide, Preset, Scales, Threads

if TYPE_CHECKING:
    from foveate.bench.figures import RateSearch
    from foveate.bench.record import Record

_MEASURE = "measure"  # the command that the group runs unless another one is named


class _Group(TyperGroup):
    """Commands of which one runs when none is named, so that a bundle may come first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # typer has a click of its own
        if not args or args[0] not in self.commands:
            args = [_MEASURE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group)
app.command("sweep")(sweep)
app.command("presets")(presets)
app.command("size")(size)


@app.command(_MEASURE)
def measure(
    context: typer.Context,
    bundle: BundleArgument = "mini",
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Images, and directories of images; by default the sample images."),
    ] = None,
    *,
    scenario: Annotated[
        str,
        typer.Option(
            help="How images are sent. single-stream: one after the other; offline: as fast as the "
            "pipeline takes them; server: at random moments, --rate per second."
        ),
    ] = "single-stream",
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Longest time of the measurement in seconds, 30 by default. With --p99: of each "
            "rate, by default as long as its images need.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of images to measure, whatever the time. With --p99: number per rate, 368 "
            "by default.",
        ),
    ] = None,
    warm_up: Annotated[float, typer.Option(help="Shortest time of the warm-up, in seconds.")] = 1.0,
    percentile: Annotated[
        float,
        typer.Option(
            help="Percentile of the latency that ends the run once its interval is narrow."
        ),
    ] = 90.0,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Width of its 95 % interval, as a share of it, that is narrow; 0: measure for the "
            "whole time."
        ),
    ] = 0.05,
    rate: Annotated[
        float | None, typer.Option(help="With server: mean number of arrivals per second.")
    ] = None,
    p99: Annotated[
        float | None,
        typer.Option(
            "--p99",
            help="With server: search for the highest rate at which 99 % of the images take at most "
            "this many seconds, with waiting.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the arrivals.")] = 0,
    decoding: Annotated[
        bool, typer.Option("--decoding", help="Read each image file in the run, as a part of it.")
    ] = False,
    device: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    backend: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    threads: Threads = None,
    preset: Preset = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Number of proposals per image.")] = None,
    scales: Scales = None,
    max_side: MaxSide = None,
    max_in_flight: Annotated[
        int, typer.Option(min=1, help="Number of images that are processed at a time.")
    ] = 2,
    url: Annotated[
        str,
        typer.Option(
            help="Measure a server of the Open Inference Protocol instead of a bundle; all "
            "arguments are then images."
        ),
    ] = "",
    model: Annotated[str, typer.Option(help="With --url: name of the model.")] = "foveate",
    input_name: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="With --url: image, to send pixels, or encoded, to send files; by default files, "
            "if the model takes them.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="With --url: seconds for which the server may send nothing.")
    ] = 30.0,
    against: Annotated[
        str | None,
        typer.Option(
            help="Bundle, backend, preset or URL that is measured in turns with this one, for a fair "
            "comparison; the bundle's own name means no preset."
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="Data set on which the accuracy of this configuration is measured too."),
    ] = None,
    limits: Annotated[
        bool,
        typer.Option(
            "--limits",
            help="Measure afterwards how fast arithmetic and memory of this machine are, how near "
            "each network comes to that, and advise what to try.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file of the record; - for stdout.")
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html", help="HTML file of a page: what is slow, why, what to try, and charts."
        ),
    ] = None,
    nvtx: Annotated[
        bool,
        typer.Option(
            "--nvtx",
            help="Show images and networks to Nsight Systems, as ranges of NVTX. On a GPU, images "
            "are not replayed from a graph then, and take longer.",
        ),
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(help="File of the work of all images for Perfetto or Chrome's trace viewer."),
    ] = None,
) -> None:
    """Measure how long a bundle takes for an image, with intervals, and where the time goes.

    The word measure can be omitted. `foveate bench compare A B` compares two records that --json or
    --html wrote; `foveate bench sweep` measures many configurations, and `foveate bench presets`
    makes presets of them; `foveate bench size` computes the number of replicas for a rate.
    """
    from foveate.bench.options import BenchOptions
    from foveate.bench.server_session import ServerTarget
    from foveate.bench.session import Target
    from foveate.cli._bench import measure_targets
    from foveate.cli._bench_outputs import Outputs
    from foveate.cli._bench_targets import choose_targets, repeated_command
    from foveate.cli._options import given_names, parse_scales
    from foveate.runtime import PipelineOptions

    options = BenchOptions(
        scenario=scenario,  # type: ignore[arg-type]  # BenchOptions checks it
        seconds=seconds,
        count=count,
        warm_up=warm_up,
        percentile=percentile,
        tolerance=tolerance,
        rate=rate,
        p99=p99,
        seed=seed,
        decoding=decoding,
        keep_spans=trace is not None,
        nvtx=nvtx,
    )
    pipeline = PipelineOptions(
        preset=preset,
        threads=threads,
        top_k=top_k,
        scales=parse_scales(scales),
        max_side=max_side,
        max_in_flight=max_in_flight,
    )
    target = Target(bundle=bundle, device=device, backend=backend, options=pipeline)
    server = ServerTarget(
        url=url, model=model, input=input_name, timeout=timeout, max_in_flight=max_in_flight
    )
    given = given_names(context)
    targets, files = choose_targets(given, target, server, against=against, images=images or [])
    command = repeated_command(context)
    outputs = Outputs(json=json_file, html=html_file, trace=trace, command=command)
    show_log("foveate.runtime")
    record = measure_targets(targets, files, options, outputs, dataset=dataset, limits=limits)
    if (failure := _failure_of(record)) is not None:
        print_error(failure)
        raise typer.Exit(1)


@app.command("compare")
def compare_records(
    baseline: Annotated[Path, typer.Argument(help="Record to compare with.")],
    candidate: Annotated[Path, typer.Argument(help="Record that is judged.")],
    *,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Relative change that does not count.")
    ] = 0.01,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Confidence of the intervals.")
    ] = 0.99,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file of the comparison; - for stdout.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Markdown file of the comparison; - for stdout.")
    ] = None,
) -> None:
    """Compare two records; exit with status 1 if the candidate is slower."""
    from dataclasses import asdict

    from foveate.bench.compare import compare
    from foveate.bench.ratios import CompareOptions
    from foveate.bench.record_file import read_record
    from foveate.bench.table import comparison_markdown
    from foveate.cli._bench_outputs import print_comparison
    from foveate.cli._files import check_outputs, write_result
    from foveate.cli._options import refuse_together
    from foveate.plain_text import json_text

    to_stdout = {"json": json_file == Path("-"), "markdown": markdown == Path("-")}
    refuse_together(**to_stdout)
    check_outputs(json_file, markdown, inputs=(baseline, candidate))
    options = CompareOptions(tolerance=tolerance, confidence=confidence)
    comparison = compare(read_record(baseline), read_record(candidate), options)
    if json_file is not None:
        write_result(json_file, json_text(asdict(comparison), indent=2))
    if markdown is not None:
        write_result(markdown, comparison_markdown(comparison))
    if not any(to_stdout.values()):
        print_comparison(comparison)
    if comparison.verdict == "slower":
        raise typer.Exit(1)


@app.command("schema")
def print_schema(
    of_sweep: Annotated[
        bool, typer.Option("--sweep", help="Print that of `foveate bench sweep`.")
    ] = False,
) -> None:
    """Print the JSON Schema of the records that --json writes."""
    from foveate.bench.json_schema import record_schema, sweep_schema
    from foveate.cli._files import write_result
    from foveate.plain_text import json_text

    schema = sweep_schema() if of_sweep else record_schema()
    write_result(Path("-"), json_text(schema, indent=1))


def _failure_of(record: Record) -> str | None:
    """Return what makes a measurement fail although it has ended, on one line."""
    from foveate.bench.facts import more_images, too_few
    from foveate.bench.ratios import FEWEST_BLOCKS

    outcome, scenario, against = record.outcome, record.scenario, record.against
    if record.search is not None:
        return _failure_of_search(record.search, scenario.count)
    if outcome.rate_held is False:
        reached = f"{outcome.throughput or 0.0:.3g} were reached"
        if outcome.refused:
            reached += f" and {outcome.refused} images were refused"
        return (
            f"the rate of {scenario.rate:g} images per second cannot be held, {reached}: "
            "lower --rate, or search it with --p99"
        )
    if (few := too_few(record)) is not None:
        return few
    if against is None:
        return None
    if against.comparison is None:
        what = f"the turns are too few for a comparison, which needs {FEWEST_BLOCKS} of each"
        fewer = ", or pass fewer images" if len(record.inputs) > 1 else ""
        return f"{what}: {more_images(record)}{fewer}"
    slower = against.comparison.verdict == "slower"
    return f"slower than {against.comparison.baseline}" if slower else None


def _failure_of_search(search: RateSearch, count: int | None) -> str | None:
    """Return why a search found no rate, on one line; None if it found one.

    ``count`` is the number of images per rate, None for the fewest.
    """
    from foveate.bench.percentiles import fewest_runs

    if search.rate is not None:
        return None
    short = [one.rate for one in search.trials if one.held is None]
    missed = [one.rate for one in search.trials if one.held is False]
    if not missed:
        return (
            f"--seconds is too short for the {count or fewest_runs(99)} images that each rate needs, "
            f"up to {max(short):.3g} images per second: raise it, or omit it"
        )
    what = (
        f"no rate held a 99th percentile of {search.bound:g} s, down to {min(missed):.3g} images "
    )
    return f"{what}per second: raise --p99{', or --seconds to try lower rates' if short else ''}"
