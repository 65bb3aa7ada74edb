"""Look after the batch jobs of a ledger: which there are, and giving up one that cannot be waited for any longer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from solon.errors import BadInput
from solon.jobs import OPEN, Job, Jobs
from solon.ledger import Ledger
from solon.pipelines.run import RunFolder

__all__ = ["BatchJobs", "give_up_jobs", "list_jobs"]


@dataclass(frozen=True)
class BatchJobs:
    """The jobs of a ledger, in the order of their making, and what waits for the next: (run, model, calls)."""

    jobs: tuple[Job, ...]
    parked: tuple[tuple[str, str, int], ...]


def list_jobs(place: Path) -> BatchJobs:
    """Return the batch jobs of a run's ledger, or of the ledger at `place`."""
    jobs = Jobs(_ledger(place))
    try:
        return BatchJobs(tuple(jobs.jobs()), tuple(jobs.parked())) if jobs.exists else BatchJobs((), ())
    finally:
        jobs.close_file()


async def give_up_jobs(place: Path, number: int | None = None) -> list[Job]:
    """Wait for a job no longer: its calls are asked again by the next run that wants them; return what was given up.

    number: which job; left out, those that were written down and that the provider does not show, so that nobody knows
            whether they were submitted

    What it may cost is counted as lost: the provider bills what it answers, heard or not. Raises BadInput where there
    is nothing to give up.
    """
    path = _ledger(place)
    jobs = Jobs(path)
    try:
        there = jobs.jobs() if jobs.exists else []
        open_ones = [job for job in there if job.state in OPEN]
        wanted = [job for job in open_ones if (job.state == "intended" if number is None else job.id == number)]
        if not wanted:
            raise BadInput(_nothing(place, number, there, open_ones))
        ledger = Ledger.open(path)
        try:
            for job in wanted:
                jobs.close(job, "given up")
                await ledger.settle(job.run, reserved=job.worst, lost=job.worst)
        finally:
            await ledger.close()
        return [jobs.job(job.id) for job in wanted]
    finally:
        jobs.close_file()


def _nothing(place: Path, number: int | None, there: list[Job], open_ones: list[Job]) -> str:
    named = ", ".join(f"{job.id} ({job.state})" for job in open_ones) or "none"
    if number is None:
        return f"{place}: no job is being looked for; to give up another, name it (open jobs: {named})"
    ended = next((job.state for job in there if job.id == number), None)
    what = f"job {number} is {ended}" if ended else f"no job {number}"
    return f"{place}: {what}, and only open jobs can be given up (open jobs: {named})"


def _ledger(place: Path) -> Path:
    """Return the ledger of a run folder, or the ledger itself."""
    if place.is_dir():
        return RunFolder.open(place).ledger
    if not place.is_file():
        raise BadInput(f"{place}: no run folder and no ledger; give runs/<name>, or the path of a ledger.db")
    return place
