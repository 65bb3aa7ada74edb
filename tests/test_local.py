"""A local model: real transformers, random weights, and transformers' own single-sequence results to compare with."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from local_kit import WORDS, ask, chat, chats, document, greedy, loaded, make_local, make_model, straight

from solon.calls import Call, Can, Message, Model, Reply, Sampling, Usage
from solon.errors import BadInput, CallFailed, Halt
from solon.models import slots
from solon.models.batches import Padded, Question, forward, logprobs
from solon.models.local import LocalModel
from solon.models.reading import Reader
from solon.models.slots import Slots, bears_slots

LABELS = ("salt", " friends of iron", "A")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("local") / "tiny")


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[Any, Any]:
    return loaded(folder)


async def once(model: LocalModel, *calls: Call) -> list[Reply]:
    """Ask, and close the model."""
    try:
        return await ask(model, calls)
    finally:
        await model.close()


def rendered(call: Call) -> str:
    return "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in call.messages) + "<|im_start|>assistant\n"


# ---------------------------------------------------------------------------------------------- the seam


def test_it_is_a_model_with_a_name_and_room_for_fuller_batches(folder: Path) -> None:
    model: Model = make_local(folder, batch_size=5)
    assert (model.name, model.form, model.can, model.concurrency) == ("tiny", "chat", Can(True, True), 20)
    assert make_local(folder, concurrency=3).concurrency == 3


def test_its_identity_tells_weights_dtype_and_narrowed_context_and_nothing_that_is_only_speed(folder: Path) -> None:
    plain = make_local(folder).identity
    assert plain.startswith("local:tiny#") and len(plain) == len("local:tiny#") + 16
    for same in ({"batch_size": 3}, {"steady": False}, {"dtype": "float32"}, {"concurrency": 2}):
        assert make_local(folder, **same).identity == plain
    for other in ({"dtype": "bfloat16"}, {"context": 100}):
        assert make_local(folder, **other).identity != plain
    assert make_local(folder, identity="ours").identity == "ours"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"top_q": 3}, "unknown option 'top_q'; a local model knows chat_template_kwargs, min_p"),
        ({"top_k": "many"}, "option top_k: 'many' is not a whole number"),
        ({"min_p": 2}, "option min_p: 2 is not a number from 0 to 1"),
    ],
)
def test_an_option_that_it_does_not_know_is_refused_at_once(folder: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput, match=line):
        make_local(folder, options=options)


# ---------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("steady", [True, False])
async def test_greedy_answers_are_those_of_transformers_own_generate(folder: Path, both: Any, steady: bool) -> None:
    calls = chats(7, temperature=0.0)
    replies = await once(make_local(folder, steady=steady, batch_size=4), *calls)
    for call, reply in zip(calls, replies, strict=True):
        assert reply.text == greedy(*both, rendered(call), call.sampling.max_tokens)
        assert reply.usage.input == len(both[1](rendered(call))["input_ids"])
        assert reply.usage.output <= call.sampling.max_tokens
        assert reply.finish == ("length" if reply.usage.output == call.sampling.max_tokens else "stop")


async def test_others_join_a_batch_once_half_of_it_has_ended(
    folder: Path, both: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[tuple[int, int]] = []
    true = Padded.admit

    def admit(engine: Padded, rows: Any) -> None:
        joined.append((len(engine.rows), len(rows)))
        true(engine, rows)

    monkeypatch.setattr(Padded, "admit", admit)
    calls = [chat(f"{' '.join(WORDS[: 1 + n % 9])} {n}", temperature=0.0, max_tokens=5 + 7 * n) for n in range(12)]
    replies = await once(make_local(folder, steady=False, batch_size=4), *calls)
    assert [r.text for r in replies] == [greedy(*both, rendered(c), c.sampling.max_tokens) for c in calls]
    assert sum(new for _, new in joined) == 12
    assert any(there for there, _ in joined) and all(there + new <= 4 and there <= 2 for there, new in joined)


async def test_free_batches_take_the_first_comer_and_those_most_like_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little is padded, and nobody waits for ever for somebody alike."""
    batches: list[list[int]] = []
    true = Padded.admit

    def admit(engine: Padded, rows: Any) -> None:
        batches.append([len(row.prompt) for row in rows])
        true(engine, rows)

    monkeypatch.setattr(Padded, "admit", admit)
    sizes = [80, 5, 6, 79, 5, 81, 40]
    await once(make_local(folder, steady=False, batch_size=3), *(chat("é" * size, max_tokens=1) for size in sizes))
    own = min(map(min, batches)) - 10  # what the template adds; two tokens a letter
    assert [[(size - own) // 2 for size in sorted(batch)] for batch in batches] == [[79, 80, 81], [5, 5, 6], [40]]


async def test_steady_answers_do_not_depend_on_their_neighbours(folder: Path) -> None:
    calls = chats(13, temperature=1.0)
    model = make_local(folder, steady=True, batch_size=4)
    together = await ask(model, calls)
    alone = [await model(call) for call in calls]
    groups = [reply for start in range(0, 13, 3) for reply in await ask(model, calls[start : start + 3])]
    turned = (await once(model, *calls[::-1]))[::-1]
    assert together == alone == groups == turned
    assert len({reply.text for reply in together}) == 13


async def test_a_second_sample_is_another_answer_and_the_first_stays(folder: Path) -> None:
    first, second, again = await once(make_local(folder), chat("salt"), chat("salt", sample=1), chat("salt"))
    assert first == again
    assert first.text != second.text


async def test_options_reach_the_choice_of_tokens(folder: Path) -> None:
    """With top_k 1 any temperature is greedy; a repetition penalty changes what is likeliest."""
    answers = []
    for options, temperature in (({}, 0.0), ({"top_k": 1}, 1.0), ({"repetition_penalty": 5.0}, 0.0)):
        given: dict[str, Any] = {"options": json.dumps(options), "temperature": temperature, "max_tokens": 40}
        replies = await once(make_local(folder), *(chat(text, **given) for text in ("salt", "moss", "iron and clay")))
        answers.append([reply.text for reply in replies])
    cold, single, tired = answers
    assert cold == single != tired


async def test_bfloat16_answers_too(folder: Path) -> None:
    (reply,) = await once(make_local(folder, dtype="bfloat16"), chat("salt"))
    assert reply.usage.output > 0


async def test_stop_strings_end_an_answer_and_stay_out_of_it(folder: Path) -> None:
    model = make_local(folder)
    whole = await model(chat("rain", temperature=0.0))
    stop = whole.text[3:5]
    (cut,) = await once(model, chat("rain", temperature=0.0, stop=(stop, "never said")))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish == "stop"
    assert cut.usage.output < whole.usage.output


async def test_answers_are_limited_by_the_context_and_longer_prompts_set_aside(folder: Path, both: Any) -> None:
    model = make_local(folder, context=64)
    fits = chat("a" * 30, temperature=0.0, max_tokens=500)
    size = len(both[1](rendered(fits))["input_ids"])
    reply = await model(fits)
    assert (reply.usage.output, reply.finish) == (64 - size, "length")
    with pytest.raises(CallFailed, match="64 for prompt and answer") as caught:
        await once(model, chat("a" * 70))
    assert caught.value.reason == "too_long"


async def test_a_begun_answer_is_gone_on_with(folder: Path, both: Any) -> None:
    begun = Call("tiny", (Message("user", "salt"), Message("assistant", "The rain")), Sampling(0.0, max_tokens=5))
    (reply,) = await once(make_local(folder), begun)
    prompt = "<|im_start|>user\nsalt<|im_end|>\n<|im_start|>assistant\nThe rain"
    assert reply.text == greedy(*both, prompt, 5)


async def test_a_document_is_continued_as_it_stands(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "base", template=None)
    (reply,) = await once(make_local(folder, form="text"), document("the salt of the", temperature=0.0))
    assert reply.text == greedy(*loaded(folder), "the salt of the", 12, ends=(0,))


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mistral", {"sliding_window": 8}),
        ("gpt2", {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128}),
        (
            "gemma2",
            {"head_dim": 12, "query_pre_attn_scalar": 12, "layer_types": ["sliding_attention", "full_attention"]},
        ),
        ("mamba", {"state_size": 8}),
    ],
)
async def test_other_architectures_answer_as_their_own_generate(
    tmp_path: Path, kind: str, changes: dict[str, Any], steady: bool
) -> None:
    """Sliding windows, learned positions, soft caps that our attention refuses, no attention at all."""
    folder = make_model(tmp_path / kind, kind=kind, **changes)
    calls = chats(5, temperature=0.0)
    replies = await once(make_local(folder, steady=steady, batch_size=3), *calls)
    both = loaded(folder)
    assert [r.text for r in replies] == [greedy(*both, rendered(c), c.sampling.max_tokens) for c in calls]


def test_slots_are_used_where_they_compute_what_the_model_does(tmp_path: Path, folder: Path) -> None:
    assert bears_slots(*loaded(folder))
    model, tokenizer = loaded(folder)
    model.set_attn_implementation("eager")
    assert not bears_slots(model, tokenizer)
    assert not bears_slots(*loaded(make_model(tmp_path / "mamba", kind="mamba", state_size=8)))
    experts = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "num_experts": 4}
    assert not bears_slots(*loaded(make_model(tmp_path / "experts", kind="qwen2_moe", **experts)))


async def test_an_answer_longer_than_its_first_room_goes_on_as_before(
    folder: Path, both: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "FIRST_ROOM", 2)
    call = chat("old friends", temperature=0.0, max_tokens=60)
    (reply,) = await once(make_local(folder, steady=True), call)
    assert reply.usage.output > 40
    assert reply.text == greedy(*both, rendered(call), 60)


# -------------------------------------------------------------------------------------------- prompts that begin alike


LONG = " ".join(WORDS * 3)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of these tests have about a hundred tokens."""
    monkeypatch.setattr(Reader.__init__, "__kwdefaults__", {"memory": 1 << 20, "piece": 16, "short": 8, "least": 4})


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of tokens of every pass of `model`."""
    passes: list[int] = []
    true = model.base_model.forward

    @functools.wraps(true)
    def forward(*args: Any, **given: Any) -> Any:
        passes.append(given["input_ids"].shape[1])
        return true(*args, **given)

    monkeypatch.setattr(model.base_model, "forward", forward)
    return passes


def test_what_two_prompts_begin_with_is_read_once(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = both
    passes = counted(model, monkeypatch)
    reader = Reader(model, piece=16, least=4)
    first, second = (tokenizer(LONG + end)["input_ids"] for end in (" and the moss", " friends of old iron wool"))
    reader.read(first, 8)
    assert passes == [16] * (len(passes) - 1) + [len(first) - 16 * (len(passes) - 1)]
    pieces = len(passes) - 1
    assert pieces > 2 and reader.known(first) == len(first)
    assert reader.known(second) == reader.known(first[:-1]) == 16 * pieces
    _, logits = reader.read(second, 8)
    assert sum(passes) == len(first) + len(second) - 16 * pieces
    fresh = Reader(model, piece=16, least=4)
    _, wanted = fresh.read(second, 8)
    assert torch.equal(logits, wanted), "what is remembered must be what would be read, to the last bit"


def test_a_piece_ends_where_a_turn_does_and_the_conversation_goes_on_from_there(
    both: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = both
    end = tokenizer.get_vocab()["<|im_end|>"]
    passes = counted(model, monkeypatch)
    reader = Reader(model, frozenset({end}), piece=50, short=6, least=2)
    first = [*[7] * 20, end, 9, 9, end, *[8] * 10, end, 9, 9, 9]
    reader.read(first, 1)
    assert passes == [21, 14, 3], "the second turn is too short for a piece of its own"
    longer = [*first[:-3], *[6] * 30]
    assert reader.known(longer) == 35
    _, logits = reader.read(longer, 1)
    assert passes[3:] == [30]
    assert torch.equal(logits, Reader(model, frozenset({end}), piece=50, short=6, least=2).read(longer, 1)[1])


def test_one_prompt_twice_in_a_row_is_read_once_whatever_was_written_behind_it(
    both: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = both
    passes = counted(model, monkeypatch)
    reader = Reader(model, memory=0)
    prompt = tokenizer(LONG)["input_ids"]
    cache, logits = reader.read(prompt, 1)
    with torch.inference_mode():
        forward(model, input_ids=torch.tensor([[5, 6, 7]]), past_key_values=cache, use_cache=True)
    again, same = reader.read(prompt, 1)
    assert passes == [len(prompt), 3]
    assert torch.equal(logits, same) and again.get_seq_length() == len(prompt)
    with torch.inference_mode():
        for cached in (again, reader.read(prompt, 1)[0]):
            behind = forward(model, input_ids=torch.tensor([[9]]), past_key_values=cached, use_cache=True)
    plain = model(input_ids=torch.tensor([[*prompt, 9]])).logits[0, -1]
    assert torch.allclose(behind[0, -1], plain, atol=1e-3)


def test_the_memory_of_prompts_is_bounded_and_the_least_used_go_first(both: Any) -> None:
    model, _ = both
    sizes = model.config
    piece = 2 * 4 * 16 * sizes.num_hidden_layers * sizes.num_key_value_heads * sizes.head_dim
    reader = Reader(model, memory=3 * piece, piece=16, least=4)
    prompts = [[n] * 22 for n in range(5, 8)]
    for prompt in prompts:
        reader.read(prompt, 1)
    assert [reader.known([*prompt, 9]) for prompt in prompts] == [16, 16, 16]
    reader.read([*prompts[0], 9], 1)
    reader.read([9] * 22, 1)
    assert [reader.known([*prompt, 9]) for prompt in prompts] == [16, 0, 16]


async def test_steady_answers_do_not_depend_on_what_was_read_before(folder: Path, short_pieces: None) -> None:
    ends = ("", " salt", " of the sea", " and the rain on the moss")
    calls = [chat(LONG + end, temperature=1.0, sample=n) for end in ends for n in range(3)]
    questions = [chat(LONG + end, labels=LABELS) for end in ends]
    model = make_local(folder, batch_size=4)
    together = await once(model, *calls, *questions)
    alone = [reply for call in (*calls, *questions) for reply in await once(make_local(folder, batch_size=4), call)]
    assert together == alone
    assert len({reply.text for reply in together}) > 9


async def test_greedy_answers_behind_remembered_beginnings_are_those_of_generate(
    folder: Path, both: Any, short_pieces: None
) -> None:
    calls = [chat(LONG + end, temperature=0.0) for end in (" salt", " of the sea", " salt", " and the rain")]
    for call, reply in zip(calls, await once(make_local(folder, batch_size=2), *calls), strict=True):
        assert reply.text == greedy(*both, rendered(call), 12)


async def test_nobody_waits_for_ever_behind_those_whose_prompts_are_known(folder: Path, short_pieces: None) -> None:
    model = make_local(folder, batch_size=1)
    await model(chat(LONG))
    done: list[str] = []

    async def told(name: str, call: Call) -> None:
        await model(call)
        done.append(name)

    strange = asyncio.create_task(told("strange", chat("salt " * 30)))
    await asyncio.gather(*(told("known", chat(LONG, sample=n)) for n in range(1, 12)))
    await strange
    await model.close()
    assert 0 < done.index("strange") < 7, "let others go first, and only so many"


# ---------------------------------------------------------------------------------------------- a schema


PERSON = json.dumps(
    {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 3, "maximum": 40},
            "kind": {"enum": ["salt", "iron"]},
            "words": {"type": "array", "items": {"enum": ["moss", "clay"]}, "maxItems": 3},
        },
        "required": ["age", "kind", "words"],
        "additionalProperties": False,
    }
)
FREE = json.dumps(
    {
        "type": "object",
        "properties": {"words": {"type": "string"}},
        "required": ["words"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_an_answer_keeps_its_schema_and_ends_with_it(folder: Path, steady: bool, temperature: float) -> None:
    """An untrained model writes noise, and never ends by itself: whatever is right here is the schema's doing."""
    calls = [chat("salt", schema=PERSON, temperature=temperature, max_tokens=80, sample=n) for n in range(6)]
    replies = await once(make_local(folder, steady=steady, batch_size=3), *calls)
    for reply in replies:
        content = json.loads(reply.text)
        assert reply.finish == "stop"
        assert 3 <= content["age"] <= 40 and content["kind"] in ("salt", "iron")
        assert len(content["words"]) <= 3 and set(content["words"]) <= {"moss", "clay"}
        assert reply.text == json.dumps(content), "white space as Python writes it, and no more"
    assert len({reply.text for reply in replies}) > 1 or temperature == 0


async def test_a_schema_leaves_neighbours_alone_and_is_steady_itself(folder: Path) -> None:
    free = chats(4, temperature=1.0)
    kept = [chat(f"iron {n}", schema=FREE, temperature=1.0, max_tokens=30) for n in range(4)]
    mixed = [call for pair in zip(free, kept, strict=True) for call in pair]
    model = make_local(folder, batch_size=4)
    together = await ask(model, mixed)
    assert together[::2] == await ask(model, free)
    assert together[1::2] == [await model(call) for call in kept]
    await model.close()


async def test_an_answer_that_hits_the_cap_within_its_schema_is_cut(folder: Path) -> None:
    (reply,) = await once(make_local(folder), chat("salt", schema=FREE, max_tokens=20, temperature=1.0))
    assert (reply.finish, reply.usage.output) == ("length", 20)
    assert reply.text.startswith('{"words": "')


async def test_under_a_schema_a_template_that_opens_thinking_gets_an_empty_thought(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}<think>\n"
    local = make_local(make_model(tmp_path / "tiny", template=template))
    (reply,) = await once(local, chat("salt", schema=PERSON, max_tokens=80))
    assert json.loads(reply.text)["kind"] and reply.thinking == ""


# ---------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("steady", [True, False])
async def test_labels_get_the_log_probability_of_a_single_straight_pass(folder: Path, both: Any, steady: bool) -> None:
    model, tokenizer = both
    texts = ["the sea", "iron wool and clay are", "x" * 40]
    calls = [document(text, labels=LABELS) for text in texts]
    for text, reply in zip(texts, await once(make_local(folder, steady=steady, batch_size=4), *calls), strict=True):
        prompt = tokenizer(text)["input_ids"]
        wanted = [straight(model, prompt, tokenizer(label)["input_ids"]) for label in LABELS]
        assert reply.logprobs == pytest.approx(wanted, abs=1e-4)
        assert reply.usage == Usage(input=len(prompt), output=0)
        assert reply.text == LABELS[wanted.index(max(wanted))]


async def test_labels_of_a_conversation_stand_where_its_answer_would_begin(folder: Path, both: Any) -> None:
    model, tokenizer = both
    call = Call("tiny", (Message("system", "rain"), Message("user", "A or B?")), labels=("A", "B"))
    (reply,) = await once(make_local(folder), call)
    prompt = tokenizer(rendered(call))["input_ids"]
    wanted = [straight(model, prompt, tokenizer(label)["input_ids"]) for label in ("A", "B")]
    assert reply.logprobs == pytest.approx(wanted, abs=1e-4)


def test_single_token_labels_are_read_from_one_pass_with_the_same_result(both: Any) -> None:
    model, tokenizer = both
    prompts = [tuple(tokenizer(text)["input_ids"]) for text in ("the sea", "moss", "old friends of iron")]
    labels = tuple((tokenizer(label)["input_ids"][0],) for label in "ABx")
    questions = [Question(prompt, labels) for prompt in prompts]
    slow = logprobs(model, questions, width=1, fast=False)
    for width in (1, 4):
        for fast, wanted in zip(logprobs(model, questions, width=width), slow, strict=True):
            assert fast == pytest.approx(wanted, abs=1e-4)


async def test_a_label_that_would_melt_into_the_prompt_keeps_its_own_tokens(folder: Path, both: Any) -> None:
    """ "the s" + "ea" is "the sea" in other tokens than those of the prompt, which is what the model has read."""
    model, tokenizer = both
    prompt, label = tokenizer("the s")["input_ids"], tokenizer("ea")["input_ids"]
    assert tokenizer("the sea")["input_ids"][: len(prompt)] != prompt
    (reply,) = await once(make_local(folder), document("the s", labels=("ea",)))
    assert reply.logprobs == pytest.approx([straight(model, prompt, label)], abs=1e-4)


async def test_an_empty_label_is_refused(folder: Path) -> None:
    with pytest.raises(CallFailed, match="empty label") as caught:
        await once(make_local(folder), document("the", labels=("A", "")))
    assert caught.value.reason == "rejected_call"


# ---------------------------------------------------------------------------------------------- templates


NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
DEAF = (
    "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endif %}{% endfor %}<|im_start|>assistant\n"
)


@pytest.mark.parametrize("template", [NO_SYSTEM, DEAF])
async def test_a_template_without_a_system_role_hears_it_in_the_first_turn(tmp_path: Path, template: str) -> None:
    folder = make_model(tmp_path / "tiny", template=template)
    folded = chat("Be brief.\n\nsalt", temperature=0.0)
    one, two = await once(make_local(folder), chat("salt", system="Be brief.", temperature=0.0), folded)
    assert (one.text, one.usage) == (two.text, two.usage)


async def test_what_a_template_refuses_is_a_rejected_call(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny", template=NO_SYSTEM)
    twice = Call("tiny", (Message("user", "a"), Message("user", "b")))
    with pytest.raises(CallFailed, match="chat template refuses: roles must alternate") as caught:
        await once(make_local(folder), twice)
    assert caught.value.reason == "rejected_call"


async def test_a_chat_without_any_template_says_what_to_write(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "base", template=None)
    with pytest.raises(BadInput, match="no chat template; write `form: text`"):
        await once(make_local(folder), chat("salt"))


async def test_switches_of_a_template_are_passed_on(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if shout %} WOOL AND CLAY{% endif %}"
    model = make_local(make_model(tmp_path / "tiny", template=template))
    loud = chat("salt", options=json.dumps({"chat_template_kwargs": {"shout": True}}))
    one, two = await once(model, chat("salt"), loud)
    assert two.usage.input > one.usage.input


async def test_thinking_is_kept_apart_from_the_answer_and_counted(tmp_path: Path) -> None:
    """The template opens the part, the model never closes it: all is thinking."""
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}<think>\n"
    (reply,) = await once(make_local(make_model(tmp_path / "tiny", template=template)), chat("salt"))
    assert reply.text == ""
    assert reply.thinking and 0 < reply.usage.thinking <= reply.usage.output


# ---------------------------------------------------------------------------------------------- faults


async def test_without_llguidance_a_schema_is_refused_since_it_would_be_ignored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    true = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llguidance" else true(name))
    model = make_local(folder)
    assert model.can == Can(True, False)
    with pytest.raises(CallFailed, match="keeps a schema by llguidance; pip install 'solon") as caught:
        await once(model, chat("a", schema="{}"))
    assert caught.value.reason == "rejected_call"


async def test_a_schema_that_cannot_be_kept_fails_its_call_alone(folder: Path) -> None:
    model = make_local(folder)
    with pytest.raises(CallFailed, match="cannot be kept by a local model: Unimplemented keys") as caught:
        await model(chat("a", schema='{"not": {}}'))
    assert caught.value.reason == "rejected_call"
    assert (await once(model, chat("a")))[0].text


@pytest.mark.parametrize(("steady", "kind"), [(True, Halt), (False, CallFailed)])
async def test_weights_that_compute_no_numbers_are_an_error_with_a_remedy(
    tmp_path: Path, steady: bool, kind: type[Exception]
) -> None:
    folder = make_model(tmp_path / "tiny")
    model, _ = loaded(folder)
    model.lm_head.weight.data.fill_(float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(kind, match="not finite; another dtype"):
        await once(make_local(folder, steady=steady), chat("salt"))


async def test_a_model_that_cannot_be_loaded_halts_every_call(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard"}), encoding="utf-8")
    model = make_local(folder)
    for _ in range(2):
        with pytest.raises(Halt, match="transformers cannot load it") as caught:
            await model(chat("salt"))
        assert "\n" not in str(caught.value)


async def test_weights_that_change_under_a_run_halt_it(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    model = make_local(folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    with pytest.raises(Halt, match="changed since"):
        await model(chat("salt"))


@pytest.mark.parametrize(("kind", "steady"), [(Slots, True), (Padded, False)])
async def test_a_step_that_fails_takes_its_batch_and_the_next_calls_are_answered(
    folder: Path, kind: type[Any], steady: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_local(folder, steady=steady, batch_size=2)
    whole = await model(chat("salt"))
    true = kind.step

    def step(engine: Any) -> None:
        monkeypatch.setattr(kind, "step", true)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(kind, "step", step)
    with pytest.raises(CallFailed, match="out of memory; batches of 2 rows: set `batch_size` lower") as caught:
        await model(chat("salt"))
    assert caught.value.reason == "no_answer"
    assert await once(model, chat("salt")) == [whole]


@pytest.mark.parametrize("steady", [True, False])
async def test_a_cancelled_call_gives_its_place_away(folder: Path, steady: bool) -> None:
    model = make_local(folder, steady=steady, batch_size=1, context=250)
    whole = await model(chat("salt", temperature=0.0))
    long = asyncio.create_task(model(chat("rain", max_tokens=200)))
    waits = asyncio.create_task(model(chat("moss", max_tokens=200)))
    last = asyncio.create_task(model(chat("salt", temperature=0.0)))
    await asyncio.sleep(0.05)
    long.cancel()
    waits.cancel()
    assert await last == whole
    await asyncio.wait([long, waits])
    assert long.cancelled() and waits.cancelled()
    await model.close()


async def test_closing_fails_what_waits_and_later_calls(folder: Path) -> None:
    model = make_local(folder, batch_size=1)
    tasks = [asyncio.create_task(model(call)) for call in chats(6)]
    await asyncio.sleep(0)
    await model.close()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(it, Reply) or (isinstance(it, CallFailed) and it.reason == "no_answer") for it in ended)
    with pytest.raises(CallFailed, match="closed"):
        await model(chat("salt"))


async def test_a_model_that_was_never_asked_closes_without_loading(folder: Path) -> None:
    model = make_local(folder)
    await model.close()
    assert model._thread is None
