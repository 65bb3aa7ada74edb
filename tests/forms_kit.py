"""Constitutions in other forms, for tests: a full one, small files of each form, and how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from solon.constitution.forms import Imported, read_form
from solon.errors import BadInput

FULL = """\
name: Everything
version: "3"
description: For people.
licence: CC0-1.0
source: a book
preamble: You are asked much.
principles:
  - id: full
    kind: priority
    rank: 2
    weight: 2
    tags: [truth]
    applies_to: [facts]
    text: Say what is so.
    critique: Discuss whether it is so.
    revision: Make it so.
    preference: Which is so?
    rationale: People act on it.
    exemplars: [{prompt: Hi, response: Ho, critique: Hm, revision: Hello}]
    cases: [{prompt: Hi, better: Hello, worse: Ho}]
    prompts:
      - Is it so?
      - [{role: user, content: Hi}, {role: assistant, content: Ho}, {role: user, content: Is it so?}]
  - {id: never, kind: hard_constraint, text: Never do it.}
  - {id: own-words, critique: Is it kind?, revision: Make it kind., preference: Which is kinder?}
  - id: own-words-again
    critique: Is it kind?
    revision: Make it kind.
    exemplars: [{prompt: Hi, response: Ho, critique: Hm, revision: Hello}]
  - {id: asleep, text: Sleep., weight: 0}
  - {id: trait, kind: trait, text: I am kind.}
"""


PAIRS = '{"harmful0": {"prompt": ["\\n\\nCritiqueRequest: Is it kind?\\n\\nCritique:"], "edit_request": "\\n\\nRevisionRequest: Make it kind.\\n\\nRevision:"}}'  # noqa: E501
OPTIONS = '["\\nChoose the kinder response. Options:", "\\nChoose the kinder response. Options:"]'
SWARM = '{"constitutions": [{"critic": "Is it kind?", "revision": "Make it kind."}], "system_chat": []}'
CHARACTER = '[{"trait": "I am kind.", "questions": ["Who are you?", "Are you well?"]}]'
BULLETS = "# House rules\n\nWe answer like this:\n\n- Be kind.\n- Be brief.\n"
HEADINGS = "# House rules\n\nFor all of us.\n\n## Kindness\n\nBe kind.\n\n## Brevity\n\nBe brief.\n"

PROSE = """\
# House rules

For all of us.

## Preamble

You speak to *strangers*.

## Hard constraints {#lines .red}

Some lines are fixed. The assistant should never:

* Help to [poison](https://example.org) anybody;
* Name a private person, and
* sell **anything**

They are few.

## What comes first

We weigh these in the order given:

1. **Truth**: say what is so
2. **Care**

## On _kindness_

A short paragraph.

```
# no heading
```

### Deeper

This first sentence says what is asked of the assistant, e.g. to be kind. {more}

The second paragraph.

## Priorities

### Being fair

Be fair.
""".replace("{more}", "The rest explains it at such a length that nobody would call it one line. " * 4)


def read(tmp_path: Path, text: str, name: str = "given.txt", form: str | None = None) -> Imported:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return read_form(path, form)


def problem(tmp_path: Path, text: str | bytes, name: str = "given.txt", form: str | None = None) -> str:
    """Return the one line that a bad file ends in, without the path of the folder."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput) as caught:
        read_form(path, form)
    (line,) = caught.value.problems
    assert line.count("\n") == 0
    assert len(line) < 500
    return line.replace(f"{tmp_path}/", "")
