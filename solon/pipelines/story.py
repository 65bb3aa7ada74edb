"""What a story is: `async (row, cast) -> Pair | SetAside`, and nothing else.

A story holds no file, retry, semaphore, cache or provenance code. It raises nothing for a row that cannot be
finished: it returns a SetAside with what there was. (`Halt` and `StorageError` pass through: they end the run.)
"""

from __future__ import annotations

from typing import Any, Protocol

from solon.cast import Cast
from solon.constitution import Role
from solon.rows import Pair, Row, SetAside

__all__ = ["Step", "Story"]

Step = tuple[str, str]
"""One call that a story may make: (step name, role)."""


class Story(Protocol):
    """A recipe's story with its constitution and judge."""

    def draws(self) -> tuple[tuple[str, tuple[Role, ...]], ...]:
        """Return (step, wordings that the drawn principle must have) for every die that a row throws."""
        ...

    def steps(self, cast: Cast) -> tuple[Step, ...]:
        """Return every call that one row makes at most, not counting the `again` of its players."""
        ...

    def goes_by(self, step: str) -> str | None:
        """Return the die (a step of `draws`) whose principle a call of this step speaks, None where it speaks none."""
        ...

    def digest(self) -> dict[str, Any]:
        """Return what of the story decides the data, for the plan's name."""
        ...

    async def __call__(self, row: Row, cast: Cast) -> Pair | SetAside:
        """Walk one row."""
        ...
