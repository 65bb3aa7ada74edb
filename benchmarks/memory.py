"""How much memory a run takes at its peak: by rows, on resume, and against an endpoint; and how soon a resume asks.

    python benchmarks/memory.py [10000 100000]        rows of each run; a million takes about half an hour
    python benchmarks/memory.py --only rows           or: endpoint

rows       the `preference` story with two candidates and one verdict, 3 calls a row, by a scripted model that answers
           at once, the ledger on, window 256. Each run is killed halfway (kill -9, by its own model), and started again
           by the same command. Flat means: the peak of the larger run is within 10 % of the smaller one's
endpoint   1,000 rows x 5 calls against the load server, 256 in flight; and which of the heavy libraries were loaded

Every run is the real command in a process of its own, whose peak is its own. "Walking" is the peak when the last call
was asked; "all" that of the whole process, the export of the dataset included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import endpoint

HEAVY = ("anthropic", "aiohttp", "datasets", "httpx2", "matplotlib", "numpy", "openai", "pandas", "pyarrow", "scipy")
HEAVY += ("torch", "transformers")
RECIPE = """\
constitution: cai-2022
prompts: prompts.txt
model: scripted:model.py:answer
story: {kind: preference}
judging: {both_orders: false}
export: {views: [preference]}
window: 256
"""
MODEL = '''
"""Answers at once; dies after so many calls where it is told to, and notes its first call and the peak memory."""
import os, signal, time
from pathlib import Path

LOGPROBS = True
VERSION = "1"
HERE = Path(__file__).parent
DIES = int(os.environ.get("MODEL_DIES", "0"))
asked = 0
words = ("an answer of ordinary length with words that come again as they do in any text " * 6).strip()


def answer(call):
    global asked
    if not asked:
        (HERE / "first").write_text(repr(time.time()))
    asked += 1
    if asked == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if asked % 500 == 0:
        for line in open("/proc/self/status"):
            if line.startswith("VmHWM"):
                (HERE / "peak").write_text(line.split()[1])
    if call.labels:
        p = (1 + int(call.key[-6:], 16)) / (2 + 0xFFFFFF)
        return {"A": p, "B": 1 - p}
    return f"{call.key[3:15]} {words} {call.key[15:30]}."
'''
WRAPPED = """
import atexit, runpy, sys
sys.argv = ["solon", "run", "recipe.yaml", "-q"]
tell = lambda: open("modules", "w").write("\\n".join(sorted({name.split(".")[0] for name in sys.modules})))
atexit.register(tell)
runpy.run_module("solon", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Walked:
    """What one process did: megabytes at its peak, seconds in all, and seconds until its first call."""

    megabytes: float
    walking: float
    seconds: float
    first: float
    code: int


def walked(folder: Path, **env: str) -> Walked:
    """Run the recipe of a folder once."""
    for left in ("first", "peak"):
        (folder / left).unlink(missing_ok=True)
    began, clock = time.time(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "solon", "run", "recipe.yaml", "-q"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    noted = folder / "peak"
    return Walked(
        megabytes=usage.ru_maxrss / 1024,
        walking=int(noted.read_text()) / 1024 if noted.exists() else float("nan"),
        seconds=time.perf_counter() - clock,
        first=float((folder / "first").read_text()) - began,
        code=process.returncode,
    )


def by_rows(folder: Path, sizes: list[int]) -> None:
    """Print a line a run, and how the peaks of the largest and the smallest compare."""
    print(f"{'rows':>10} {'':8}{'MB walking':>11}{'MB all':>8}{'rows/s':>8}{'first call':>12}")
    peaks: dict[str, list[float]] = {"started": [], "resumed": []}
    for rows in sizes:
        place = folder / str(rows)
        place.mkdir(parents=True)
        (place / "model.py").write_text(MODEL)
        (place / "recipe.yaml").write_text(RECIPE)
        with (place / "prompts.txt").open("w") as prompts:
            prompts.writelines(f"How do people do thing number {number}?\n" for number in range(rows))
        started = walked(place, MODEL_DIES=str(rows * 3 // 2))
        assert started.code == -signal.SIGKILL, f"exit code {started.code}"
        resumed = walked(place)
        assert resumed.code == 0, f"exit code {resumed.code}"
        for name, one in (("started", started), ("resumed", resumed)):
            peaks[name].append(one.walking)
            rate = rows / 2 / (one.seconds - one.first)
            print(
                f"{rows:10,} {name:8}{one.walking:11.0f}{one.megabytes:8.0f}{rate:8,.0f}{one.first:10.1f} s", flush=True
            )
        shutil.rmtree(place)
    for name, found in peaks.items():
        print(f"{name}: peak while walking, {sizes[-1]:,} rows against {sizes[0]:,}: {found[-1] / found[0]:.2f}")


def of_endpoint(folder: Path) -> None:
    """Print the peak of a run against one endpoint, and what it loaded."""
    endpoint.settle(folder, 1000)
    judge = MODEL.replace("if asked % 500", "if asked % 100")
    (folder / "judge.py").write_text(judge)
    with endpoint.served("--latency", "0.05") as url:
        (folder / "recipe.yaml").write_text(endpoint.RECIPE.format(url=url, in_flight=256, window=""))
        one = endpoint.ran([sys.executable, "-c", WRAPPED], url, folder)
    assert one.code == 0, f"exit code {one.code}"
    walking = int((folder / "peak").read_text()) / 1024
    loaded = set((folder / "modules").read_text().splitlines())
    peaks = f"{walking:.0f} MB walking, {one.megabytes:.0f} MB in all"
    print(f"one HTTP endpoint, 256 in flight, {one.calls:,} calls: {peaks}")
    print(f"  loaded: {', '.join(name for name in HEAVY if name in loaded)}")
    print(f"  not loaded: {', '.join(name for name in HEAVY if name not in loaded)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--only", choices=["rows", "endpoint"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.only != "rows":
            of_endpoint(Path(name) / "endpoint")
        if given.only != "endpoint":
            by_rows(Path(name), sorted(given.rows))


if __name__ == "__main__":
    main()
