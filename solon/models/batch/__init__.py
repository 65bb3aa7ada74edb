"""Provider batch jobs: half the price, an answer within 24 hours, behind the same seam as a live model.

    desk = Desk(model, jobs, keep=...)     stands where the live model would stand behind the ledger's door
    await desk(call)                       notes the call down and raises Parked: its row ends for now
    await desk.settle(stop, tell)          the walk has gone quiet: jobs are submitted, polled, read into the ledger

`desk` knows the life of a job, `desks` all desks of a run and who pays, `sending` how much is sent at once, `parcel`
what a job may hold, `collecting` and `results` what came back, `api` what all providers share; `openai_jobs` and
`anthropic_jobs` speak to theirs. What lies on disk is `solon.jobs`.
"""

from __future__ import annotations

from solon.models.batch.desk import Desk
from solon.models.batch.desks import Desks
from solon.models.batch.sending import BatchFacts

__all__ = ["BatchFacts", "Desk", "Desks"]
