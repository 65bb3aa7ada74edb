"""Provider batch jobs on disk: which calls wait, which job has them, and which process looks after it."""

from __future__ import annotations

from solon.jobs.jobs import OPEN, Fate, Job, Jobs, Waiting, custom_id
from solon.ledger.file import storage

__all__ = ["OPEN", "Fate", "Job", "Jobs", "Waiting", "custom_id", "storage"]
