"""How fast a local model writes: steady against free batches, at batch 1, 4 and 16, in one run.

    python benchmarks/local.py [--use smollm2] [--tokens 32] [--rounds 2]

All settings are measured in turn, round after round, and the best round counts: other work on the machine slows them
alike, so read the ratios, not the seconds. A batch is full in every measurement, and its prompts are of unequal
length, as real ones are. "labels" are questions with two labels, answered per second, with prompts of about 300 tokens.
Every setting holds its own copy of the model: 3.5 GB for smollm2.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field

from solon.calls import Call, Message, Sampling
from solon.models.local import LocalModel
from solon.models.spec import ModelSpec

BATCHES = (1, 4, 16)
QUESTION = "Tell me what you know about the number {n}, and why people care about it."
PADDING = " It should be told simply, with an example."


@dataclass
class Case:
    """One setting with its own copy of the model, and the best that was seen of it."""

    steady: bool
    batch: int
    model: LocalModel
    tokens: float = 0.0
    labels: float = 0.0
    asked: int = field(default=0)

    def calls(self, tokens: int) -> list[Call]:
        """Return a full batch of questions, none of which was asked before."""
        calls = []
        for place in range(self.batch):
            self.asked += 1
            text = QUESTION.format(n=self.asked) + PADDING * (place % 5)
            calls.append(Call(self.model.identity, (Message("user", text),), Sampling(1.0, max_tokens=tokens)))
        return calls

    def questions(self) -> list[Call]:
        turn = Message("user", QUESTION.format(n=1) + PADDING * 30)
        return [Call(self.model.identity, (turn,), labels=("A", "B")) for _ in range(min(self.batch, 4))]


async def measure(case: Case, tokens: int) -> None:
    started = time.perf_counter()
    replies = await asyncio.gather(*map(case.model, case.calls(tokens)))
    rate = sum(reply.usage.output for reply in replies) / (time.perf_counter() - started)
    case.tokens = max(case.tokens, rate)
    started = time.perf_counter()
    replies = await asyncio.gather(*map(case.model, case.questions()))
    case.labels = max(case.labels, len(replies) / (time.perf_counter() - started))


async def main(use: str, tokens: int, rounds: int) -> None:
    cases = [
        Case(steady, batch, LocalModel(ModelSpec(use=use, batch_size=batch, steady=steady)))
        for batch in BATCHES
        for steady in (True, False)
    ]
    for case in cases:
        await asyncio.gather(*map(case.model, case.calls(2)))  # loads it, and warms it up
    for _ in range(rounds):
        for case in cases:
            await measure(case, tokens)
    base = cases[0]
    print(f"{use}, {tokens} tokens an answer, best of {rounds}; ratios against steady at batch 1")
    print(f"{'batch':>5} {'mode':>7} {'tokens/s':>9} {'ratio':>6} {'labels/s':>9} {'ratio':>6}")
    for case in cases:
        mode = "steady" if case.steady else "free"
        print(
            f"{case.batch:>5} {mode:>7} {case.tokens:>9.1f} {case.tokens / base.tokens:>6.2f}"
            f" {case.labels:>9.2f} {case.labels / base.labels:>6.2f}"
        )
    for case in cases:
        await case.model.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--use", default="smollm2", help="a local model, as a recipe names it")
    parser.add_argument("--tokens", type=int, default=32, help="tokens an answer")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    asyncio.run(main(given.use, given.tokens, given.rounds))
