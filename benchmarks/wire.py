"""What one call costs on its way to a server and back: CPU of Solon's path beside the SDK's, as ratios in one run.

    python benchmarks/wire.py [--calls 1500] [--latency 0.2] [--in-flight 1 64 256]      about a minute

sdk          the openai SDK as it comes: `create`
sdk-aiohttp  `create` on the SDK's own aiohttp back end
solon        one attempt: the body out of a Call, sent, awaited with a limit of time, read into a Reply
solon+pace   the same through the pace: a turn, limits, retries
aiohttp      a session of aiohttp by hand, JSON written and read

ms      CPU of the client's process a call, user and system, while it asks; imports and the first call are left out
of sdk  the same as a share of what `create` costs
share   of the ideal time (calls x latency / in flight); one in flight is asked without latency
MB      the most memory that the process had

Each is asked the same question, of 1,400 characters, and answered in 120 to 240 tokens by `benchmarks/server.py` in a
process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from endpoint import served

CLIENTS = ("sdk", "sdk-aiohttp", "solon", "solon+pace", "aiohttp")
SYSTEM = "You are a careful assistant. You answer in full sentences, and say so where you do not know. " * 10
QUESTION = "How does a pin tumbler lock keep its door shut, and why can it be opened without its key? " * 5
Ask = Callable[[], Awaitable[object]]


def body() -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    return {"model": "tiny", "messages": messages, "max_tokens": 240, "temperature": 1.0}


async def asking(client: str, url: str, in_flight: int, until: AsyncExitStack) -> Ask:
    """Return what asks once, by one client; what it opens is closed with `until`."""
    if client.startswith("sdk"):
        import openai

        given = {"http_client": openai.DefaultAioHttpClient()} if client == "sdk-aiohttp" else {}
        sdk = await until.enter_async_context(openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", **given))
        return lambda: sdk.chat.completions.create(**body())
    if client == "aiohttp":
        import aiohttp

        connector = aiohttp.TCPConnector(limit=in_flight)
        session = await until.enter_async_context(aiohttp.ClientSession(connector=connector))

        async def by_hand() -> Any:
            async with session.post(f"{url}/v1/chat/completions", json=body()) as response:
                return (await response.json())["choices"][0]["message"]["content"]

        return by_hand

    from solon.calls import Call, Message, Sampling
    from solon.models import open_model
    from solon.models.spec import ModelSpec

    model: Any = open_model(ModelSpec(use="openai:tiny", base_url=f"{url}/v1", concurrency=in_flight))
    until.push_async_callback(model.close)
    call = Call(model.identity, (Message("system", SYSTEM), Message("user", QUESTION)), Sampling(1.0, None, 240))
    return lambda: model(call) if client == "solon+pace" else model._ask(call)


async def measure(client: str, url: str, in_flight: int, calls: int) -> dict[str, float]:
    async with AsyncExitStack() as until:
        ask = await asking(client, url, in_flight, until)
        await asyncio.gather(*(ask() for _ in range(in_flight)))
        left = calls

        async def asker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await ask()

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(asker() for _ in range(in_flight)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": 1000 * cpu / calls, "wall": wall, "MB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--one", nargs=3, metavar=("CLIENT", "URL", "IN_FLIGHT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        client, url, in_flight = given.one
        print(json.dumps(asyncio.run(measure(client, url, int(in_flight), given.calls))))
        return
    print(f"{given.calls:,} calls; CPU ms a call, as a share of `create`, share of the ideal time, peak MB\n")
    print(f"{'in flight':>9}  {'client':12}{'ms':>8}{'of sdk':>8}{'share':>8}{'MB':>6}")
    for in_flight in given.in_flight:
        latency = given.latency if in_flight > 1 else 0.0
        with served("--latency", str(latency)) as url:
            base = 0.0
            for client in CLIENTS:
                command = [sys.executable, __file__, "--calls", str(given.calls), "--one", client, url, str(in_flight)]
                told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                base = base or told["ms"]
                share = f"{given.calls * latency / in_flight / told['wall']:.2f}" if latency else "-"
                print(
                    f"{in_flight:>9}  {client:12}{told['ms']:8.3f}{told['ms'] / base:8.3f}{share:>8}{told['MB']:6.0f}"
                )


if __name__ == "__main__":
    main()
