"""Commands that are stopped and go on later, with the same words.

    folder, code = run(lambda: distill(config))     # code: 0; 143 where SIGTERM stopped it, 130 where Ctrl-C did
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from jitune.types import UserError


def run(work: Callable[[], Any], *, stops: tuple[type[Exception], ...] = ()) -> tuple[Any, int]:
    """(what the work gave, exit code); None where it was stopped, which is said.

    stops: what the work raises where it takes signals itself, as training does.
    """
    asked = []

    def stop(number, frame):
        asked.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        return work(), 0
    except (KeyboardInterrupt, UserError, *stops) as error:
        if isinstance(error, UserError) and not asked:  # what the same signal ends, such as a worker, is no error
            raise
        stopped = asked or isinstance(error, stops)
        what = "stopped" if stopped else "interrupted"
        print(f"jitune: {what}; the same command goes on from here", file=sys.stderr)
        return None, 143 if stopped else 130
