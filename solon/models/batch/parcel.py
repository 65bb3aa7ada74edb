"""A parcel: the calls of one job, as large as the provider takes and the budget holds, written to disk as it grows.

    with Parcel(api) as parcel:
        parcel.fill(intent, waiting, worst, most)    in a thread: a hundred thousand calls take a while
        await parcel.afford(reserve)                  cut to what the budget holds
        parcel.seal()

Numbers are kept a call (where it ends, what it may cost), texts are not. The file has no name, so that nothing of it
is left when the process is killed.
"""

from __future__ import annotations

import tempfile
import threading
from array import array
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType

from solon.calls import Call
from solon.jobs import Waiting, custom_id, storage
from solon.models.batch.api import BatchAPI
from solon.spend import Spend

__all__ = ["Parcel"]

Reserve = Callable[[Spend], Awaitable[bool]]


class Parcel:
    """Use it as a context manager. `ids` and `keys` are of the calls in it, `too_large` those that no job holds.

    Raises StorageError where the disk is full.
    """

    def __init__(self, api: BatchAPI, folder: Path) -> None:
        self._api = api
        self._folder = folder
        self.ids = array("q")
        self.too_large: list[int] = []
        self.keys: list[str] = []
        self.size = 0
        # running totals, so that any first part of the calls is priced at once
        self._ends, self._tokens, self._nano = array("q"), array("q"), array("q")
        self.abandoned = threading.Event()

    def __enter__(self) -> Parcel:
        with storage(self._folder):
            self.content = tempfile.TemporaryFile(dir=self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandoned.set()
        self.content.close()

    def fill(
        self,
        intent: str,
        waiting: Iterable[Waiting],
        worst: Callable[[Call], Spend],
        most: int,
    ) -> None:
        """Put calls into it until the next one does not fit, or `most` are in it."""
        api, place = self._api, len(self._api.head)
        tokens = nano = 0
        with storage(self._folder):
            self.content.write(api.head)
            for one in waiting:
                if len(self.ids) >= most or self.abandoned.is_set():
                    return
                line = api.line(custom_id(intent, one.key), api.model.request(one.call))
                if len(api.head) + len(line) + len(api.tail) > api.most_bytes:
                    self.too_large.append(one.id)
                    continue
                joint = api.joint if self.ids else b""
                if place + len(joint) + len(line) + len(api.tail) > api.most_bytes:
                    return
                self.content.write(joint + line)
                place += len(joint) + len(line)
                cost = worst(one.call)
                tokens, nano = tokens + cost.tokens, nano + cost.nano
                self.ids.append(one.id)
                self.keys.append(one.key)
                self._ends.append(place)
                self._tokens.append(tokens)
                self._nano.append(nano)

    def worst(self, calls: int | None = None) -> Spend:
        """Return the most that its first `calls` can cost (all of them, where None)."""
        calls = len(self.ids) if calls is None else calls
        return Spend(calls, self._tokens[calls - 1], self._nano[calls - 1]) if calls else Spend()

    async def afford(self, reserve: Reserve) -> Spend:
        """Reserve what it may cost, and keep of its calls as many as the budget holds. Returns what was reserved."""
        held, beyond = 0, len(self.ids) + 1
        more = len(self.ids)
        while held < more < beyond:
            # a larger first part costs more: halving what is between finds the largest that fits
            if await reserve(self.worst(more) - self.worst(held)):
                held = more
            else:
                beyond = more
            more = held + (beyond - held) // 2
        for each in (self.ids, self.keys, self._ends, self._tokens, self._nano):
            del each[held:]
        return self.worst()

    def seal(self) -> None:
        """Close its content behind the last call, ready to be read from the start."""
        end = self._ends[-1] if self.ids else len(self._api.head)
        with storage(self._folder):
            self.content.truncate(end)
            self.content.seek(end)
            self.content.write(self._api.tail)
            self.content.flush()
            self.size = self.content.tell()
            self.content.seek(0)
