"""What a run makes of a server's limits, in simulated minutes, and what waiting for a turn costs.

python benchmarks/limits.py           use of the limit, and refusals, after the first minute; five minutes each
python benchmarks/limits.py --cpu     microseconds of CPU that a call spends in its pace
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from pace_kit import Limit, LimitedServer, drive, simulate
from wire import asking

from solon.calls import Call, Reply, Usage
from solon.models.pace import Pace

SECONDS = 360
WORKERS = 500
CALLS = 20_000


def walk(server: LimitedServer, **given: float) -> LimitedServer:
    async def main() -> None:
        pace = Pace(server, patience=1e9, sleep=asyncio.sleep, clock=asyncio.get_running_loop().time, **given)
        await drive(server, pace, seconds=SECONDS, workers=WORKERS, call=asking("How do you do? " * 20))

    simulate(main())
    return server


def limits() -> None:
    print("| requests a minute | counted by | known from | used | refused |")
    print("| --- | --- | --- | --- | --- |")
    for a_minute, kind in itertools.product((60, 600, 3000), ("bucket", "window")):
        for source in ("the recipe", "OpenAI's headers", "Anthropic's headers", "Retry-After alone", "429 alone"):
            headers = {"O": "openai", "A": "anthropic"}.get(source[0], "")
            server = walk(
                LimitedServer(Limit(a_minute, kind, phase=17), headers=headers, patient=source.startswith("Retry")),
                **({"requests_per_minute": a_minute} if source == "the recipe" else {}),
            )
            used, refused = server.used(60, SECONDS), server.refused(60, SECONDS)
            print(f"| {a_minute:,} | {kind} | {source} | {used:.1%} | {refused:.2%} |", flush=True)


async def cpu() -> None:
    call, reply = asking("How do you do? " * 20), Reply("Fine.", usage=Usage(80, 20))

    async def at_once(call: Call) -> Reply:
        return reply

    async def later(call: Call) -> Reply:
        await asyncio.sleep(0)
        return reply

    async def asks(pace: Pace, calls: int) -> None:
        for _ in range(calls):
            await pace(call)

    print("| a call | microseconds |")
    print("| --- | --- |")
    for name, ask, workers, given in (
        ("that nothing holds back", at_once, 1, {}),
        ("with a limit on requests", at_once, 1, {"requests_per_minute": 1e9}),
        ("with limits on requests and tokens", at_once, 1, {"requests_per_minute": 1e9, "tokens_per_minute": 1e12}),
        ("among 64 that wait for 8 turns", later, 64, {"concurrency": 8}),
        ("among 1,024 that wait for 8 turns", later, 1024, {"concurrency": 8}),
    ):
        pace = Pace(ask, **given)
        begun = time.process_time()
        await asyncio.gather(*(asks(pace, CALLS // workers) for _ in range(workers)))
        print(f"| {name} | {1e6 * (time.process_time() - begun) / CALLS:.1f} |")


if __name__ == "__main__":
    asyncio.run(cpu()) if "--cpu" in sys.argv else limits()
