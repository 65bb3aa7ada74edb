"""How much of an endpoint a run uses: Solon beside plain loops over the very same questions, as ratios in one run.

    python benchmarks/endpoint.py [--in-flight 64 256 1024] [--latency 0.2] [--prompts 1000]
    python benchmarks/endpoint.py --quick                    64 and 256 in flight, 400 prompts: under two minutes
    python benchmarks/endpoint.py --only solon sdk           some of the clients

The job is 1,000 prompts x 5 chained calls: `revision` with two rounds (answer, critique, revision, critique, revision),
each asked of one HTTP endpoint. The judge is a script, so that exactly these five reach the endpoint; what its verdict
costs Solon is counted. Solon is the real command, `solon run recipe.yaml`, in a process of its own: plan, ledger, rows
and export included, into an empty folder. The plain loops (`clients.py`) replay the bodies that Solon sent, in the same
chains, keep nothing and write nothing.

share     of the ideal: calls x latency / in flight, against the time from the first request to the last answer by the
          server's own clock. So many chains at once leave places empty in the last round: the job itself allows the
          share in the first line
calls/s   by the same clock
CPU       milliseconds of the client's process a call, user and system, imports, plan and export included
MB        the most memory that the process had
flying    the most requests that the server saw in flight at once

Client and server have a core of their own where the machine has two. `solon-by-2` is `solon run --processes 2`: two
processes share the rows, one ledger and the calls in flight; they have all cores, and on a machine with two they share
the server's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLIENTS = ("protocol", "aiohttp", "sdk-aiohttp", "sdk", "solon", "solon-by-2")
CHAIN = 5
JUDGE = """\
LOGPROBS = True
VERSION = "1"


def answer(call):
    p = (1 + int(call.key[-4:], 16)) / 0x10001
    return {"A": p, "B": 1 - p}
"""
RECIPE = """\
constitution: cai-2022
prompts: prompts.jsonl
model: {{use: "openai:tiny", base_url: "{url}/v1", concurrency: {in_flight}}}
cast: {{judge: {{model: "scripted:judge.py:answer"}}}}
story: {{kind: revision, rounds: 2}}
judging: {{both_orders: false}}
{window}
"""


@dataclass(frozen=True)
class Figures:
    """What one client did."""

    calls: int
    seconds: float
    cpu: float
    megabytes: float
    peak: int
    code: int

    def share(self, latency: float, in_flight: int) -> float:
        return self.calls * latency / in_flight / self.seconds

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu / self.calls


def cores() -> tuple[set[int], set[int]]:
    """Return the client's core and the server's."""
    mine = sorted(os.sched_getaffinity(0))
    return {mine[0]}, {mine[-1]}


@contextmanager
def served(*options: str) -> Iterator[str]:
    """Hold a load server in a process of its own; yield its address."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores()[1]),
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def told(url: str, path: str) -> Any:
    """Return what the server's own books say."""
    request = urllib.request.Request(url + path, method="POST" if path == "/reset" else "GET")
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def ran(arguments: Sequence[str], url: str, cwd: Path, *, everywhere: bool = False) -> Figures:
    """Run a client on its core, or on all of them; return its own costs and what the server saw of it."""
    mine = os.sched_getaffinity(0) if everywhere else cores()[0]
    told(url, "/reset")
    process = subprocess.Popen(
        arguments,
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, mine),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    books = told(url, "/stats")
    return Figures(
        calls=books["answered"],
        seconds=books["last"] - books["first"],
        cpu=usage.ru_utime + usage.ru_stime,
        megabytes=usage.ru_maxrss / 1024,
        peak=books["peak"],
        code=process.returncode,
    )


def settle(folder: Path, prompts: int) -> None:
    """Write what a recipe needs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "judge.py").write_text(JUDGE)
    lines = [json.dumps({"prompt": f"How do people do thing number {number}?"}) + "\n" for number in range(prompts)]
    (folder / "prompts.jsonl").write_text("".join(lines))


def solon(folder: Path, url: str, in_flight: int, window: float | None, processes: int = 1) -> Figures:
    """Run the recipe in a folder without any memory."""
    for left in ("runs", ".solon"):
        shutil.rmtree(folder / left, ignore_errors=True)
    rows = "" if window is None else f"window: {round(in_flight * window)}"
    (folder / "recipe.yaml").write_text(RECIPE.format(url=url, in_flight=in_flight, window=rows))
    more = ["--processes", str(processes)] if processes > 1 else []
    command = [sys.executable, "-m", "solon", "run", "recipe.yaml", "-q", *more]
    return ran(command, url, folder, everywhere=processes > 1)


def record(folder: Path, prompts: int) -> Path:
    """Let Solon ask everything once; return a file of the chains that it asked."""
    kept, chains = folder / "bodies.jsonl", folder / "chains.jsonl"
    settle(folder, prompts)
    with served("--keep", str(kept)) as url:
        done = solon(folder, url, 64, None)
        assert done.code == 0, "solon run failed"
    by_prompt: dict[str, list[Any]] = defaultdict(list)
    for line in kept.read_text(encoding="utf-8").splitlines():
        body = json.loads(line)
        by_prompt[body["messages"][0]["content"]].append(body)
    assert {len(chain) for chain in by_prompt.values()} == {CHAIN} and len(by_prompt) == prompts
    chains.write_text("".join(json.dumps(chain) + "\n" for chain in by_prompt.values()))
    return chains


def allowed(prompts: int, in_flight: int) -> float:
    """Return the share that chains of CHAIN calls, `in_flight` of them at once, allow: the last round is not full."""
    rounds = -(-prompts // in_flight) * CHAIN
    return prompts * CHAIN / in_flight / rounds


def compared(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Print a table for each number of calls in flight; return the figures."""
    chains = record(folder, given.prompts)
    found: dict[str, Any] = {}
    for latency, in_flight in [(given.latency, number) for number in given.in_flight] + [(0.0, 64)]:
        title = f"{in_flight} in flight, {1000 * latency:.0f} ms"
        ideal = f"; the job itself allows {allowed(given.prompts, in_flight):.3f}" if latency else ""
        print(f"\n{title}: {given.prompts:,} prompts x {CHAIN} chained calls{ideal}")
        print(f"{'':14}{'share':>7}{'calls/s':>9}{'CPU ms':>8}{'MB':>6}{'flying':>8}")
        with served("--latency", str(latency)) as url:
            for name in given.only:
                if name.startswith("solon"):
                    one = solon(folder, url, in_flight, given.window, 2 if name == "solon-by-2" else 1)
                else:
                    script = [sys.executable, str(HERE / "clients.py"), name, url, str(chains), str(in_flight)]
                    one = ran(script, url, folder)
                share = f"{one.share(latency, in_flight):7.3f}" if latency else f"{'':7}"
                short = (
                    "" if (one.calls, one.code) == (given.prompts * CHAIN, 0) else f"  {one.calls} calls, {one.code}"
                )
                rate = one.calls / one.seconds
                print(
                    f"{name:14}{share}{rate:9,.0f}{one.cpu_ms:8.2f}{one.megabytes:6.0f}{one.peak:8}{short}", flush=True
                )
                found.setdefault(title, {})[name] = vars(one)
    return found


def measure_server() -> None:
    """Print how many answers a second the load server gives on one core: what bounds every other figure here."""
    with tempfile.TemporaryDirectory() as name, served() as url:
        chains = Path(name) / "chains.jsonl"
        question = {"role": "user", "content": "How is thing number {} done? " + "It takes a while to tell. " * 20}
        bodies = [
            [{"model": "tiny", "messages": [{**question, "content": f"{n} {question['content']}"}]}] * 5
            for n in range(4000)
        ]
        chains.write_text("".join(json.dumps(chain) + "\n" for chain in bodies))
        one = ran([sys.executable, str(HERE / "clients.py"), "protocol", url, str(chains), "64"], url, Path(name))
    print(f"load server: {one.calls / one.seconds:,.0f} answers a second, 64 in flight, {one.calls:,} in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument(
        "--window", type=float, help="rows that Solon walks at once, for each call in flight; left to Solon by default"
    )
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    given = parser.parse_args()
    if given.quick:
        given.in_flight, given.prompts = [64, 256], 400
    with tempfile.TemporaryDirectory() as folder:
        found = compared(Path(folder) / "desk", given)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
