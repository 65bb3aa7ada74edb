"""Constitutions as others released them: read, checked, and written again without loss but for what is told here.

The files are read where they lie beside the project; without them these tests are skipped.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from run_kit import Solon

from solon.constitution import load, parse
from solon.constitution.forms import read_form, write_form

DATA = Path(__file__).parents[2] / "shared" / "data"
PERSONAS = ("humor", "impulsiveness", "loving", "mathematical", "nonchalance", "poeticism", "remorse", "sarcasm",
            "sycophancy")  # fmt: skip
PAPER, RELEASED = "cai2022/prompts", "constitutions"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the released files are not here")

FILES = {
    f"{PAPER}/CritiqueRevisionInstructions.json": ("cai", 16),
    f"{PAPER}/RLMadisonInstructions.json": ("cai-preferences", 16),
    f"{RELEASED}/hf_llm_swarm_anthropic.json": ("hf", 16),
    f"{RELEASED}/hf_llm_swarm_grok.json": ("hf", 3),
    **{f"{RELEASED}/opencharacter/{name}.txt": ("traits", 10) for name in PERSONAS},
    f"{RELEASED}/claude_constitution_2026-01-20.md": ("prose", 50),
    f"{RELEASED}/openai_model_spec_2025-12-18.md": ("prose", 78),
}


def chats(value: dict[str, Any]) -> list[str]:
    return sorted(json.dumps(chat, sort_keys=True) for chat in value.pop("system_chat", []))


@pytest.mark.parametrize("name", FILES)
def test_a_released_file_is_recognised_and_makes_a_constitution_that_check_reads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    solon, to = Solon(monkeypatch, capsys), tmp_path / "mine.yaml"
    assert solon("constitution", "import", DATA / name, "--to", to).code == 0
    assert solon("check", to).code == 0
    done = read_form(DATA / name)
    assert (done.form, len(done.constitution.principles)) == FILES[name]
    assert load(to) == done.constitution


@pytest.mark.parametrize("name", [name for name, (form, _) in FILES.items() if form != "prose"])
def test_released_json_comes_out_as_it_went_in(name: str) -> None:
    """The chats of Hugging Face's recipe come back whole, but in the order of their principles."""
    done = read_form(DATA / name)
    written = write_form(done.constitution, done.form)
    before, after = json.loads((DATA / name).read_text(encoding="utf-8")), json.loads(written.text)
    assert set(written.lost) == {"name"}
    if done.form == "hf":
        assert chats(after) == chats(before)
    assert after == before


@pytest.mark.parametrize("form", ["prose", "markdown"])
@pytest.mark.parametrize("name", [name for name, (form, _) in FILES.items() if form == "prose"])
def test_released_prose_comes_out_with_every_paragraph_in_its_place(name: str, form: str, tmp_path: Path) -> None:
    done = read_form(DATA / name)
    written = write_form(done.constitution, form)
    assert written.lost == {}
    (tmp_path / "again.md").write_text(written.text, encoding="utf-8")
    again = read_form(tmp_path / "again.md")
    assert (again.form, again.constitution) == (form, done.constitution)
    before, after = ((path.read_text(encoding="utf-8")) for path in (DATA / name, tmp_path / "again.md"))
    if form == "prose":
        title = f"# {done.constitution.name}\n"  # added where the prose has none
        assert (after if title in before else after.removeprefix(title)).split() == before.split()
    else:
        quoted = " ".join(re.sub(r"^> ?", "", after, flags=re.MULTILINE).split())
        start = 0
        for paragraph in re.split(r"\n\s*\n", before):
            words = " ".join(paragraph.split())
            if words and words != f"# {done.constitution.name}":
                start = quoted.index(words, start) + len(words)


def test_the_constitution_of_2026_as_an_outline() -> None:
    given = read_form(DATA / RELEASED / "claude_constitution_2026-01-20.md").constitution
    assert given.name == "Claude’s Constitution"
    hard = [each for each in given.principles if each.kind == "hard_constraint"]
    assert len(hard) == 7
    assert all(each.text and each.text.startswith("Claude should never: ") for each in hard)
    assert all(each.id.startswith("never-") for each in hard)
    ranked = [(each.rank, each.id, each.kind) for each in given.principles if each.rank]
    assert ranked == [
        (1, "broadly-safe", "priority"),
        (2, "broadly-ethical", "priority"),
        (3, "compliant-with-anthropics-guidelines", "priority"),
        (4, "genuinely-helpful", "priority"),
    ]
    lengths = sorted(len(each.text or "") for each in given.principles)
    assert lengths[0] > 20
    assert lengths[-1] < 400
    assert all("](" not in (each.text or "") for each in given.principles)
    assert parse(given.to_yaml()) == given


def test_the_paper_and_the_recipe_say_the_same_in_two_forms(tmp_path: Path) -> None:
    """What was read from the recipe goes out in the paper's shape, and comes back with the same wordings."""
    recipe = read_form(DATA / RELEASED / "hf_llm_swarm_anthropic.json").constitution
    (tmp_path / "paper.json").write_text(write_form(recipe, "cai").text, encoding="utf-8")
    paper = read_form(tmp_path / "paper.json")
    assert paper.form == "cai"
    assert [(each.id, each.critique, each.revision) for each in paper.constitution.principles] == [
        (each.id, each.critique, each.revision) for each in recipe.principles
    ]
