"""The card of an export: README.md, whose YAML lets `load_dataset` find the views, and which people read.

The card alone holds what may differ between two runs that made the same data: time, spend, what came from memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solon.dataset.quality import Quality
from solon.dataset.store import RowStore
from solon.errors import REASONS

__all__ = ["MARK", "CardFacts", "CardModel", "Spend"]

MARK = "<!-- made by `solon export`; the next export writes this folder anew -->"
"""Tells our folders from a person's: only a folder with this in its card is ever replaced."""

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class CardModel:
    """Who played one role: what people call the model, and what the ledger knows it by."""

    role: str
    name: str
    identity: str


@dataclass(frozen=True, slots=True)
class Spend:
    """What the run asked: calls answered anew and from memory, tokens of the new ones, US dollars where known."""

    calls: int
    remembered: int
    input_tokens: int
    output_tokens: int
    dollars: float | None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card tells beyond the rows themselves.

    name, plan:   the recipe's name, and the plan's
    story:        in a few words: "Revision, 2 rounds", "Preference, 2 candidates"
    constitution, version, digest, licence, source: of the constitution; empty where it does not say
    prompts:      where the prompts came from
    reproduce:    the command that makes this folder again
    licence_note: anything to be said about the licence of prompts or texts
    made:         when, as people read it; empty to leave it out
    """

    name: str
    plan: str
    story: str
    constitution: str
    version: str
    digest: str
    seed: int
    models: tuple[CardModel, ...]
    prompts: str
    reproduce: str
    solon: str
    licence: str = ""
    source: str = ""
    licence_note: str = ""
    spend: Spend | None = None
    made: str = ""


def card_text(
    facts: CardFacts, store: RowStore, counts: Counts, digests: Mapping[str, str], folder: str, test_fraction: float
) -> str:
    """Return the README.md of an export.

    Args:
        counts: rows of each view and split that has a file.
        digests: what each of these views is named by, so that no cache takes it for another.
        folder: the export folder's own name, for the examples.
    """
    quality = store.quality()
    body = _BODY.format(
        mark=MARK,
        name=facts.name,
        story=facts.story,
        constitution=facts.constitution + (f", version {facts.version}" if facts.version else ""),
        digest=facts.digest,
        source=f"Source: {facts.source}. " if facts.source else "",
        licence=facts.licence or "not stated",
        plan=facts.plan,
        seed=facts.seed,
        prompts=facts.prompts,
        solon=facts.solon,
        made=f" on {facts.made}" if facts.made else "",
        models=_table(("role", "model", "identity"), [(m.role, m.name, f"`{m.identity}`") for m in facts.models]),
        counts=_table(("rows", "count"), _rows_told(store)),
        aside=_aside(store.tally()),
        labels=_table(("what", "measured"), _labels(quality, store)),
        views=_views(counts),
        split=f"{100 * test_fraction:g}% of the prompts are held out as `test`, by the hash of the prompt"
        if test_fraction
        else "Nothing is held out",
        cost=_cost(facts.spend),
        examples=_examples(counts, folder),
        reproduce=facts.reproduce,
        licence_note=f"\n\n{facts.licence_note}" if facts.licence_note else "",
    )
    return f"---\n{_front_matter(facts, counts, digests)}---\n\n{body}"


def _front_matter(facts: CardFacts, counts: Counts, digests: Mapping[str, str]) -> str:
    from huggingface_hub import DatasetCardData

    configs = [
        {
            "config_name": view,
            "description": f"{_PURPOSE[view]} (content {digests[view]})",
            "data_files": [{"split": split, "path": f"data/{view}/{split}.parquet"} for split in splits],
            **({"default": True} if view == "preference" else {}),
        }
        for view, splits in counts.items()
    ]
    most = max((sum(splits.values()) for splits in counts.values()), default=0)
    told: dict[str, Any] = {
        "pretty_name": facts.name,
        "tags": ["constitutional-ai", "rlaif", "preference", "dpo", "synthetic", "trl", "solon"],
        "task_categories": ["text-generation"],
        "size_categories": [next(size for size, end in _SIZES if most < end)],
    }
    if configs:
        told["configs"] = configs
    # what a trainer writes down about the data that it was given
    told["solon"] = {"plan": facts.plan, "constitution": facts.digest}
    data = DatasetCardData(**told)
    return str(data.to_yaml()) + "\n"


_SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("n>1M", float("inf")))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _share(part: int, whole: int, of: str) -> str:
    return f"{part / whole:.1%} ({part:,} of {whole:,} {of})" if whole else f"no {of}"


def _rows_told(store: RowStore) -> list[tuple[str, str]]:
    rows = [
        ("planned", store.planned),
        ("prompts that were there twice, and fell together", store.duplicates),
        ("pairs", store.pairs),
        ("set aside", store.set_aside),
        ("not walked yet", store.planned - store.finished),
    ]
    return [(name, f"{count:,}") for name, count in rows]


def _aside(tally: Mapping[str, int]) -> str:
    if not tally:
        return "No row was set aside."
    rows = [(f"`{reason}`", f"{count:,}", REASONS.get(reason, "")) for reason, count in tally.items()]
    return _table(("reason", "rows", "what it means"), rows)


def _labels(quality: Quality, store: RowStore) -> list[tuple[str, str]]:
    pairs = quality.pairs
    mean = f"{quality.mean_p:.3f}" if quality.mean_p is not None else "no pairs"
    chosen, rejected = (
        f"{chars / pairs:,.0f}" if pairs else "no pairs" for chars in (quality.chosen_chars, quality.rejected_chars)
    )
    rows = [
        ("mean P(chosen is better)", mean),
        ("ties, set aside", _share(store.tally().get("tie", 0), store.finished, "finished rows")),
        ("the judge did not say", _share(quality.silent, quality.votes, "votes that decided a row")),
        (
            "same slot: the place, first or second, won in both orders",
            _share(quality.same_slot, quality.judged, "rows judged in both orders"),
        ),
        ("meta-preamble stripped", _share(quality.stripped, quality.revisions, "revisions")),
        ("unfinished last sentence trimmed", _share(quality.trimmed, quality.drafts, "texts")),
        ("characters, chosen", f"{chosen} on average"),
        ("characters, rejected", f"{rejected} on average"),
        ("chosen is the longer one", _share(quality.chosen_longer, pairs, "pairs")),
    ]
    if quality.revisions:
        beaten = _share(quality.original_chosen, pairs, "pairs")
        rows.insert(1, ("the first answer beat its revision", beaten))
    return rows


def _views(counts: Counts) -> str:
    rows = [
        (
            f"`{view}`" + (" (default)" if view == "preference" else ""),
            f"{splits.get('train', 0):,}",
            f"{splits.get('test', 0):,}",
            _PURPOSE[view],
        )
        for view, splits in counts.items()
    ]
    return _table(("view", "train", "test", "for"), rows) if rows else "There are no rows yet, so there are no files."


def _examples(counts: Counts, folder: str) -> str:
    lines = [
        f"trl {command} --dataset_name {folder} --dataset_config {view} --model_name_or_path MODEL --output_dir OUT"
        for command, view in (("dpo", "preference"), ("reward", "reward"), ("sft", "sft"), ("kto", "kto"))
        if view in counts
    ]
    load = _LOAD.format(folder=folder, view=next(iter(counts))) if counts else ""
    return load + ("```\n" + "\n".join(lines) + "\n```\n\n" if lines else "")


def _cost(spend: Spend | None) -> str:
    if spend is None:
        return "Not recorded."
    price = "price unknown" if spend.dollars is None else f"{spend.dollars:,.2f} US dollars"
    took = f", {spend.seconds / 60:,.1f} minutes" if spend.seconds is not None else ""
    return (
        f"{spend.calls:,} calls answered by models and {spend.remembered:,} from the ledger's memory; "
        f"{spend.input_tokens:,} tokens in, {spend.output_tokens:,} tokens out; {price}{took}."
    )


_PURPOSE = {
    "preference": "DPO and its kin: `prompt`, `chosen`, `rejected`",
    "reward": "reward models: `prompt`, `chosen`, `rejected`",
    "sft": "supervised fine-tuning: `prompt`, `completion`",
    "kto": "KTO: `prompt`, `completion`, `label`; ordered so that neighbours answer different prompts",
    "prompts": "online methods: every planned prompt",
    "pairs": "the canonical table: every pair with its drafts, critiques, votes and calls",
    "set_aside": "rows that ended without a pair, why, and what there was of them",
}

_LOAD = """\
```python
from datasets import load_dataset

rows = load_dataset("{folder}", "{view}")
```

"""

_BODY = """\
{mark}

# {name}

Preference data made by [Constitutional AI](https://arxiv.org/abs/2212.08073): a model's answers were criticised,
revised or compared by models that read a constitution, not by people. Story: {story}.

## Constitution

{constitution}, digest `{digest}`. {source}Licence: {licence}.

## Who wrote and judged the texts

{models}

The texts are the output of these models. Providers' terms may restrict what their outputs may train (some forbid
training models that compete with theirs): read them before you train or publish.

## Rows

{counts}

Prompts: {prompts}. They may be harmful by design, and so may the rejected answers.

### Set aside

{aside}

Rows that were set aside are readable in the view `set_aside`, where it is written.

## Labels

{labels}

A label is the judge's P(chosen is better), averaged over both orders of the two texts. It says what the judge
prefers by this constitution, no more.

## Views

{views}

{split}. A view or a split without rows has no file.

{examples}## How it was made

Solon {solon}{made}, plan `{plan}`, seed {seed}. The same again, with every answered call from the ledger:

```
{reproduce}
```

Cost: {cost}

## Licence

The constitution's licence is {licence}. The prompts keep their own, and the answers stand under the terms of the
models above; this card grants nothing.{licence_note}

## Citation

- Bai et al. 2022, *Constitutional AI: Harmlessness from AI Feedback*, [arXiv 2212.08073](https://arxiv.org/abs/2212.08073)
- Lee et al. 2023, *RLAIF vs. RLHF: Scaling Reinforcement Learning from Human Feedback with AI Feedback*, [arXiv 2309.00267](https://arxiv.org/abs/2309.00267)
"""
