"""Real runs against the load server of `benchmarks/`, and what its books and the run's own files say afterwards.

    SOLON_CHAOS=1 python -m pytest tests/chaos -s       in full, with the tables; without it, in small

A run is the real command in a process of its own. The server lives in a thread of the tests, so that its books can be
read at any moment; its address goes into no name (`identity`), so that two runs of one recipe make the same bytes.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]
sys.path.append(str(ROOT / "benchmarks"))

import pyarrow.parquet as pq  # noqa: E402
from answers import digest_of  # noqa: E402
from run_kit import Desk, Told, desk, finished, started  # noqa: E402
from server import Load  # noqa: E402

from solon.calls import Can  # noqa: E402
from solon.ledger import Ledger  # noqa: E402
from solon.models.openai import OpenAIModel  # noqa: E402
from solon.models.spec import ModelSpec  # noqa: E402

FULL = os.environ.get("SOLON_CHAOS") == "1"
PATH = "/v1/chat/completions"


def size(small: int, full: int) -> int:
    return full if FULL else small


def http_desk(path: Path, server: Load, *, rows: int, model: dict[str, Any] | None = None, **recipe: Any) -> Desk:
    """Return a folder with a recipe of `rows` rows x 5 calls that asks `server`; `model`, `recipe` change its keys."""
    asked = {"use": "openai:tiny", "base_url": f"{server.url}/v1", "identity": "tiny", "concurrency": 32}
    given = {"window": 64, **recipe}
    made = desk(path, prompts=rows, model={**asked, **(model or {})}, **given)
    # what the judge can do is known beforehand, so that the books hold the rows' own questions alone
    ledger = Ledger.open(made.path / ".solon" / "ledger.db")
    ledger.record_probe("tiny", asdict(Can(logprobs=True)))
    asyncio.run(ledger.close())
    server.bodies.seek(0)
    server.bodies.truncate()
    return made


def run(made: Desk, timeout: float = 600) -> Told:
    """Run a recipe to its end, whatever that is; a run that hangs fails the test."""
    return finished(started("run", made.recipe, "-q", cwd=made.path), timeout=timeout)


@dataclass(frozen=True)
class Outcome:
    """What became of every row, by its prompt: the pair's record, or the reason."""

    pairs: dict[str, dict[str, Any]]
    aside: dict[str, str]
    rows: Counter[str]

    @classmethod
    def of(cls, made: Desk) -> Outcome:
        pairs: dict[str, dict[str, Any]] = {}
        aside: dict[str, str] = {}
        rows: Counter[str] = Counter()
        for row in view(made, "pairs"):
            name = row["prompt"][0]["content"]
            rows[name] += 1
            pairs[name] = row
        for row in view(made, "set_aside"):
            name = row["prompt"][0]["content"]
            rows[name] += 1
            aside[name] = row["reason"]
        return cls(pairs, aside, rows)

    def duplicated(self) -> int:
        return sum(count - 1 for count in self.rows.values())


def view(made: Desk, name: str) -> list[dict[str, Any]]:
    """Return the rows of one view of the last run's dataset, both splits."""
    files = sorted((made.latest / "dataset" / "data" / name).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def committed(made: Desk) -> set[str]:
    """Return the server's digests of all questions whose replies stand in the ledger."""
    file = made.path / ".solon" / "ledger.db"
    if not file.exists():
        return set()
    model = OpenAIModel(ModelSpec(use="openai:tiny", base_url="http://127.0.0.1:1/v1", identity="tiny"))

    async def read() -> set[str]:
        ledger = Ledger.open(file)
        try:
            return {digest_of(PATH, model.request(entry.call)) for entry in ledger.entries()}
        finally:
            await ledger.close()
            await model.close()

    return asyncio.run(read())


def prompts_by_digest(bodies: io.BytesIO) -> dict[str, str]:
    """Return the prompt that each question of the books belongs to: all questions of a row hold it."""
    found: dict[str, str] = {}
    for line in set(bodies.getvalue().splitlines()):
        body = json.loads(line)
        text = json.dumps(body["messages"])
        start = text.index("How do I do thing number ")
        found[digest_of(PATH, body)] = text[start : text.index("?", start) + 1]
    return found


def hit(server: Load, *, lasting: bool = False) -> dict[str, list[str]]:
    """Return the faults that hit each prompt's questions; `lasting`: of questions never answered alone."""
    prompts, found = prompts_by_digest(server.bodies), defaultdict(list)
    for digest, page in list(server.books.questions.items()):
        if page.faults and not (lasting and page.answered):
            found[prompts[digest]].extend(page.faults)
    return dict(found)


def table(title: str, **figures: object) -> None:
    """Print one line of the chaos table."""
    # shown by `make chaos`, which lets output through
    print(f"\n{title}\n  " + "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))  # noqa: T201
