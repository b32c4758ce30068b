# SPDX-License-Identifier: Apache-2.0
"""Entry points for streams and events."""

from __future__ import annotations

import ctypes
from ctypes import c_float

from tests.simulated_gpu.driver.entry import INT, PTR, U64, UINT, entry, put
from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.driver.work import Event, Stream


@entry(PTR, UINT)
def cuStreamCreate(sim: Simulation, out: int, flags: int) -> str:
    return cuStreamCreateWithPriority(sim, out, flags, 0)


@entry(PTR, UINT, INT)
def cuStreamCreateWithPriority(sim: Simulation, out: int, flags: int, priority: int) -> str:
    stream = Stream(blocking=not flags & 1, context=sim.current[-1])
    sim.streams.all.append(stream)
    put(out, sim.handle(stream))
    return "blocking" if stream.blocking else "non-blocking"


@entry(PTR)
def cuStreamDestroy(sim: Simulation, stream: int) -> None:
    sim.streams.all.remove(sim.pop(stream, Stream))


@entry(PTR)
def cuStreamSynchronize(sim: Simulation, stream: int) -> None:
    one = sim.stream(stream)
    sim.streams.captures.refuse_captured(one, "a wait for a stream that is captured")
    sim.streams.synchronize(one.ends)


@entry(PTR)
def cuStreamQuery(sim: Simulation, stream: int) -> None:
    one = sim.stream(stream)
    sim.streams.captures.refuse_captured(one, "a query of a stream that is captured")
    sim.streams.query(one.ends)


@entry(PTR, PTR, UINT)
def cuStreamWaitEvent(sim: Simulation, stream: int, event: int, flags: int) -> None:
    sim.streams.wait(sim.stream(stream), sim.get(event, Event))


@entry(PTR, PTR)
def cuStreamGetCtx(sim: Simulation, stream: int, out: int) -> None:
    put(out, sim.stream(stream).context or sim.current[-1])


@entry(PTR, PTR, PTR)
def cuStreamGetCtx_v2(sim: Simulation, stream: int, out: int, green: int) -> None:
    cuStreamGetCtx(sim, stream, out)
    put(green, 0)


@entry(PTR, PTR)
def cuStreamGetFlags(sim: Simulation, stream: int, out: int) -> None:
    put(out, 0 if sim.stream(stream).blocking else 1, UINT)


@entry(PTR, PTR)
def cuStreamGetPriority(sim: Simulation, stream: int, out: int) -> None:
    put(out, 0, INT)


@entry(PTR, PTR)
def cuStreamGetDevice(sim: Simulation, stream: int, out: int) -> None:
    put(out, 0, INT)


@entry(PTR, PTR)
def cuStreamGetId(sim: Simulation, stream: int, out: int) -> None:
    put(out, stream or 0, U64)


@entry(PTR, PTR, PTR)
def cuLaunchHostFunc(sim: Simulation, stream: int, function: int, data: int) -> None:
    call = ctypes.CFUNCTYPE(None, PTR)(function)
    sim.streams.enqueue(sim.stream(stream), "host", "function", lambda: call(data))


# Events ---------------------------------------------------------------------------------------------
@entry(PTR, UINT)
def cuEventCreate(sim: Simulation, out: int, flags: int) -> None:
    timed = not flags & 2  # CU_EVENT_DISABLE_TIMING
    put(out, sim.handle(Event(context=sim.current[-1], timed=timed)))


@entry(PTR)
def cuEventDestroy(sim: Simulation, event: int) -> None:
    sim.pop(event, Event)


@entry(PTR, PTR)
def cuEventRecord(sim: Simulation, event: int, stream: int) -> None:
    one, other = sim.get(event, Event), sim.stream(stream)
    if one.context != (other.context or sim.current[-1]):
        raise Refused(Status.INVALID_HANDLE, "event and stream are of different contexts")
    sim.streams.record(one, other)


@entry(PTR, PTR, UINT)
def cuEventRecordWithFlags(sim: Simulation, event: int, stream: int, flags: int) -> None:
    cuEventRecord(sim, event, stream)


@entry(PTR)
def cuEventSynchronize(sim: Simulation, event: int) -> None:
    sim.streams.synchronize(_outside(sim, event).ends)


@entry(PTR)
def cuEventQuery(sim: Simulation, event: int) -> None:
    sim.streams.query(_outside(sim, event).ends)


def _outside(sim: Simulation, event: int) -> Event:
    one = sim.get(event, Event)
    if one.capture is not None:
        one.capture.broken = True
        raise Refused(Status.CAPTURED_EVENT, "the event belongs to a capture")
    return one


@entry(PTR, PTR, PTR)
def cuEventElapsedTime(sim: Simulation, out: int, start: int, end: int) -> None:
    for event in (start, end):
        one = sim.get(event, Event)
        if not one.recorded or not one.timed:
            raise Refused(Status.INVALID_HANDLE, "the event was never recorded, or is not timed")
        if not all(task.done for task in one.ends):
            raise Refused(Status.NOT_READY)
    put(out, 0.0, c_float)  # no time passes here
