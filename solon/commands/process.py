"""What every process that walks goes by, and what one that does nothing else sets for itself."""

from __future__ import annotations

import gc
import os

__all__ = ["GRACE_SECONDS", "HALT_GRACE_SECONDS", "walk_alone"]

GRACE_SECONDS = 20.0
"""How long an interrupted run waits for calls in flight: they are paid for, so they are written down."""
HALT_GRACE_SECONDS = 5.0
"""The same where a model said that no later call can fare better: others may still be answering."""

COLLECTED = (5_000, 5, 5)
"""Python looks for rings of dead objects after so many new ones, every fifth time among older ones too. The default,
700 and ten, costs a walk 15 % of its time, since the objects of a row die by themselves when it ends; and seldom looks
among the oldest, where what outlived a look gathers: 15 MB by 60,000 rows (`benchmarks/memory.py`)."""


def walk_alone() -> None:
    """Let this process collect seldom, and give back what its exports took. Call it before the walk begins.

    For commands alone: a library must not do so to whoever imports it.
    """
    # pyarrow's own pool keeps what it once had: 20 MB more at the peak of a small run
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    gc.freeze()  # what was imported stays to the end
    gc.set_threshold(*COLLECTED)
