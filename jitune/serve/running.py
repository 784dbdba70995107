"""A request that is answered: its rows in the engine, and what they bring, on the loop of the web server.

    running = Running(engine, served, asks)          # Refused where the queue is full
    async for index, piece in running: ...           # until all rows are done
    running.close()                                  # frees what is left; always called

A row that fails raises Refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from jitune.serve.engine import ENDED, Closed, Engine, Full
from jitune.serve.fields import Refused
from jitune.serve.models import Served
from jitune.serve.row import Ask, Piece, Row


class Running:
    """See the module. Made on the loop that iterates over it."""

    def __init__(self, engine: Engine, served: Served, asks: Sequence[Ask]):
        self.engine, self.served = engine, served
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Queue()
        self.rows = [engine.row(served.name, ask, self._teller(i)) for i, ask in enumerate(asks)]
        most = engine.rows + engine.queue
        if len(asks) > most:
            raise Refused(400, f"the request asks for {len(asks)} answers, and this server takes {most} at a time",
                          param="n")  # fmt: skip
        try:
            engine.submit(served.name, self.rows)
        except Full as error:
            after = {"Retry-After": str(error.after)}
            raise Refused(429, f"the server has as many requests as it takes; try again in {error.after} s",
                          kind="rate_limit_error", code="queue_full", headers=after) from None  # fmt: skip
        except Closed:
            raise ended() from None

    def _teller(self, index: int):
        def tell(row: Row) -> None:
            news = index, row.take_piece() if not row.failed else None
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._news.put_nowait, news)

        return tell

    async def __aiter__(self) -> AsyncIterator[tuple[int, Piece]]:
        left = len(self.rows)
        while left:
            index, piece = await self._news.get()
            if piece is None:
                why = self.rows[index].failed
                raise ended() if why == ENDED else Refused(500, why, kind="server_error")
            left -= piece.last
            yield index, piece

    def close(self) -> None:
        """Frees the rows that are not done."""
        if any(not row.done for row in self.rows):
            self.engine.cancel(self.rows)


def ended() -> Refused:
    """What clients are told while the server ends."""
    return Refused(503, ENDED, kind="server_error", code="shutting_down", headers={"Connection": "close"})


def late(seconds: float) -> Refused:
    """What they are told when their time is over."""
    return Refused(504, f"there was no whole answer within {seconds:g} s, which this server gives a request",
                   kind="timeout_error", code="timeout")
