# SPDX-License-Identifier: Apache-2.0
"""Running threads through a program: which continue where, and which wait.

NOTE: Of all active threads, those at the first basic block (in the order of the text) run next,
together; compilers lay out code so that this lets them meet again where their ways join. Threads at
a barrier, or at an exchange between the lanes of a warp, wait until all that it names are there.
"""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.batch import Batch
from tests.simulated_gpu.ptx.faults import DivergentBarrier, KernelFault, Trapped, Uninitialized
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import BARRIERS, Block, Bound, Program
from tests.simulated_gpu.ptx.waiting import ready

Moves = list[tuple[int, Array | None]]
STEP_LIMIT = 1_000_000


class Machine:
    """Runs the blocks of one batch to their end."""

    def __init__(self, program: Program, batch: Batch) -> None:
        self._blocks = program.blocks
        self._program = program
        self._batch = batch
        self._pending: dict[int, Array] = {}

    def run(self) -> None:
        """Run until every thread has ended.

        Raises:
            KernelFault: The kernel broke a rule.
        """
        self._pending[0] = np.ones(self._batch.threads, bool)
        steps = 0
        while self._pending:
            index, active = self._choose()
            frame = Frame(self._batch, None if active.all() else np.flatnonzero(active))
            going: int | None = index
            while going is not None:
                going = self._step(going, frame)
                steps += 1
                if steps > STEP_LIMIT:
                    lane = int(frame.lanes[0])
                    raise Trapped(
                        f"{self._program.name}: {self._batch.who(lane)} has not ended after "
                        f"{STEP_LIMIT} basic blocks: a loop without an end, or too large a case"
                    )

    def _step(self, index: int, frame: Frame) -> int | None:
        """Run one block; return the next one if the same threads go on there at once."""
        block = self._blocks[index]
        frame.enter(block.uses, block.defines)
        for bound in block.body:
            try:
                if frame.poison:
                    _run_carefully(bound, frame)
                else:
                    bound.run(frame)
            except KernelFault as fault:
                raise self._batch.blame(fault, frame, bound.instruction) from None
        moves = self._moves(block, frame)
        if len(moves) == 1:
            target = moves[0][0]
            alone = not self._pending or min(self._pending) > target
            if alone and target < len(self._blocks) and self._blocks[target].waits is None:
                return target
        frame.leave(block.live_out)
        for target, chosen in moves:
            self._send(target, frame.lanes if chosen is None else frame.lanes[chosen])
        return None

    def _send(self, target: int, lanes: Array) -> None:
        if target >= len(self._blocks):  # they have ended
            return
        if target not in self._pending:
            self._pending[target] = np.zeros(self._batch.threads, bool)
        self._pending[target][lanes] = True

    def _moves(self, block: Block, frame: Frame) -> Moves:
        """Return the blocks that threads go to, each with a mask of the frame's threads."""
        jump = block.jump
        if jump is None:
            return [(block.successors[0], None)]
        if jump.opcode == "ret":
            targets: tuple[int, ...] = (len(self._blocks), *block.successors)
        else:
            targets = block.successors
        if jump.guard is None:
            return [(targets[0], None)]
        self._check_known(jump.guard, frame, jump)
        taken = frame.values[jump.guard] ^ jump.guard_negated
        if taken.all():
            return [(targets[0], None)]
        if not taken.any():
            return [(targets[1], None)]
        return [(targets[0], taken), (targets[1], ~taken)]

    def _check_known(self, name: str, frame: Frame, jump: Instruction) -> None:
        if name in frame.poison:
            raise self._batch.blame(_unknown(name, frame), frame, jump)

    def _choose(self) -> tuple[int, Array]:
        """Take the threads that run next."""
        waiting = []
        for index in sorted(self._pending):
            if self._blocks[index].waits is None:
                return index, self._pending.pop(index)
            waiting.append(index)
        for index in waiting:
            instruction = self._blocks[index].waits
            assert instruction is not None
            here = self._pending[index]
            released = ready(instruction, here, self._batch)
            if released.any():
                rest = here & ~released
                del self._pending[index]
                if rest.any():
                    self._pending[index] = rest
                return index, released
        raise self._stuck(waiting[0])

    def _stuck(self, index: int) -> KernelFault:
        """Return the fault of a barrier that not all threads reach."""
        instruction = self._blocks[index].waits
        assert instruction is not None
        batch = self._batch
        lane = int(np.argmax(self._pending[index]))
        group = batch.block_of if instruction.opcode in BARRIERS else batch.warp_of
        if instruction.suffixes[:1] == ("warp",):
            group = batch.warp_of
        missing = np.flatnonzero((group == group[lane]) & ~self._pending[index])
        other = "others"
        if len(missing):
            other = batch.who(int(missing[0]))
            elsewhere = [i for i, mask in self._pending.items() if mask[missing[0]]]
            there = self._blocks[elsewhere[0]].waits if elsewhere else None
            other += f" waits at {self._program.place(there)}" if there else " has ended"
        return DivergentBarrier(
            f"{self._program.name}: {batch.who(lane)}: {self._program.place(instruction)}: "
            f"waits for threads that never come: {other}"
        )


def _unknown(name: str, frame: Frame) -> Uninitialized:
    position = int(np.argmin(frame.poison[name]))
    return Uninitialized(f"uses register {name}, to which nobody wrote", position)


def _run_carefully(bound: Bound, frame: Frame) -> None:
    """Run an instruction that may read a register without a value."""
    poisoned = [name for name in bound.sources if name in frame.poison]
    if poisoned and not bound.pure:
        raise _unknown(poisoned[0], frame)
    known = _known(bound, frame, poisoned)
    bound.run(frame)
    for name in bound.targets:
        if known is None or known.all():
            frame.poison.pop(name, None)
        else:
            frame.poison[name] = known


def _known(bound: Bound, frame: Frame, poisoned: list[str]) -> Array | None:
    """Return a mask of the lanes whose result is defined; None for all."""
    if not poisoned:
        return None
    everywhere = np.ones(1, bool)
    if bound.instruction.opcode == "selp":
        yes, no, predicate = bound.instruction.operands[1:]
        if predicate.name not in poisoned:
            return np.where(
                frame.values[predicate.name],
                frame.poison.get(yes.name, everywhere),
                frame.poison.get(no.name, everywhere),
            )
    known = everywhere
    for name in poisoned:
        known = known & frame.poison[name]
    return known
