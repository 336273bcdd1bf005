"""Whether a plan fits a device's memory, told before anything is allocated, with who takes the most."""

from __future__ import annotations

from graphnet.compiler.errors import BackendError
from graphnet.compiler.memory import aligned
from graphnet.compiler.printers.memory import owner, temporaries
from graphnet.compiler.printers.text import Places, clean
from graphnet.compiler.schedule import Plan
from graphnet.device import Device
from graphnet.tensor import user_where

_OWNERS = 3


def ensure_room(device: Device, plan: Plan, inputs: int, constants: int) -> None:
    """Raises BackendError if the plan's arena and the bytes of all blocks of its own are more than are free."""
    free, total = device.room()
    needed = plan.memory.arena + inputs + constants
    if needed <= free:
        return
    homes = sum(n for kind, n in plan.memory.homes.items() if kind not in ("input", "constant"))
    own = f"{plan.memory.arena:,} B for temporaries, {inputs:,} B for {plan.memory.blocks} blocks of inputs"
    raise BackendError(
        f"{user_where()}: {clean(plan.graph.name)} needs {needed:,} B of GPU memory ({own}) beside {homes:,} B of "
        f"parameters and states, {free:,} of {total:,} B are free: use a smaller batch. "
        f"Most is owned by {'; '.join(_largest(plan)) or 'inputs'}"
    )


def _largest(plan: Plan) -> list[str]:
    """The lines that own most of what is alive at the peak."""
    at, sums = plan.memory.peak_position, dict[str, int]()
    temps = temporaries(plan)
    places = Places(s.where for s in temps)
    for s in temps:
        if s.first <= at <= s.last:
            sums[owner(s, places)] = sums.get(owner(s, places), 0) + aligned(s.nbytes)
    rows = sorted(sums.items(), key=lambda row: (-row[1], row[0]))
    return [f"{name} ({nbytes:,} B)" for name, nbytes in rows[:_OWNERS]]
