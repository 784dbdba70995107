"""Which remat policies and batch sizes fit a device: each is compiled, none is guessed from another.

    cells = compare(study(config, model_config, mesh, elsewhere=True), model_config, hardware, rows=(1, 2, 4))
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from jitune import config as configs
from jitune import sharding
from jitune.planning.study import Study, study
from jitune.planning.tables import size, step_seconds, table, verdict

# From the least to the most that is computed again.
POLICIES = ("none", "dots", "dots_no_batch", "full")


class Cell(NamedTuple):
    """One choice. rows: of a microbatch on each device that has rows of its own. study: None where it was not made,
    because fewer rows already need more than there is."""

    policy: str
    rows: int
    batch_size: int
    study: Study | None


def compare(first: Study, model_config, hardware, *, policies=POLICIES, rows=(1, 2, 4)) -> list[Cell]:
    """Studies every policy with every number of rows, until one is too big; two at a time.

    first: the configuration to change; it is not compiled again.
    """
    config, mesh = first.config, first.mesh

    def climb(policy: str) -> list[Cell]:
        cells, full = [], False
        for count in sorted(rows):
            changed = change(config, mesh, policy, count)
            same = (policy, changed.batch_size) == (config.model.remat, config.batch_size)
            made = first if same else None if full else study(changed, model_config, mesh, elsewhere=True)
            cells.append(Cell(policy, count, changed.batch_size, made))
            full = made is None or verdict(made.memory.peak, hardware) == "too big"
        return cells

    with ThreadPoolExecutor(2) as pool:
        return [cell for cells in pool.map(climb, policies) for cell in cells]


def change(config, mesh, policy: str, rows: int):
    """A copy of the config with this policy and `rows` rows of a microbatch on each device."""
    changed = configs.from_json(configs.to_json(config))
    changed.model.remat = policy
    changed.batch_size = rows * sharding.batch_shards(mesh) * config.microbatches
    return changed


def comparison(cells: list[Cell], hardware):
    """The table of a comparison."""
    made = table("remat", ">rows", ">batch", ">peak", ">of memory", "verdict", ">FLOP/token", ">tokens/s")
    for cell in cells:
        front = (cell.policy, str(cell.rows), str(cell.batch_size))
        if cell.study is None:
            made.add_row(*front, "", "", "too big")
            continue
        tokens = cell.batch_size * cell.study.config.seq_len
        peak, seconds = cell.study.memory.peak, step_seconds(cell.study, hardware)
        made.add_row(*front, size(peak), f"{peak / hardware.memory_bytes:.0%}", verdict(peak, hardware),
                     f"{cell.study.products / tokens:.3g}", f"{tokens / seconds:,.0f}" if seconds else "")
    return made


def conclude(cells: list[Cell], hardware) -> str:
    """What fits, in one line a policy."""
    lines = []
    for policy in dict.fromkeys(cell.policy for cell in cells):
        mine = [c for c in cells if c.policy == policy and c.study]
        fits = [c for c in mine if verdict(c.study.memory.peak, hardware) == "fits"]
        if fits:
            lines.append(f"remat {policy}: fits with {_rows(fits[-1])} a device, batch_size {fits[-1].batch_size}")
        else:
            lines.append(f"remat {policy}: does not fit with {_rows(mine[0])} a device")
    return "\n".join(lines)


def _rows(cell: Cell) -> str:
    return f"{cell.rows} row{'s' * (cell.rows != 1)}"
