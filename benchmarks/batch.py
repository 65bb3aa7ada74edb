"""What waiting for batch jobs costs this side of the wire: memory and time, from parking calls to closing their jobs.

    python benchmarks/batch.py [--calls 204800]

No server is asked: calls of 500 characters are parked, jobs as large as OpenAI takes are built on disk, each result is
found by its custom id and marked, and the jobs are closed. Memory must stay flat, and time a call must not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from solon.calls import Call, Message
from solon.errors import Parked
from solon.jobs import Fate, Jobs
from solon.models import open_model
from solon.models.batch import Desk
from solon.models.batch.parcel import Parcel
from solon.models.spec import ModelSpec
from solon.spend import Spend


def megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def never(*_: Any) -> None:
    raise AssertionError("nothing is asked")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=204_800)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model: Any = open_model(ModelSpec(use="openai:tiny", base_url="http://127.0.0.1:9/v1"))
        jobs = Jobs(Path(folder) / "ledger.db", "run")
        desk = Desk(model, jobs, keep=never)
        started = time.perf_counter()
        for number in range(given.calls):
            try:
                await desk(Call(model.identity, (Message("user", f"question {number} " + 100 * "word "),)))
            except Parked:
                continue
        waiting, _ = jobs.waiting(desk.shelf)
        print(f"parked     {waiting:>9,} calls  {each(started, given.calls)}  peak {megabytes()} MB")
        while jobs.waiting(desk.shelf)[0]:
            one_job(desk, jobs, Path(folder))
        size = jobs.path.stat().st_size
        print(f"jobs file  {size / 2**20:,.0f} MB, {size / given.calls:,.0f} bytes a call")
        await desk.close()
        jobs.close_file()
        await model.close()


def one_job(desk: Desk, jobs: Jobs, folder: Path) -> None:
    """Build, read and close one job."""
    started = time.perf_counter()
    with Parcel(desk.api, folder) as parcel:
        intent = uuid.uuid4().hex
        parcel.fill(intent, jobs.free(desk.shelf), lambda call: Spend(1), desk.api.most_calls)
        job = jobs.intend(intent, desk.shelf, "tiny", parcel.ids, parcel.worst())
        assert job is not None
        parcel.seal()
        built = f"built {each(started, job.calls)}, {parcel.size / 1e6:,.0f} MB"
    started = time.perf_counter()
    fates: list[tuple[int, int, str, str]] = []
    for place, one in enumerate(jobs.calls_of(job), start=1):
        found = jobs.meant(job, job.custom_id(one.key))
        assert found is not None
        fates.append((found.id, Fate.ANSWERED, "", ""))
        if len(fates) == 256 or place == job.calls:
            jobs.mark(job, fates)
            fates.clear()
    jobs.close(job, "collected", tried=3)
    print(
        f"job of     {job.calls:>9,} calls  {built}; read and closed {each(started, job.calls)}  peak {megabytes()} MB"
    )


def each(started: float, calls: int) -> str:
    return f"{1e6 * (time.perf_counter() - started) / calls:.0f} us a call"


if __name__ == "__main__":
    asyncio.run(main())
