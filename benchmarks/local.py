"""How fast a local model writes and judges: Solon's two engines beside batches made by hand, in one run.

    python benchmarks/local.py [--use smollm2] [--batches 1 4 16] [--tokens 32] [--rounds 2] [--cpu]

By hand is what a careful script does: the same questions in the same order, cut into batches of the same size, padded
on the left, `model.generate` with sampling, decoded. Every way is measured in turn, round after round, with questions
that none was asked before, and the best round counts: other work on the machine slows all alike, so read the ratios.
With --cpu seconds are those of this process on its CPUs, not of the clock: for a machine that others work on, and with
OMP_NUM_THREADS=1, since threads that wait are counted too. Questions are of unequal length, as real ones are, and two
batches of them wait at once.

"judged" are questions with two labels, answered per second: both orders of comparisons of two answers, as a judge of a
chat model asks them; by hand, one padded pass a batch and the logits behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from solon.calls import Call, Message, Sampling
from solon.judges.pairwise import LETTER, compare
from solon.models import weights
from solon.models.local import LocalModel
from solon.models.spec import ModelSpec

QUESTION = "Tell me what you know about the number {n}, and why people care about it."
PADDING = " It should be told simply, with an example."
ANSWER = "The number {n} is {how} than the one before it, and some people have grown fond of it for that reason alone. "
WORDING = "Please choose the response that is the most helpful, honest, and harmless."
TASTE = (0.6, 0.9)  # temperature, top_p: the quickstart's


def questions(first: int, count: int) -> list[str]:
    return [QUESTION.format(n=n) + PADDING * (n % 5) for n in range(first, first + count)]


def comparisons(first: int, count: int) -> list[str]:
    """Return both orders of count / 2 comparisons."""
    asked = []
    for n in range(first, first + count // 2):
        turn = [Message("user", QUESTION.format(n=n) + PADDING * (n % 5))]
        pair = [ANSWER.format(n=n, how=how) * 3 for how in ("larger", "no smaller")]
        for a, b in (pair, pair[::-1]):
            asked.append(f"{compare('chat', turn, a, b, WORDING, f'{n:012x}')}\n\n{LETTER}")
    return asked


@dataclass
class Best:
    """The best that was seen of one way, per second."""

    tokens: float = 0.0
    judged: float = 0.0


class ByHand:
    """transformers alone."""

    def __init__(self, use: str, batch: int) -> None:
        weights.prepare_torch()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        found = weights.resolve(ModelSpec(use=use).target)
        self.torch, self.batch = torch, batch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        half = torch.bfloat16 if self.device == "cuda" else torch.float32
        with weights.quiet():
            self.tokenizer = AutoTokenizer.from_pretrained(found.path, padding_side="left")
            self.model = AutoModelForCausalLM.from_pretrained(found.path, dtype=half).to(self.device).eval()
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.labels = [self.tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in "AB"]

    def _padded(self, texts: list[str]) -> Iterator[Any]:
        for start in range(0, len(texts), self.batch):
            turns = [[{"role": "user", "content": text}] for text in texts[start : start + self.batch]]
            shown = [self.tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]
            yield self.tokenizer(shown, return_tensors="pt", padding=True, add_special_tokens=False).to(self.device)

    async def write(self, texts: list[str], tokens: int) -> int:
        """Answer, and return how many tokens were written."""
        written = 0
        temperature, top_p = TASTE
        for inputs in self._padded(texts):
            with self.torch.inference_mode():
                whole = self.model.generate(
                    **inputs, max_new_tokens=tokens, do_sample=True, temperature=temperature, top_p=top_p, top_k=0
                )
            answers = whole[:, inputs["input_ids"].shape[1] :].tolist()
            self.tokenizer.batch_decode(answers, skip_special_tokens=True)
            end = self.tokenizer.eos_token_id
            written += sum(row.index(end) + 1 if end in row else len(row) for row in answers)
        return written

    async def judge(self, texts: list[str]) -> int:
        for inputs in self._padded(texts):
            with self.torch.inference_mode():
                logits = self.model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1]
            self.torch.log_softmax(logits.double(), -1)[:, self.labels].tolist()
        return len(texts)

    async def close(self) -> None:
        del self.model


@dataclass
class Solon:
    """One of our engines."""

    model: LocalModel
    asked: int = field(default=0)

    async def write(self, texts: list[str], tokens: int) -> int:
        sampling = Sampling(*TASTE, max_tokens=tokens)
        calls = [Call(self.model.identity, (Message("user", text),), sampling) for text in texts]
        return sum(reply.usage.output for reply in await asyncio.gather(*map(self.model, calls)))

    async def judge(self, texts: list[str]) -> int:
        calls = [Call(self.model.identity, (Message("user", text),), labels=("A", "B")) for text in texts]
        return len(await asyncio.gather(*map(self.model, calls)))

    async def close(self) -> None:
        await self.model.close()


async def at(batch: int, use: str, tokens: int, rounds: int, clock: Callable[[], float]) -> None:
    ways: dict[str, ByHand | Solon] = {
        "by hand": ByHand(use, batch),
        "steady": Solon(LocalModel(ModelSpec(use=use, batch_size=batch, steady=True))),
        "free": Solon(LocalModel(ModelSpec(use=use, batch_size=batch, steady=False))),
    }
    best = {name: Best() for name in ways}
    for way in ways.values():
        await way.write(questions(0, batch), 2)  # loads it, and warms it up
    for number in range(1, rounds + 1):
        for name, way in ways.items():
            started = clock()
            written = await way.write(questions(1000 * number, 2 * batch), tokens)
            best[name].tokens = max(best[name].tokens, written / (clock() - started))
            started = clock()
            judged = await way.judge(comparisons(1000 * number, min(2 * batch, 16)))
            best[name].judged = max(best[name].judged, judged / (clock() - started))
    base = best["by hand"]
    for name, seen in best.items():
        print(
            f"{batch:>5} {name:>8} {seen.tokens:>9.1f} {seen.tokens / base.tokens:>6.2f}"
            f" {seen.judged:>9.2f} {seen.judged / base.judged:>6.2f}",
            flush=True,
        )
    for way in ways.values():
        await way.close()


async def main(use: str, batches: list[int], tokens: int, rounds: int, cpu: bool) -> None:
    seconds = "CPU seconds" if cpu else "seconds"
    print(f"{use}, {tokens} tokens an answer, best of {rounds}, {seconds}; ratios against batches made by hand")
    print(f"{'batch':>5} {'way':>8} {'tokens/s':>9} {'ratio':>6} {'judged/s':>9} {'ratio':>6}")
    for batch in batches:
        await at(batch, use, tokens, rounds, time.process_time if cpu else time.perf_counter)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--use", default="smollm2", help="a local model, as a recipe names it")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, default=32, help="tokens an answer")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="count the process's CPU seconds, not the clock's")
    given = parser.parse_args()
    asyncio.run(main(given.use, given.batches, given.tokens, given.rounds, given.cpu))
