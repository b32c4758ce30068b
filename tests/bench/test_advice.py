# SPDX-License-Identifier: Apache-2.0
"""Each situation gives its sentence, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.bench.simulated import noisy, simulated_record

from foveate.bench.advice import Advice, Command, advise, search_command
from foveate.bench.figures import Distribution, Floor
from foveate.bench.options import BenchOptions
from foveate.bench.percentiles import distribution
from foveate.bench.record import Record

COMMAND = Command(arguments=("mini",))
RECORD = simulated_record(noisy(0), BenchOptions(count=10, warm_up=0))
# Times are medians in seconds; a stage is a time, a precision, and its bound and ratio if known.
QUIET: dict[str, Any] = {
    "scenario": "single-stream",
    "device": "cpu",
    "backend": "onnxruntime",
    "in_flight": 1,
    "latency": 0.1,
    "waiting": 0.001,
    "floor": 0.0001,
    "copies": None,
    "operations": 0.01,
    "idle": 0.005,
    "stages": {"propose": (0.03, "fp32"), "refine": (0.02, "fp32")},
    "threads": None,
    "cores": 2,
    "others": 0.01,
    "steal": None,
}
GPU: dict[str, Any] = {"device": "cuda", "threads": 1}
SERVER = {"scenario": "server", "waiting": 0.06, "operations": 0.001}


def slowest(
    bound: str, ratio: float, precision: str = "fp32", name: str = "propose", seconds: float = 0.05
) -> Any:
    return {"stages": {name: (seconds, precision, bound, ratio), "refine": (0.02, "fp32")}}


def times(median: float) -> Distribution:
    """Return a distribution whose median is no mean."""
    return distribution([median] * 9 + [9 * median])


def record_of(**changes: Any) -> Record:
    """Return a record with the figures of `QUIET`, except for some."""
    one = QUIET | changes
    processing = one["latency"] - one["waiting"]
    machine, parts = RECORD.machine, RECORD.parts
    lines = {
        name: {"bound": limit[0], "ratio": limit[1]} if limit else None
        for name, (_, _, *limit) in one["stages"].items()
    }
    return replace(
        RECORD,
        scenario=replace(RECORD.scenario, name=one["scenario"], in_flight=one["in_flight"]),
        subject=replace(
            RECORD.subject,
            device=one["device"],
            backend=one["backend"],
            threads=one["threads"],
            precision={name: stage[1] for name, stage in one["stages"].items()},
        ),
        machine=replace(
            machine,
            processor=replace(
                machine.processor, others=one["others"], steal=one["steal"], cores=one["cores"]
            ),
        ),
        latency=times(one["latency"]),
        waiting=times(one["waiting"]),
        floor=Floor(rate=None, latency=times(one["floor"]), share=None),
        parts=replace(
            parts,
            processing=times(processing),
            device=times(processing - one["idle"]),
            copies=None if one["copies"] is None else times(one["copies"]),
        ),
        stages={name: times(stage[0]) for name, stage in one["stages"].items()},
        operations={
            "nms": times(0.4 * one["operations"]),
            "resize": times(0.6 * one["operations"]),
        },
        limits={"stages": {name: {"roofline": line} for name, line in lines.items()}},
    )


def advice_of(command: Command = COMMAND, top_k: int = 100, **changes: Any) -> list[Advice]:
    return advise(record_of(**changes), command, top_k=top_k)


SITUATIONS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "busy",
        {"others": 0.43, "idle": 0.05},
        (
            "Others took 43% of the processor during the run, so that the times are longer than those "
            "of the pipeline. Measure again on a quiet machine."
        ),
        "foveate bench mini",
    ),
    (
        "busy",
        {"others": 0.04, "steal": 0.03},
        (
            "Others took 7% of the processor during the run, so that the times are longer than those "
            "of the pipeline. Measure again on a quiet machine."
        ),
        "foveate bench mini",
    ),
    (
        "floor",
        {"floor": 0.012, "idle": 0.05},
        "The harness itself takes 12 ms of 100 ms (12%), too much to tell what bounds the pipeline.",
        "foveate bench mini --scenario offline",
    ),
    (
        "floor",
        {"floor": 0.012, "scenario": "offline"},
        "The harness itself takes 12 ms of 100 ms (12%), too much to tell what bounds the pipeline.",
        "foveate bench mini LARGER_IMAGES",
    ),
    (
        "waiting",
        SERVER,
        (
            "An image waits 60 ms of 100 ms (60%) before it starts: images arrive faster than the "
            "pipeline takes them. Search the highest rate that it holds."
        ),
        "foveate bench mini --scenario server --p99 0.08",
    ),
    (
        "copies",
        {**GPU, "copies": 0.033},
        (
            "Copies between the CPU and the device take 33 ms of 99 ms (33%). Leave images and "
            "results on the device."
        ),
        "pipeline(image, on_device=True)",
    ),
    (
        "launches",
        {**GPU, "idle": 0.033},
        (
            "The GPU does nothing for 33 ms of 99 ms (33%): it waits for launches by the CPU. "
            "Engines of TensorRT are launched as one graph."
        ),
        "foveate compile mini --target tensorrt",
    ),
    (
        "host",
        {**GPU, "idle": 0.033, "backend": "tensorrt"},
        (
            "The GPU does nothing for 33 ms of 99 ms (33%), although its work is launched as one "
            "graph. More images in flight can fill it."
        ),
        "foveate bench mini --scenario offline --max-in-flight 4",
    ),
    (
        "host",
        {"idle": 0.033},
        "Neither networks nor operations run for 33 ms of 99 ms (33%): the time goes into Python.",
        "py-spy record --output profile.svg -- foveate bench mini",
    ),
    (
        "operations",
        {"operations": 0.033},
        (
            "Operations between the networks take 33 ms of 99 ms (33%); they grow with the number of "
            "windows."
        ),
        "foveate bench mini --top-k 50",
    ),
    (
        "threads",
        {"threads": 1, "cores": 8, **slowest("arithmetic", 0.9)},
        "The networks use 1 of 8 cores.",
        "foveate bench mini --threads 8",
    ),
    (
        "arithmetic",
        slowest("arithmetic", 0.85),
        (
            "propose takes 50 ms of 99 ms (51%) and reaches 85% of what the arithmetic of this machine "
            "allows: only fewer or cheaper operations make it faster."
        ),
        "foveate export CHECKPOINT --output BUNDLE --precision propose=int8",
    ),
    (
        "memory",
        {**GPU, **slowest("memory", 0.7)},
        (
            "propose takes 50 ms of 99 ms (51%) and reaches 70% of what the memory allows: only fewer "
            "bytes make it faster."
        ),
        "foveate export CHECKPOINT --output BUNDLE --precision propose=fp16",
    ),
    (
        "memory",
        slowest("memory", 0.7, "int8", "classify"),
        (
            "classify takes 50 ms of 99 ms (51%) and reaches 70% of what the memory allows: only fewer "
            "bytes make it faster."
        ),
        "foveate bench mini --top-k 50",
    ),
    (
        "arithmetic",
        slowest("arithmetic", 1.1, "int8"),
        (
            "propose takes 50 ms of 99 ms (51%) and reaches 110% of what the arithmetic of this machine "
            "allows: only fewer or cheaper operations make it faster."
        ),
        "foveate export CHECKPOINT --output BUNDLE --max-side 640",
    ),
    (
        "layers",
        slowest("arithmetic", 0.31),
        (
            "propose takes 50 ms of 99 ms (51%) and reaches 31% of what arithmetic and memory allow: "
            "the time goes into how its layers are run."
        ),
        "foveate bench mini --against torch",
    ),
]


@pytest.mark.parametrize(("kind", "changes", "text", "command"), SITUATIONS)
def test_a_situation_gives_its_sentence_alone(
    kind: str, changes: dict[str, Any], text: str, command: str
) -> None:
    (advice,) = advice_of(**changes)
    assert (advice.kind, advice.text, advice.command) == (kind, text, command)
    assert str(advice) == f"{text} Try: {command}"


GIVEN = Command(
    arguments=("my bundle", "a.jpg"),
    options={"--device": "cpu", "--preset": "fast", "--threads": "1", "--limits": ""},
)
REPEATED = "foveate bench 'my bundle' a.jpg --device cpu --preset fast"


@pytest.mark.parametrize(
    ("changes", "options", "command"),
    [
        ({"others": 0.5}, {}, f"{REPEATED} --threads 1 --limits"),
        ({"threads": 1, "cores": 8}, {}, f"{REPEATED} --threads 8 --limits"),
        ({"operations": 0.033, "top_k": 60}, {}, f"{REPEATED} --threads 1 --limits --top-k 30"),
        ({"operations": 0.033, "top_k": 300}, {}, f"{REPEATED} --threads 1 --limits --top-k 50"),
        ({"operations": 0.033, "top_k": 1}, {}, f"{REPEATED} --threads 1 --limits --top-k 1"),
        (
            {"floor": 0.05, "scenario": "server"},
            {"--scenario": "server", "--rate": "9"},
            f"{REPEATED} --threads 1 --limits --scenario offline",
        ),
        (
            SERVER,
            {"--scenario": "server", "--rate": "9", "--count": "40", "--seconds": "5"},
            f"{REPEATED} --threads 1 --limits --scenario server --p99 0.08",
        ),
        (
            slowest("arithmetic", 0.31) | {"scenario": "server"},
            {"--scenario": "server", "--rate": "9"},
            f"{REPEATED} --threads 1 --limits --against torch",
        ),
        (
            slowest("arithmetic", 0.31) | {"backend": "torch"},
            {"--backend": "torch"},
            f"{REPEATED} --threads 1 --limits --backend torch --against onnxruntime",
        ),
        (
            {**GPU, "idle": 0.033, "backend": "tensorrt", "in_flight": 8},
            {"--scenario": "offline", "--max-in-flight": "8"},
            f"{REPEATED} --threads 1 --limits --scenario offline --max-in-flight 16",
        ),
        ({**GPU, "idle": 0.033}, {}, "foveate compile 'my bundle' --target tensorrt"),
    ],
)
def test_commands_repeat_the_options_and_change_one_thing(
    changes: dict[str, Any], options: dict[str, str], command: str
) -> None:
    given = replace(GIVEN, options={**GIVEN.options, **options})
    (advice,) = advice_of(given, **changes)
    assert advice.command == command


def test_a_search_of_the_rate_drops_the_options_that_it_replaces() -> None:
    options = {"--rate": "9", "--count": "40", "--seconds": "5", "--against": "torch"}
    given = replace(GIVEN, options={**GIVEN.options, **options})
    wanted = f"{REPEATED} --threads 1 --limits --scenario server --p99 0.0123"
    assert search_command(given, 0.012345) == wanted


@pytest.mark.parametrize(
    ("kind", "below", "at"),
    [
        ("busy", {"others": 0.049}, {"others": 0.05}),
        ("floor", {"floor": 0.0099}, {"floor": 0.0101}),
        ("waiting", SERVER | {"waiting": 0.0249}, SERVER | {"waiting": 0.025}),
        ("copies", {**GPU, "copies": 0.0197}, {**GPU, "copies": 0.0199}),
        ("host", {"idle": 0.0197}, {"idle": 0.0199}),
        ("operations", {"operations": 0.0197}, {"operations": 0.0199}),
        ("memory", slowest("memory", 0.7, seconds=0.0296), slowest("memory", 0.7, seconds=0.0298)),
    ],
)
def test_a_part_is_worth_a_sentence_from_its_share_on(
    kind: str, below: dict[str, Any], at: dict[str, Any]
) -> None:
    assert advice_of(**below) == []
    assert [one.kind for one in advice_of(**at)] == [kind]


def test_another_backend_is_advised_below_six_tenths_of_the_ceiling() -> None:
    kinds = [advice_of(**slowest("memory", ratio))[0].kind for ratio in (0.59, 0.6)]
    assert kinds == ["layers", "memory"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"others": None, "steal": 0.04},
        {"scenario": "offline", "waiting": 0.06, "operations": 0.0},
        {"stages": {}},
        slowest("arithmetic", 0.85) | {"latency": 1.0},
        {**GPU, "cores": 8},
    ],
)
def test_what_is_not_worth_a_sentence_gives_none(changes: dict[str, Any]) -> None:
    assert advice_of(**changes) == []


def test_a_busy_machine_near_the_floor_gives_both_doubts_and_no_more() -> None:
    found = advice_of(others=0.5, floor=0.05, idle=0.05)
    assert [one.kind for one in found] == ["busy", "floor"]


def test_several_limits_are_listed_the_most_general_first() -> None:
    found = advice_of(idle=0.03, operations=0.03, **slowest("memory", 0.9))
    assert [one.kind for one in found] == ["host", "operations", "memory"]


def test_long_times_are_given_in_whole_milliseconds() -> None:
    (advice,) = advice_of(latency=1.5, waiting=0.0, idle=1.2344)
    assert "for 1234 ms of 1500 ms (82%)" in advice.text
    (advice,) = advice_of(latency=2.0, waiting=0.0, idle=0.9996)
    assert "for 1000 ms of 2000 ms (50%)" in advice.text
