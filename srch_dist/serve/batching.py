"""Answer requests that arrive together by one search: faiss is faster for many queries at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from srch_dist.kernels.types import Packed
from srch_dist.search.hamming import SearchResult

# Called with query codes (q, l / 8) and the results per query.
Search = Callable[[Packed, int], SearchResult]


@dataclass
class _Waiting:
    codes: Packed
    top: int
    answer: asyncio.Future[SearchResult]


class Batcher:
    """Collects queries for a moment, and searches them in one thread.

    Parameters
    ----------
    search : the search of a batch.
    most : queries per batch.
    seconds : time that the first request of a batch waits for others.
    observe : called with the number of queries of each batch.
    """

    def __init__(
        self, search: Search, most: int, seconds: float, observe: Callable[[int], None]
    ) -> None:
        self._search, self._most, self._seconds, self._observe = search, most, seconds, observe
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def search(self, codes: Packed, top: int) -> SearchResult:
        """Search with query codes (q, l / 8), together with those of other requests."""
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        waiting = _Waiting(codes, top, asyncio.get_running_loop().create_future())
        await self._queue.put(waiting)
        return await waiting.answer

    async def close(self) -> None:
        """End the task that searches."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(self._seconds)
            count = len(batch[0].codes)
            while not self._queue.empty() and count < self._most:
                batch.append(self._queue.get_nowait())
                count += len(batch[-1].codes)
            self._observe(count)
            codes = np.concatenate([waiting.codes for waiting in batch])
            top = max(waiting.top for waiting in batch)
            try:
                found = await asyncio.to_thread(self._search, codes, top)
            except Exception as error:  # every request of the batch gets it
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            start = 0
            for waiting in batch:
                stop = start + len(waiting.codes)
                if not waiting.answer.done():  # the client may have gone
                    waiting.answer.set_result(_cut(found, start, stop, waiting.top))
                start = stop


def _cut(found: SearchResult, start: int, stop: int, top: int) -> SearchResult:
    parts = None if found.parts is None else found.parts[start:stop, :top]
    return SearchResult(
        found.rows[start:stop, :top], found.distances[start:stop, :top], None, parts
    )
