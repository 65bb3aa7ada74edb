"""How the row store and the export behave with many rows: rows a second, bytes a row, and peak memory.

    python benchmarks/rows.py [rows]        # 200,000 by default, beside a tenth of them

Each size runs in a process of its own, so that its peak memory is its own. The ratio of the two peaks says whether
memory grows with the number of rows: 1 means that it does not, 10 that it does so in step.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from solon.calls import Message
from solon.dataset import CardFacts, ExportSpec, RowStore, export
from solon.rows import Asked, Draft, Draw, Pair, Prompt, Row, SetAside, Vote

WORDS = "a judge reads both answers in both orders and says which of them follows the constitution better " * 4


def outcome(row: Row) -> Pair | SetAside:
    """Return a finished row of ordinary size: three drafts of 400 characters, two critiques, two votes, seven calls."""
    drafts = tuple(
        Draft(name, f"{row.index} {name} {WORDS}", "p1", "d" * 64, WORDS if name != "response" else "")
        for name in ("response", "revision.1", "revision.2")
    )
    votes = tuple(Vote(order, 0.1, "logprobs", 0.98, "", f"c1:{'0' * 64}") for order in ("ab", "ba"))
    asked = tuple(Asked(f"step.{number}", "critic", f"c1:{'0' * 64}") for number in range(7))
    if row.index % 10 == 0:
        return SetAside(row, "tie", "P = 0.5", drafts, votes, asked)
    texts = (drafts[2].text, drafts[0].text)
    return Pair(row, *texts, "revision.2", "response", 0.9, "p", "d" * 64, "tiny", votes, drafts, asked)


def measure(count: int) -> dict[str, float]:
    """Plan, walk, resume and export `count` rows; return seconds of each, bytes a row, and the peak memory in MiB."""
    figures: dict[str, float] = {}

    def lap(name: str, started: float) -> None:
        figures[name] = time.perf_counter() - started
        figures[f"peak after {name}"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.db"
        started = time.perf_counter()
        with RowStore.create(path) as store:
            draws = [Draw(step, "p1", "d" * 64) for step in ("critique.1", "critique.2", "judge")]
            for number in range(count):
                store.add(Prompt((Message("user", f"{number} {WORDS[:80]}"),)), draws)
        lap("plan", started)
        started = time.perf_counter()
        with RowStore.open(path) as store:
            for row in store.rows():
                store.finish(outcome(row))
        lap("walk", started)
        figures["bytes a row"] = path.stat().st_size / count
        started = time.perf_counter()
        with RowStore.open(path) as store:
            assert next(store.rows(), None) is None
        lap("resume", started)
        started = time.perf_counter()
        facts = CardFacts("bench", "0" * 12, "Revision", "Small", "1", "d", 0, (), "made up", "", "0.1.0")
        with RowStore.open(path, read_only=True) as store:
            done = export(store, Path(folder) / "out", ExportSpec(), facts)
        lap("export", started)
        assert sum(done.counts["pairs"].values()) == count - len(range(0, count, 10))
    return figures


def main() -> None:
    if len(sys.argv) > 2:
        print(json.dumps(measure(int(sys.argv[2]))))
        return
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    measured = {}
    for count in (most // 10, most):
        told = subprocess.run(
            [sys.executable, __file__, "measure", str(count)], capture_output=True, text=True, check=True
        )
        measured[count] = json.loads(told.stdout)
        each = measured[count]
        rates = ", ".join(f"{name} {count / each[name]:,.0f}" for name in ("plan", "walk", "resume", "export"))
        print(f"{count:>9,} rows: rows a second: {rates}; {each['bytes a row']:,.0f} bytes a row on the disk")
        peaks = ", ".join(f"{name} {each[f'peak after {name}']:,.0f}" for name in ("plan", "walk", "resume", "export"))
        print(f"{'':>15} peak MiB after: {peaks}")
    for name in ("walk", "export"):
        small, large = (measured[count][f"peak after {name}"] for count in (most // 10, most))
        meaning = "1: it does not grow, 10: in step"
        print(f"peak memory after {name}, ten times the rows: {large / small:.2f} times ({meaning})")


if __name__ == "__main__":
    main()
