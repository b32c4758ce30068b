# SPDX-License-Identifier: Apache-2.0
"""Entry points for captures and graphs."""

from __future__ import annotations

import ctypes

from tests.simulated_gpu.driver.entry import INT, PTR, SIZE, U64, UINT, entry, put
from tests.simulated_gpu.driver.graph import Executable, Graph, UserObject
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.driver.work import Stream


@entry(PTR, INT)
def cuStreamBeginCapture(sim: Simulation, stream: int, mode: int) -> None:
    capture = sim.streams.captures.begin(sim.stream(stream), mode)
    capture.handle = sim.handle(Graph(capture.nodes))


@entry(PTR, PTR)
def cuStreamEndCapture(sim: Simulation, stream: int, out: int) -> str:
    put(out, 0)
    handle = sim.streams.captures.end(sim.stream(stream)).handle
    put(out, handle)
    return f"{dict(sim.get(handle, Graph).kinds)}"


@entry(PTR, PTR)
def cuStreamIsCapturing(sim: Simulation, stream: int, out: int) -> None:
    put(out, _status(sim.stream(stream)), INT)


def _status(stream: Stream) -> int:
    return 0 if stream.capture is None else 2 if stream.capture.broken else 1


@entry(PTR, PTR)
def cuThreadExchangeStreamCaptureMode(sim: Simulation, mode: int) -> None: ...


@entry(PTR, PTR, PTR, PTR, PTR, PTR, PTR)
def cuStreamGetCaptureInfo(
    sim: Simulation,
    stream: int,
    status: int,
    number: int,
    graph: int,
    before: int,
    edges: int,
    count: int,
) -> None:
    one = sim.stream(stream)
    handle = one.capture.handle if one.capture else 0
    put(status, _status(one), INT)
    put(number, handle, U64)
    put(graph, handle)
    put(before, 0)
    put(edges, 0)
    put(count, 0, SIZE)


@entry(PTR, PTR, PTR)
def cuGraphInstantiateWithParams(sim: Simulation, out: int, graph: int, parameters: int) -> None:
    cuGraphInstantiate(sim, out, graph, 0)
    # CUDA_GRAPH_INSTANTIATE_PARAMS: flags (64 bits), upload stream, error node, result.
    put(parameters + 24, 0, INT)


@entry(PTR, PTR, U64)
def cuGraphInstantiate(sim: Simulation, out: int, graph: int, flags: int) -> None:
    put(out, sim.handle(Executable(sim.get(graph, Graph))))


@entry(PTR, PTR, U64)
def cuGraphInstantiateWithFlags(sim: Simulation, out: int, graph: int, flags: int) -> None:
    cuGraphInstantiate(sim, out, graph, flags)


@entry(PTR, PTR)
def cuGraphUpload(sim: Simulation, graph: int, stream: int) -> None:
    sim.get(graph, Executable)


@entry(PTR, PTR)
def cuGraphLaunch(sim: Simulation, graph: int, stream: int) -> str:
    one = sim.get(graph, Executable)
    one.launch(sim.streams, sim.stream(stream))
    return f"{len(one.graph.nodes)} nodes"


@entry(PTR, PTR, PTR)
def cuGraphGetNodes(sim: Simulation, graph: int, nodes: int, count: int) -> None:
    put(count, len(sim.get(graph, Graph).nodes), SIZE)


@entry(PTR)
def cuGraphDestroy(sim: Simulation, graph: int) -> None:
    one = sim.pop(graph, Graph)
    if not any(isinstance(e, Executable) and e.graph is one for e in sim.objects.values()):
        _release_all(one)


@entry(PTR)
def cuGraphExecDestroy(sim: Simulation, graph: int) -> None:
    one = sim.pop(graph, Executable).graph
    users = (e for e in sim.objects.values() if isinstance(e, Executable) and e.graph is one)
    if one not in sim.objects.values() and not any(users):
        _release_all(one)


def _release_all(graph: Graph) -> None:
    held, graph.held = graph.held, []
    for one in held:
        one.release(1)


# cuda-core keeps alive what a graph refers to by user objects ---------------------------------------
@entry(PTR, PTR, PTR, UINT, UINT)
def cuUserObjectCreate(
    sim: Simulation, out: int, data: int, destroy: int, count: int, flags: int
) -> None:
    call = ctypes.CFUNCTYPE(None, PTR)(destroy)
    put(out, sim.handle(UserObject(lambda: call(data), count)))


@entry(PTR, UINT)
def cuUserObjectRetain(sim: Simulation, thing: int, count: int) -> None:
    sim.get(thing, UserObject).count += count


@entry(PTR, UINT)
def cuUserObjectRelease(sim: Simulation, thing: int, count: int) -> None:
    sim.get(thing, UserObject).release(count)


@entry(PTR, PTR, UINT, UINT)
def cuGraphRetainUserObject(
    sim: Simulation, graph: int, thing: int, count: int, flags: int
) -> None:
    one = sim.get(thing, UserObject)
    if not flags & 1:  # else the references of the caller are moved
        one.count += count
    sim.get(graph, Graph).held += [one] * count


@entry(PTR, PTR, UINT)
def cuGraphReleaseUserObject(sim: Simulation, graph: int, thing: int, count: int) -> None:
    one = sim.get(thing, UserObject)
    for _ in range(count):
        sim.get(graph, Graph).held.remove(one)
    one.release(count)
