"""Many questions, a window of them at once, with an end that leaves nobody asking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from solon.cast import together

__all__ = ["ask_all"]

T = TypeVar("T")
R = TypeVar("R")


async def ask_all(
    jobs: Iterable[T],
    ask: Callable[[T], Awaitable[R]],
    *,
    window: int,
    tell: Callable[[R, int], None] = lambda answer, done: None,
) -> list[R]:
    """Return what every job came to, in order; `window` of them are asked at once.

    tell: told of each answer as soon as it is there, and how many there are

    Raises what `ask` raises, and takes the other questions back.
    """
    answers: dict[int, R] = {}
    waiting = enumerate(jobs)

    async def work() -> None:
        for place, job in waiting:  # shared by all: each job is taken once
            answers[place] = await ask(job)
            tell(answers[place], len(answers))
            await asyncio.sleep(0)  # what memory knows never waits, and Ctrl-C must still be heard

    await together(*(work() for _ in range(window)))
    return [answers[place] for place in sorted(answers)]
