"""A language model small enough to train in a blink, and datasets as `solon export` lays them out, written by hand."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

from solon.training import Trained, train

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINGS = ("salt", "tea", "rain", "moss", "iron", "wool", "fern", "clay")
VIEWS = {
    "preference": ("prompt", "chosen", "rejected"),
    "reward": ("prompt", "chosen", "rejected"),
    "sft": ("prompt", "completion"),
}


def make_model(folder: Path, *, template: str | None = CHATML, pad: bool = True) -> Path:
    """Save a random Llama of 29,000 weights with a byte tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    words.train_from_iterator(["tea and rain"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>", **({"pad_token": "<|pad|>"} if pad else {})
    )
    tokenizer.chat_template = template
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # every training ends in a full collection, which takes longer over all of torch's objects than the training
    gc.collect()
    gc.freeze()
    return folder


def turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def pair(number: int) -> dict[str, Any]:
    """Return one row with the columns of all views."""
    thing, other = THINGS[number % 8], THINGS[(number + 3) % 8]
    good = turn("assistant", f"Gladly: {thing} is good.")
    return {
        "id": f"row-{number}",
        "prompt": turn("user", f"Tell me about {thing}, please ({number})."),
        "chosen": good,
        "rejected": turn("assistant", f"No. {other} is bad, bad."),
        "completion": good,
    }


def export(run: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], *extra: str) -> Path:
    """Write a run folder's dataset: a card with configs, and Parquet files. `extra` names further columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, card = run / "dataset", ["---", "pretty_name: harmless", "configs:"]
    for view, columns in VIEWS.items():
        card += [f"- config_name: {view}", "  data_files:"]
        for split, rows in (("train", train), ("test", test)):
            if rows:
                path = folder / "data" / view / f"{split}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                kept = [{name: row[name] for name in ("id", *columns, *extra) if name in row} for row in rows]
                pq.write_table(pa.Table.from_pylist(kept), path)
                card += [f"  - split: {split}", f"    path: data/{view}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*card, "---", "", "# Pairs", ""]), encoding="utf-8")
    return run


def small_run(folder: Path, rows: int = 12, test: int = 4) -> Path:
    return export(folder, [pair(number) for number in range(rows)], [pair(1000 + number) for number in range(test)])


def tried(task: str, run: Path, model: Path, output: Path, *sets: str, **more: Any) -> tuple[Trained, list[str]]:
    """Train for two steps (unless `sets` say otherwise); return the result and what was said."""
    said: list[str] = []
    length = [] if any(each.startswith(("max_steps", "num_train_epochs")) for each in sets) else ["max_steps=2"]
    done = train(task, [run], model=str(model), output=output, sets=[*length, *sets], say=said.append, **more)
    return done, said


def logged(done: Trained, name: str = "loss", split: str = "train") -> list[float]:
    """Return the logged values of one name, in order."""
    lines = [json.loads(line) for line in done.log.read_text().splitlines()]
    return [line[name] for line in lines if line["split"] == split and name in line]


def note(done: Trained) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((done.folder / "solon.json").read_text())
    return told
