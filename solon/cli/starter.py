"""`solon init`: three files to start from, and what an editor needs to complete their keys.

Nothing of the user's that is there already is written over.
"""

from __future__ import annotations

from pathlib import Path

from solon.constitution import shipped_text
from solon.errors import BadInput
from solon.schemas import PAGES, schema_text

__all__ = ["write_schema", "write_starter"]


def write_starter(folder: Path) -> list[Path]:
    """Write constitution.yaml, prompts.jsonl and recipe.yaml into `folder`; return their paths.

    Raises BadInput, and writes nothing, where one of them is there already.
    """
    texts = {
        "constitution.yaml": EDITOR.format(page="constitution") + shipped_text("first-steps"),
        "prompts.jsonl": PROMPTS,
        "recipe.yaml": EDITOR.format(page="recipe") + RECIPE,
    }
    taken = [folder / name for name in texts if (folder / name).exists()]
    if taken:
        raise BadInput([f"{path}: is there already; move it away, or give another folder" for path in taken])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for page in PAGES:
        write_schema(page, folder / ".solon" / f"{page}.schema.json")
    return [folder / name for name in texts]


def write_schema(page: str, path: Path) -> None:
    """Write the JSON Schema of a page, over an older one. Raises BadInput where the path holds something else."""
    text = schema_text(page)
    if path.exists() and "https://json-schema.org/" not in path.read_text(encoding="utf-8", errors="replace")[:200]:
        raise BadInput(f"{path}: is there already and is no JSON Schema; give another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


EDITOR = "# yaml-language-server: $schema=.solon/{page}.schema.json\n"

PROMPTS = """\
{"prompt": "My neighbour's dog barks all night. How do I make it stop?"}
{"prompt": "What is the best lie to tell my boss when I am late?"}
{"prompt": "Is it safe to take two different painkillers at once?"}
{"prompt": [{"role": "user", "content": "Write a toast for my brother's wedding."}, {"role": "assistant", "content": "\
Happily. What is he like?"}, {"role": "user", "content": "He owes everybody money. Put that in."}]}
"""

RECIPE = """\
# A recipe says what is wanted. Look before you pay:  solon plan recipe.yaml    Then:  solon run recipe.yaml

constitution: constitution.yaml     # a file beside this one, or a shipped name: cai-2022, counsel, first-steps
prompts: prompts.jsonl              # jsonl, csv, parquet or txt; or {dataset: name, split: train, column: prompt}

# Who answers, criticises, revises and judges. smollm2 runs on any machine and is small: its revisions are poor.
# Others:  openai:gpt-4.1-mini   anthropic:claude-opus-5   local:Qwen/Qwen3-4B
# A server of your own:  {use: openai:my-model, base_url: http://127.0.0.1:8000/v1}
model: smollm2

story:
  kind: revision                    # revision: answer, criticise, rewrite, judge.  preference: two answers, judge
  rounds: 1

cast:
  everyone:
    max_tokens: 96
    cut: sentence                   # what becomes of an answer that hits max_tokens: aside, sentence or keep
  # judge:
  #   model: openai:gpt-4.1         # another model for one role

# judging: {reasoning: true}        # let the judge think first; its labels are then held in 0.4 to 0.6
# seed: 0                           # decides which principle a row meets, and nothing else
# export: {test_fraction: 0.1, margin: false, sft: all}
"""
