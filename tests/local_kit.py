"""Models small enough to be made in a blink, saved as a user's would be, and calls for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from solon.calls import Call, Message, Reply, Sampling
from solon.models.local import LocalModel
from solon.models.spec import ModelSpec

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINE = "the salt of the sea and the rain on the moss are old friends of iron wool and clay"
WORDS = LINE.split()


def make_tokenizer(template: str | None = CHATML) -> Any:
    """Return a byte-level BPE tokenizer of 320 tokens, trained on one line."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator([LINE], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>")
    tokenizer.chat_template = template
    return tokenizer


def make_model(folder: Path, *, template: str | None = CHATML, kind: str = "llama", **changes: Any) -> Path:
    """Save a random model and its tokenizer into `folder`; `changes` go to its configuration."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = make_tokenizer(template)
    sizes = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,  # wide, so that the likeliest token is likely and neighbours differ
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **{**sizes, **changes})
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_local(folder: Path, **said: Any) -> LocalModel:
    return LocalModel(ModelSpec(use=f"local:{folder}", device="cpu", **said))


def chat(
    text: str,
    *,
    system: str | None = None,
    options: str = "{}",
    sample: int = 0,
    schema: str | None = None,
    labels: tuple[str, ...] = (),
    **sampling: Any,
) -> Call:
    """Return a call of one user turn, 12 tokens at most unless said."""
    first = (Message("system", system),) if system is not None else ()
    given = Sampling(**{"max_tokens": 12, **sampling})
    turns = (*first, Message("user", text))
    return Call("tiny", turns, given, labels, schema, options=options, sample=sample)


def document(text: str, labels: tuple[str, ...] = (), **sampling: Any) -> Call:
    return Call("tiny", (Message("text", text),), Sampling(**{"max_tokens": 12, **sampling}), labels=labels)


def chats(count: int, **sampling: Any) -> list[Call]:
    """Return calls with prompts of many lengths and with unequal room."""
    return [chat(" ".join(WORDS[: 1 + 5 * n % 17]) + f" {n}", max_tokens=6 + n % 9, **sampling) for n in range(count)]


async def ask(model: LocalModel, calls: Iterable[Call]) -> list[Reply]:
    """Ask all of `calls` at once."""
    return list(await asyncio.gather(*map(model, calls)))


def loaded(folder: Path) -> tuple[Any, Any]:
    """Return transformers' own model and tokenizer of a folder: what the tests compare with."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def greedy(model: Any, tokenizer: Any, prompt: str, most: int, ends: tuple[int, ...] = (0, 2)) -> str:
    """Return what transformers' own `generate` writes behind `prompt`, alone, without sampling."""
    import torch

    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False, eos_token_id=list(ends)
        )
    return str(tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True))


def straight(model: Any, prompt: list[int], label: list[int]) -> float:
    """Return the log-probability of `label` behind `prompt`: one sequence, one pass, added up by hand."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *label]])).logits[0].double()
    chances = torch.log_softmax(logits, dim=-1)
    return sum(float(chances[len(prompt) - 1 + k, token]) for k, token in enumerate(label))
