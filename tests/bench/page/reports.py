# SPDX-License-Identifier: Apache-2.0
"""A record in which everything was measured."""

from __future__ import annotations

from dataclasses import asdict, replace

from tests.bench.simulated import noisy, simulated_record
from tests.bench.works import node_work, rate, stage_work

from foveate.bench.advice import Advice, Command
from foveate.bench.ceilings import Ceilings
from foveate.bench.compare import compare
from foveate.bench.figures import Floor, RateSearch, RateTrial
from foveate.bench.limits import Limits, StageLimit, roofline
from foveate.bench.options import BenchOptions
from foveate.bench.percentiles import distribution
from foveate.bench.record import Record, Rival
from foveate.bench.samples import Trait

COMMAND = Command(arguments=("bundle",))
NAME = "</script><b>&.jpg"  # of an image, as a user may choose it
CEILINGS = Ceilings(
    threads=1,
    cache_bytes=None,
    array_bytes=4096,
    arithmetic=(
        rate("dense", 100e9, "fp32"),
        rate("pointwise", 98.7e9, "fp32"),
        rate("depthwise", 7.59e9, "fp32"),
        rate("dense", 400e9, "int8"),
    ),
    memory=(rate("copy", 8e9), rate("triad", 10e9)),
)
ADVICE = Advice(
    kind="layers",
    text="propose takes 60 ms of 100 ms (60%) and reaches 50% of what arithmetic and memory allow.",
    command="foveate bench mini --against torch",
)


def full_record(*, images: int = 2, seconds: float = 30) -> Record:
    """Return the record of a simulated run with limits, advice, floor, search and rival."""
    options = BenchOptions(seconds=seconds, warm_up=0.5, tolerance=0)
    record = simulated_record(noisy(0), options, images=images)
    other = simulated_record(noisy(1, mean=0.12), options, images=images)
    machine = replace(record.machine, fit=False, reasons=("others took 80% of the <processor>",))
    trial = RateTrial(rate=3.21, images=400, p99=0.5, low=0.4, high=0.6, held=True)
    trait = Trait(text="size 65x48", tail_share=0.9, share=0.5)
    first, *others = record.inputs
    return replace(
        record,
        inputs=(replace(first, name=NAME), *others),
        machine=machine,
        floor=Floor(rate=None, latency=distribution([0.001] * 40), share=0.01),
        search=RateSearch(bound=0.6, rate=3.21, trials=(trial,)),
        tails=replace(record.tails, common=(trait,)),
        limits=asdict(limits()),
        advice=(ADVICE,),
        against=Rival(record=other, comparison=compare(other, record)),
    )


def limits() -> Limits:
    """Return the limits of both stages, of which one is bound by arithmetic, one by memory."""
    works = {
        "propose": (stage_work(node_work(2_000_000_000), moved=100_000_000), 0.04),
        "refine": (stage_work(node_work(500_000_000), moved=100_000_000), 0.012),
    }
    return Limits(
        ceilings=CEILINGS,
        stages={
            stage: StageLimit(
                runs=1,
                operations=work.operations,
                bytes=work.bytes,
                node_bytes=work.node_bytes,
                kinds=(),
                roofline=roofline(work, CEILINGS, seconds),
                predictions=(),
            )
            for stage, (work, seconds) in works.items()
        },
    )
