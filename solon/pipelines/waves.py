"""How many waves of batch jobs a story needs: what a row asks at once is one, and each may take a day."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable

from solon.cast import Cast
from solon.pipelines.story import Step, Story

__all__ = ["WAVE_HOURS", "waves"]

WAVE_HOURS = 24
"""How long a provider may take for one wave; most come back sooner."""


def waves(story: Story, cast: Cast, batch_roles: Collection[str]) -> int:
    """Return in how many waves the rows of a story are done at most, where these roles wait for batch jobs.

    The judge's orders, and the candidates of one prompt, are asked at once: one wave. Steps of roles that are asked
    live add none. An answer that may be asked anew (`again`) may take as many waves more.
    """
    again = {player.role: player.again for player in cast.players()}
    return sum(
        max((1 + again[role] for _, role in stage if role in batch_roles), default=0)
        for stage in _stages(story.steps(cast))
    )


def _stages(steps: Iterable[Step]) -> list[list[Step]]:
    """Return the steps in groups: those of one are asked at once, and each group quotes answers of those before."""
    groups: dict[Hashable, list[Step]] = {}
    for step, role in steps:
        craft = step.partition(".")[0]
        # rounds follow each other; a judge's reasoning comes before its verdict, whichever two texts it compares
        stage = (craft, step.endswith(".reason")) if craft in ("respond", "judge") else step
        groups.setdefault(stage, []).append((step, role))
    return list(groups.values())
