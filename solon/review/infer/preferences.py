"""Preference data of others: pairs of answers with a label, from whatever holds them.

    pairs = read_preferences("Anthropic/hh-rlhf", limit=400)
    pairs.pairs[0].first, pairs.pairs[0].second, pairs.pairs[0].first_wins

Read are a run folder of Solon's, an exported dataset folder, JSON lines, CSV, TSV (each also as .gz), Parquet, a folder
or a hub name that `datasets` loads. `chosen` and `rejected` are texts, lists of turns `{role, content}`, or hh-rlhf's
transcripts; the prompt stands in `prompt` (or question, instruction), or it is what the two have in common.

Nobody can be asked to mend a dataset of somebody else's, so a record that is no pair is set aside by name and counted;
only a file that cannot be read as a whole is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from solon import yamls
from solon.calls import Message
from solon.dataset.prompts import LONGEST_PROMPT, WrongRecord, turns_of
from solon.dataset.records import Mistakes, Record, file_records, hub_records, kind, listed, misspelt
from solon.digests import tagged, uniform
from solon.errors import Aside, BadInput
from solon.pipelines.run import RunFolder
from solon.rows import Pair, Prompt

__all__ = ["SET_ASIDE", "Preference", "Preferences", "read_preferences"]

PROMPTS = ("prompt", "question", "instruction")
SAVED = ("state.json", "dataset_dict.json", "*.parquet", "*/*.parquet", "*.jsonl", "*.csv", "*.arrow")
ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".json", ".parquet", ".gz")

SET_ASIDE: dict[str, str] = {
    "equal_candidates": "chosen and rejected are the same text",
    "empty_answer": "chosen or rejected is empty",
    "several_turns": "an answer goes on over several turns",
    "duplicate": "the same pair stands there again",
    "contradicted": "the same pair is labelled both ways",
    "unreadable_record": "the record is no pair",
}
"""Why a record of a preference dataset is not used, each with the sentence that people read."""


@dataclass(frozen=True)
class Preference:
    """Two answers to a prompt, and which of them somebody preferred.

    place: where it stands, as people say it
    """

    place: str
    prompt: Prompt
    chosen: str
    rejected: str

    @cached_property
    def id(self) -> str:
        """Return 32 hex digits over prompt and texts, whichever was chosen."""
        return tagged("solon.preference/1", [self.prompt.id, sorted((self.chosen, self.rejected))])[:32]

    @cached_property
    def first_wins(self) -> bool:
        """Return whether the chosen text is presented first: decided by a hash that does not know the label."""
        one = min(self.chosen, self.rejected)
        return (self.chosen == one) == (uniform("solon.presented/1", self.id) < 0.5)

    @property
    def first(self) -> str:
        return self.chosen if self.first_wins else self.rejected

    @property
    def second(self) -> str:
        return self.rejected if self.first_wins else self.chosen


@dataclass(frozen=True)
class Preferences:
    """The pairs of a source, and what became of the other records.

    read:      records that were looked at
    set_aside: how many of them are not used, by reason (SET_ASIDE)
    examples:  the first of each reason, "place: what"
    """

    source: str
    pairs: tuple[Preference, ...]
    read: int
    set_aside: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)


def read_preferences(
    source: str | Path, *, limit: int | None = None, split: str | None = None, base: Path | None = None
) -> Preferences:
    """Return the first `limit` pairs of `source`; relative paths start at `base`, by default the current folder.

    split: of a dataset; by default "train", or the only one there is (of Solon's own datasets all)

    Raises BadInput: nothing there, unreadable, no columns `chosen` and `rejected`, not a single pair. StorageError: a
    run folder that is damaged.
    """
    mistakes = Mistakes()
    kept: dict[str, Preference | None] = {}
    aside: Counter[str] = Counter()
    examples: dict[str, str] = {}
    read = pairs = 0
    for record in _records(str(source), split, base or Path(), mistakes):
        if not read:
            _check_columns(record)
        read += 1
        reason = what = ""
        try:
            pair = _pair(record)
            reason = _repeated(pair, kept)
        except Aside as problem:
            reason = problem.reason
        except _SeveralTurns:
            reason = "several_turns"
        except WrongRecord as wrong:
            reason, what = "unreadable_record", str(wrong)
        if reason:
            aside[reason] += 1
            examples.setdefault(reason, f"{record.place}: {what or SET_ASIDE[reason]}")
            if reason == "contradicted" and kept[pair.id] is not None:
                kept[pair.id], pairs = None, pairs - 1
                aside[reason] += 1
            continue
        kept[pair.id], pairs = pair, pairs + 1
        if pairs == limit:
            break
    else:
        mistakes.check()
    if not pairs:
        raise BadInput(f"{source}: no pairs in it{_why_none(aside, examples) if read else '; write at least one'}")
    return Preferences(str(source), tuple(pair for pair in kept.values() if pair), read, dict(aside), examples)


def _repeated(pair: Preference, kept: Mapping[str, Preference | None]) -> str:
    """Return why a pair that was seen before is set aside, or ""."""
    if pair.id not in kept:
        return ""
    before = kept[pair.id]
    return "duplicate" if before is not None and before.chosen == pair.chosen else "contradicted"


def _why_none(aside: Counter[str], examples: Mapping[str, str]) -> str:
    reason = max(aside, key=lambda each: (aside[each], each))
    return f" that can be used ({aside.total():,} set aside); {examples[reason]}"


# -- sources -------------------------------------------------------------------------------------------------


def _records(source: str, split: str | None, base: Path, mistakes: Mistakes) -> Iterator[Record]:
    path = yamls.located(source, base)
    if (path / "run.json").is_file():
        return _no_split(_run_records(path), split, path)
    for folder in (path / "dataset", path):
        if (folder / "README.md").is_file() and (folder / "data").is_dir():
            return _exported(folder, split, mistakes)
    if path.is_dir() and not any(next(path.glob(mark), None) for mark in SAVED):
        # `datasets` would walk all that lies below it
        raise BadInput(f"{path}: holds no dataset; give a run folder, an exported dataset, or a file of pairs")
    if path.is_dir() or not (path.exists() or source.lower().endswith(ENDINGS)):
        return hub_records(source, None, split, base, _columns)
    return _no_split(file_records(path, _columns, mistakes), split, path)


def _no_split(records: Iterator[Record], split: str | None, path: Path) -> Iterator[Record]:
    if split is not None:
        raise BadInput(f"{path}: has no splits; leave --split out")
    return records


def _columns(names: list[str]) -> list[str]:
    """Return which columns are worth reading."""
    return [name for name in ("chosen", "rejected", *PROMPTS) if name in names]


def _run_records(path: Path) -> Iterator[Record]:
    with RunFolder.open(path).store(read_only=True) as store:
        for outcome in store.outcomes():
            if isinstance(outcome, Pair):
                prompt = [{"role": turn.role, "content": turn.content} for turn in outcome.row.prompt.messages]
                columns = {"prompt": prompt, "chosen": outcome.chosen, "rejected": outcome.rejected}
                yield Record(f"{path}: row {outcome.row.id}", columns)


def _exported(folder: Path, split: str | None, mistakes: Mistakes) -> Iterator[Record]:
    views = [folder / "data" / view for view in ("pairs", "preference", "reward")]
    files = next((found for view in views if (found := sorted(view.glob("*.parquet"), reverse=True))), [])
    if not files:
        raise BadInput(f"{folder}: holds no view with pairs (pairs, preference, reward); `solon export` writes them")
    chosen = [file for file in files if split in (None, file.stem)]  # train before test
    if not chosen:
        raise BadInput(f"{folder}: no split {split!r}; splits there: {listed(file.stem for file in files)}")
    return (record for file in chosen for record in file_records(file, _columns, mistakes))


def _check_columns(record: Record) -> None:
    for column in ("chosen", "rejected"):
        if column not in record.columns:
            near = misspelt(column, record.columns) or "; a preference dataset has both texts of each pair"
            raise BadInput(f"{record.place}: no column {column!r}; columns there: {listed(record.columns)}{near}")


# -- records -------------------------------------------------------------------------------------------------


class _SeveralTurns(ValueError):
    """An answer is a conversation of its own: no judge here compares those."""


def _pair(record: Record) -> Preference:
    """Return the pair of one record. Raises WrongRecord, _SeveralTurns or Aside (equal, empty)."""
    columns = record.columns
    for column in ("chosen", "rejected"):
        if column not in columns:
            raise WrongRecord(f"no {column!r} here; columns there: {listed(columns)}")
    sides = columns["chosen"], columns["rejected"]
    if any(side is None or (isinstance(side, str | list) and not side) for side in sides):
        raise Aside("empty_answer")
    name = next((name for name in PROMPTS if columns.get(name) not in (None, "", [])), None)
    if name is not None:
        messages = turns_of(columns[name], name)
        answers = [_answer(side, messages, column) for side, column in zip(sides, ("chosen", "rejected"), strict=True)]
    elif all(isinstance(side, str) for side in sides):
        messages, answers = _of_transcripts(*sides)
    elif all(isinstance(side, list) for side in sides):
        messages, answers = _of_lists(*sides)
    else:
        raise WrongRecord(f"'chosen' is {kind(sides[0])} and 'rejected' {kind(sides[1])}; write both the same way")
    return Preference(record.place, Prompt(messages), *_usable(*answers))


def _usable(chosen: str, rejected: str) -> tuple[str, str]:
    for text in (chosen, rejected):
        if not text.strip():
            raise Aside("empty_answer")
        if len(text) > LONGEST_PROMPT:
            raise WrongRecord(f"an answer has {len(text):,} characters, more than {LONGEST_PROMPT:,}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise WrongRecord("an answer holds half a character (a lone surrogate)") from None
    if chosen.strip() == rejected.strip():
        raise Aside("equal_candidates")
    return chosen, rejected


HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def _answer(side: Any, prompt: Sequence[Message], column: str) -> str:
    """Return the answer to a given prompt: a text, or a list of turns, either with the prompt before it or without."""
    if isinstance(side, str):
        if not side.startswith(HUMAN):
            return side
        before, _, answer = side.rpartition(ASSISTANT)
        if HUMAN in answer:
            raise _SeveralTurns
        if turns_of(before + ASSISTANT, column) != tuple(prompt):
            raise WrongRecord(f"{column!r} is a transcript that does not begin with the prompt")
        return answer.strip()
    if not isinstance(side, list):
        raise WrongRecord(f"{column!r} is {kind(side)}; write a text, or a list of {{role, content}}")
    turns = [_turn(turn, column) for turn in side]
    asked = [(message.role, message.content) for message in prompt]
    return _only_answer(turns[len(asked) :] if turns[: len(asked)] == asked else turns, column)


def _of_transcripts(chosen: str, rejected: str) -> tuple[tuple[Message, ...], list[str]]:
    """Return prompt and answers of hh-rlhf's form: the prompt is what both have, up to the last Assistant turn."""
    if not (chosen.startswith(HUMAN) and rejected.startswith(HUMAN)):
        raise WrongRecord(
            f"there is no prompt: no column {listed(PROMPTS)}, and the texts are no transcripts (they would begin "
            f"with {HUMAN!r})"
        )
    end = chosen[: _common(chosen, rejected)].rfind(ASSISTANT)
    if end < 0:
        raise WrongRecord("the two transcripts have no prompt in common")
    end += len(ASSISTANT)
    answers = [chosen[end:], rejected[end:]]
    if any(mark in answer for answer in answers for mark in (HUMAN, ASSISTANT)):
        raise _SeveralTurns
    return turns_of(chosen[:end], "chosen"), [answer.strip() for answer in answers]


def _of_lists(chosen: list[Any], rejected: list[Any]) -> tuple[tuple[Message, ...], list[str]]:
    """Return prompt and answers of two conversations: the prompt is the turns that both have, up to the user's last."""
    one, other = [_turn(turn, "chosen") for turn in chosen], [_turn(turn, "rejected") for turn in rejected]
    end = _common(one, other)
    while end and one[end - 1][0] != "user":
        end -= 1
    if not end:
        raise WrongRecord("the two conversations have no prompt in common")
    prompt = turns_of([{"role": role, "content": content} for role, content in one[:end]], "chosen")
    return prompt, [_only_answer(one[end:], "chosen"), _only_answer(other[end:], "rejected")]


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many items two sequences have in common at their beginning."""
    return next(
        (place for place, (mine, yours) in enumerate(zip(one, other, strict=False)) if mine != yours),
        min(len(one), len(other)),
    )


def _turn(turn: Any, column: str) -> tuple[str, str]:
    # a mapping may carry other keys too (a score, a null name), and they decide nothing here
    if not isinstance(turn, Mapping) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
        raise WrongRecord(f"{column!r} holds something that is no turn; write {{role, content}}")
    return turn["role"], turn["content"]


def _only_answer(turns: Sequence[tuple[str, str]], column: str) -> str:
    if len(turns) > 1:
        raise _SeveralTurns
    if not turns:
        raise Aside("empty_answer")
    role, content = turns[0]
    if role != "assistant":
        raise WrongRecord(f"{column!r} ends with a turn of the {role}, not with the assistant's answer")
    return content
