"""`--profile`: a trace of a few steps that TensorBoard's profiler (xprof) opens.

    profile = Profile(directory, parse_steps("10-12"))
    with profile.step(10, recorder): ...  # the trace starts before step 10, once the devices are idle
    profile.stop(12, recorder)            # and ends after step 12
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import jax

from jitune.types import UserError

SKIPPED = 2  # steps before a trace that is given by its length: the first ones allocate and warm up


def parse_steps(text: str) -> tuple[int, int] | int | None:
    """"10-12" -> (10, 12), "3" -> 3 (as many steps, after the first two), "" -> None. Raises UserError."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    first, last = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if match and match[2] is None and first > 0:
        return first
    if not 0 < first <= last:
        raise UserError(f"--profile {text}: give steps as FIRST-LAST, such as 10-12, or how many, such as 3")
    return first, last


class Profile:
    """Traces the steps of this process into `directory`; steps None: never."""

    def __init__(self, directory: Path, steps: tuple[int, int] | int | None, *, start: int = 0):
        if isinstance(steps, int):
            steps = start + SKIPPED + 1, start + SKIPPED + steps
        self.directory, self.running = directory, False
        self.first, self.last = steps or (0, 0)

    def step(self, step: int, recorder):
        """A context for dispatching a step, named in the trace; starts the trace where it is the first."""
        if step == self.first:
            recorder.drain()
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every Python call: large, slow, and of no use here
            jax.profiler.start_trace(self.directory, profiler_options=options)
            self.running = True
            recorder.extend()
        if not self.running:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train_step", step_num=step)

    def stop(self, step: int, recorder) -> bool:
        """Ends the trace after its last step, once the devices are idle; returns whether it did."""
        if not self.running or step != self.last:
            return False
        recorder.drain()
        self.close()
        recorder.extend()
        return True

    def close(self) -> None:
        """Ends a trace that is still running, for a run that is over before its last traced step."""
        if self.running:
            self.running = False
            jax.profiler.stop_trace()
