"""The shapes of the data files: one canonical table, and the views of it that TRL trains on.

Each view is a configuration that `load_dataset(folder, view)` knows, with the columns that a trainer of TRL asks
for. A conversation is a list of {role, content}, and nothing else, so that no chat template meets a null.

    preference   prompt, chosen, rejected              DPO; the default configuration
    reward       prompt, chosen, rejected (, margin)   reward modelling
    sft          prompt, completion                    supervised fine-tuning
    kto          prompt, completion, label             KTO: each pair as a good and a bad answer
    prompts      prompt                                every planned prompt, for online methods
    pairs        the canonical table: every pair with all that explains its label
    set_aside    every row that ended without a pair, why, and what there was of it
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Literal

from solon.calls import Message
from solon.digests import whole
from solon.rows import Asked, Draft, Draw, Pair, Row, SetAside, Vote

__all__ = ["VIEWS", "Views", "schema"]

VIEWS = ("preference", "reward", "sft", "kto", "prompts", "pairs", "set_aside")
MOST_MARGIN = 5.0
"""logit(p) of a judge that is certain has no end; e^5 : 1 is as sure as a margin needs to be."""

Columns = dict[str, Any]


def schema(view: str, *, margin: bool) -> Any:
    """Return the view's `pyarrow.Schema`."""
    import pyarrow as pa

    def structs(**columns: Any) -> Any:
        return pa.list_(pa.struct(list(columns.items())))

    text, real, yes = pa.string(), pa.float64(), pa.bool_()
    messages = structs(role=text, content=text)
    drafts = structs(name=text, text=text, principle=text, digest=text, critique=text, stripped=yes, trimmed=yes)
    votes = structs(order=text, p_first=real, source=text, mass=real, said=text, key=text)
    walk: Columns = {"drafts": drafts, "votes": votes, "asked": structs(step=text, role=text, key=text)}
    draws = {"draws": structs(step=text, principle=text, digest=text)}
    ask = {"prompt": messages}
    columns: dict[str, Columns] = {
        "preference": {**ask, "chosen": messages, "rejected": messages},
        "reward": {**ask, "chosen": messages, "rejected": messages, **({"margin": real} if margin else {})},
        "sft": {**ask, "completion": messages},
        "kto": {**ask, "completion": messages, "label": yes},
        "prompts": ask,
        "pairs": {
            "row": text, **ask, "tags": pa.list_(text), "chosen": text, "rejected": text, "chosen_draft": text,
            "rejected_draft": text, "p_chosen": real, "principle": text, "digest": text, "judge": text,
            **draws, **walk,
        },
        "set_aside": {
            "row": text, **ask, "tags": pa.list_(text), "reason": text, "detail": text, **draws, **walk,
        },
    }  # fmt: skip
    return pa.schema(list(columns[view].items()))


class Views:
    """Turns rows and outcomes into the columns of one split's views, in the plan's order.

    sft: "all" takes every revision of a row whose revision was chosen (Bai et al. 2022, section 3.1, train on the
    revisions of all steps), "last" the chosen one alone. Where the first answer beat its revisions, or there are
    none, it is the chosen answer either way.
    """

    def __init__(self, wanted: frozenset[str], *, sft: Literal["all", "last"], margin: bool) -> None:
        self._wanted, self._sft, self._margin = wanted, sft, margin
        self._held: Columns | None = None

    def of_row(self, row: Row) -> Iterator[tuple[str, Columns]]:
        """Yield (view, columns) of a planned row."""
        if "prompts" in self._wanted:
            yield "prompts", {"prompt": _messages(row.prompt.messages)}

    def of_outcome(self, outcome: Pair | SetAside) -> Iterator[tuple[str, Columns]]:
        """Yield (view, columns) of a finished row."""
        made = self._pair(outcome) if isinstance(outcome, Pair) else self._set_aside(outcome)
        return ((view, columns) for view, columns in made if view in self._wanted)

    def rest(self) -> Iterator[tuple[str, Columns]]:
        """Yield what was held back, after the split's last outcome."""
        if self._held is not None and "kto" in self._wanted:
            yield "kto", self._held

    def _pair(self, pair: Pair) -> Iterator[tuple[str, Columns]]:
        ask = {"prompt": _messages(pair.row.prompt.messages)}
        both = {"chosen": _answer(pair.chosen), "rejected": _answer(pair.rejected)}
        yield "preference", {**ask, **both}
        yield "reward", {**ask, **both, **({"margin": margin(pair.p_chosen)} if self._margin else {})}
        for text in _completions(pair, self._sft):
            yield "sft", {**ask, "completion": _answer(text)}
        yield from self._kto(ask, both)
        yield (
            "pairs",
            {
                **_head(pair),
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "chosen_draft": pair.chosen_draft,
                "rejected_draft": pair.rejected_draft,
                "p_chosen": pair.p_chosen,
                "principle": pair.principle,
                "digest": pair.digest,
                "judge": pair.judge,
                **_walk(pair),
            },
        )

    def _kto(self, ask: Columns, both: Columns) -> Iterator[tuple[str, Columns]]:
        # TRL estimates KTO's KL term with each neighbour's completion, read in the order of the file: a rejected
        # answer is held back by one pair, so that no neighbour answers the same prompt.
        yield "kto", {**ask, "completion": both["chosen"], "label": True}
        if self._held is not None:
            yield "kto", self._held
        self._held = {**ask, "completion": both["rejected"], "label": False}

    def _set_aside(self, aside: SetAside) -> Iterator[tuple[str, Columns]]:
        yield "set_aside", {**_head(aside), "reason": aside.reason, "detail": whole(aside.detail), **_walk(aside)}


def margin(p: float) -> float:
    """Return logit(p), at most 5: the log odds that chosen is better."""
    return MOST_MARGIN if p >= 1.0 else min(math.log(p / (1.0 - p)), MOST_MARGIN)


def _completions(pair: Pair, sft: str) -> list[str]:
    if sft == "all" and pair.chosen_draft.startswith("revision"):
        revisions = [whole(draft.text) for draft in pair.drafts if draft.name.startswith("revision")]
        # a round that changed nothing says nothing new
        return list(dict.fromkeys(text for text in revisions if text.strip())) or [pair.chosen]
    return [pair.chosen]


def _messages(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _head(outcome: Pair | SetAside) -> Columns:
    prompt = outcome.row.prompt
    return {"row": outcome.row.id, "prompt": _messages(prompt.messages), "tags": list(prompt.tags)}


def _walk(outcome: Pair | SetAside) -> Columns:
    return {
        "draws": _structs(outcome.row.draws, Draw),
        "drafts": _structs(outcome.drafts, Draft),
        "votes": _structs(outcome.votes, Vote),
        "asked": _structs(outcome.asked, Asked),
    }


def _structs(parts: tuple[Any, ...], kind: type) -> list[Columns]:
    names = [field.name for field in fields(kind)]
    values = ({name: getattr(part, name) for name in names} for part in parts)
    return [
        {name: whole(value) if isinstance(value, str) else value for name, value in columns.items()}
        for columns in values
    ]
