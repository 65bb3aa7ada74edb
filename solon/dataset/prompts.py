"""Reading prompts: what users might say, from a file or a dataset, one Prompt at a time.

    for prompt in read_prompts(PromptsSpec(path="prompts.jsonl"), base=folder):
        ...

Read are JSON lines (.jsonl, .ndjson), CSV and TSV, text with one prompt a line (.txt), each of these also as
.gz, Parquet, and whatever `datasets` can load: by name, or a folder that its `save_to_disk` wrote.

A prompt is a string (one turn of the user's), a list of turns `{role, content}` (perhaps a system message
first, the user's turn last), or the text form of hh-rlhf: a string that begins with "\\n\\nHuman:" and ends
with "\\n\\nAssistant:". Text is kept as it is, neither trimmed nor normalised (turns of the hh-rlhf form lose
the blanks around them, which are markup there). Blank lines are skipped, a byte order mark is dropped.

A mistake in one record does not hide the next: the source is read to its end, and then one BadInput names the
first 20 mistakes, each `file:line: what; remedy`, and counts the rest. Memory does not grow with the source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from solon import yamls
from solon.calls import Message
from solon.dataset.records import (
    Mistakes,
    Record,
    did_you_mean,
    file_records,
    hub_records,
    kind,
    listed,
    misspelt,
)
from solon.errors import BadInput
from solon.rows import Prompt

__all__ = ["LONGEST_PROMPT", "PromptsSpec", "digest_of", "read_prompts", "turns_of"]

COLUMNS = ("prompt", "messages", "text", "question", "instruction")
LONGEST_PROMPT = 1_000_000
"""Characters, over all turns together. More is a mistake in the file, not a question."""


class PromptsSpec(BaseModel):
    """Where the prompts are.

    path:          a file; a relative path starts at the recipe's folder
    dataset:       instead of `path`: the name of a dataset on the hub, or a folder on this disk
    config, split: of `dataset`; the split defaults to "train", or to the only one there is
    column:        which column holds the prompt; by default the first of prompt, messages, text, question,
                   instruction that is there
    tags_column:   a column with a list of tags (or "one, two"); by default "tags", where it is there
    limit:         read no more than the first so many prompts
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    column: str | None = None
    tags_column: str | None = None
    limit: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_source(self) -> PromptsSpec:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("prompts need one source; give either `path` or `dataset`")
        if self.path is not None and (self.config or self.split):
            raise ValueError("`config` and `split` belong to `dataset`; leave them out beside `path`")
        return self

    @property
    def source(self) -> str:
        """Return how people call this source: the path, or the dataset's name with its config and split."""
        if self.path is not None:
            return self.path
        named = f"{self.dataset}/{self.config}" if self.config else str(self.dataset)
        return f"{named}[{self.split}]" if self.split else named

    def columns(self, names: list[str]) -> list[str]:
        """Return which of `names` may hold the prompt or its tags."""
        prompt = self.column or next((column for column in COLUMNS if column in names), None)
        return [name for name in (prompt, self.tags_column or "tags") if name in names]


class WrongRecord(ValueError):
    """What is wrong with one record, without its place."""


def digest_of(spec: PromptsSpec, base: Path) -> str | None:
    """Return the sha256 of the file that `spec` names, which takes a second a gigabyte; None where it is no file."""
    path = None if spec.path is None else yamls.located(spec.path, base)
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_prompts(spec: PromptsSpec, base: Path) -> Iterator[Prompt]:
    """Yield the prompts of `spec` in the order of the source; relative paths start at `base`.

    The same prompt may come more than once: whoever keeps them knows duplicates by `Prompt.id`.

    Raises BadInput with all mistakes as soon as the source is read to its end, or to its limit. What was
    yielded before belongs to a source with mistakes, and should be thrown away.
    """
    mistakes = Mistakes()
    if spec.path is not None:
        found = file_records(yamls.located(spec.path, base), spec.columns, mistakes)
    else:
        found = hub_records(str(spec.dataset), spec.config, spec.split, base, spec.columns)
    column: str | None = None
    given = 0
    for record in found:
        if column is None:
            column = _choose_column(record, spec)
        try:
            prompt = _prompt(record.columns, column, spec.tags_column)
        except WrongRecord as wrong:
            mistakes.add(record.place, str(wrong))
            continue
        if not mistakes.count:
            yield prompt
            given += 1
            if given == spec.limit:
                return
    mistakes.check()
    if not given:
        raise BadInput(f"{spec.source}: no prompts in it; write at least one")


def _choose_column(record: Record, spec: PromptsSpec) -> str:
    """Return the column that holds the prompt, by the first record. Raises BadInput where it is not there."""
    names = record.columns
    for wanted in (spec.column, spec.tags_column):
        if wanted is not None and wanted not in names:
            near = did_you_mean(wanted, names)
            raise BadInput(f"{record.place}: no column {wanted!r}; columns there: {listed(names)}{near}")
    if spec.column is not None:
        return spec.column
    for column in COLUMNS:
        if column in names:
            return column
    near = next(filter(None, (misspelt(column, names) for column in COLUMNS)), "")
    raise BadInput(
        f"{record.place}: none of the columns {listed(COLUMNS)}; columns there: {listed(names)}{near or ';'} "
        "say which one holds the prompt (`column: ...`)"
    )


def _prompt(columns: Mapping[str, Any], column: str, tags_column: str | None) -> Prompt:
    if column not in columns:
        remedy = misspelt(column, columns) or "; add it, or leave the record out"
        raise WrongRecord(f"no {column!r} here; columns there: {listed(columns)}{remedy}")
    messages = turns_of(columns[column], column)
    length = sum(len(message.content) for message in messages)
    if length > LONGEST_PROMPT:
        raise WrongRecord(f"the prompt has {length:,} characters; shorten it to {LONGEST_PROMPT:,} at most")
    return Prompt(messages, _tags(columns.get(tags_column or "tags"), tags_column or "tags"))


def turns_of(value: Any, column: str) -> tuple[Message, ...]:
    """Return the turns that a record's value holds, in any form of a prompt. Raises WrongRecord."""
    if isinstance(value, str):
        return _hh_turns(value) if value.startswith("\n\nHuman:") else (_turn("user", value, repr(column)),)
    if not isinstance(value, list):
        raise WrongRecord(f"{column!r} is {kind(value)}; write a text, or a list of {{role, content}}")
    if not value:
        raise WrongRecord(f"{column!r} is an empty list; write at least the user's turn")
    turns = tuple(_message(turn, f"turn {place} of {column!r}") for place, turn in enumerate(value, start=1))
    for place, turn in enumerate(turns[1:], start=2):
        if turn.role == "system":
            raise WrongRecord(f"turn {place} of {column!r} is a system message; move it to the front")
    if turns[-1].role != "user":
        last = turns[-1].role
        raise WrongRecord(f"{column!r} ends with a turn of the {last}; cut off what follows the user's last turn")
    return turns


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, Mapping):
        raise WrongRecord(f"{where} is {kind(message)}; write {{role, content}}")
    if "from" in message and "role" not in message:
        remedy = "rename them to `role` (human is user, gpt is assistant) and `content`"
        raise WrongRecord(f"{where} has `from` and `value`; {remedy}")
    for key in ("role", "content"):
        if key not in message:
            remedy = misspelt(key, message) or "; write {role, content}"
            raise WrongRecord(f"{where} has no {key!r}; keys there: {listed(message)}{remedy}")
    role = message["role"]
    if role not in ("user", "assistant", "system"):
        raise WrongRecord(f"{where} has the role {role!r}; choose from user, assistant, system")
    return _turn(role, message["content"], where)


def _turn(role: str, content: Any, where: str) -> Message:
    if not isinstance(content, str):
        raise WrongRecord(f"{where} holds {kind(content)}; write a text")
    if not content.strip():
        what = "only white space" if content else "empty"
        raise WrongRecord(f"{where} is {what}; write a text, or leave the record out")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(content[error.start]):04x}"
        raise WrongRecord(f"{where} holds half a character ({half}); write the whole pair, or none") from None
    return Message(role, content)


_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def _hh_turns(text: str) -> tuple[Message, ...]:
    # A text that begins so and ends otherwise holds an answer: taken as one turn it would be a wrong prompt.
    if not text.rstrip().endswith("\n\nAssistant:"):
        raise WrongRecord(
            'begins with "\\n\\nHuman:" but does not end with "\\n\\nAssistant:"; cut the last answer off, '
            "or write a list of {role, content}"
        )
    parts = _HH_TURN.split(text)[1:-2]  # role, words, role, words, ...; off goes the open turn at the end
    turns = [
        _turn(_HH_ROLES[role], words.strip(), f"turn {place} ({role})")
        for place, (role, words) in enumerate(zip(parts[::2], parts[1::2], strict=True), start=1)
    ]
    if turns[-1].role != "user":
        raise WrongRecord("two of Assistant's turns stand at the end; end with Human's and one open Assistant's")
    return tuple(turns)


def _tags(value: Any, column: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        odd = next((tag for tag in value if not isinstance(tag, str)), None) if isinstance(value, list) else value
        holds = "holds" if isinstance(value, list) else "is"
        raise WrongRecord(f'{column!r} {holds} {kind(odd)}; write a list of tags, or "one, two"')
    if any(not tag.isascii() and any("\ud800" <= letter <= "\udfff" for letter in tag) for tag in value):
        raise WrongRecord(f"{column!r} holds half a character (a lone surrogate), which no data file can; mend the tag")
    return tuple(tag.strip() for tag in value if tag.strip())
