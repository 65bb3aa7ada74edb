"""Constitutions that extend others: every mistake with its line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from extends_kit import Install, Write, installer, mine, problems, writer

from solon.constitution import load, resolve
from solon.errors import BadInput


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    return writer(tmp_path, monkeypatch)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    return installer(tmp_path / "site", monkeypatch)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends: bse.yaml\n", "2: extends 'bse.yaml': bse.yaml: no such file; did you mean base.yaml?"),
        ("extends: cai-2023\n", "2: extends 'cai-2023': no constitution 'cai-2023' is shipped; did you mean "
         "'cai-2022'? (or write the path of a YAML file)"),
        ("extends: '~nobody-of-this-name/x.yaml'\n", "2: extends '~nobody-of-this-name/x.yaml': "
         "~nobody-of-this-name/x.yaml: Could not determine home directory; write the folder's name"),
        ("extends: \"a\\nb.yaml\"\n", "2: extends 'a b.yaml': 'a b.yaml' is no name and no path; write it in one "
         "line of letters and usual signs"),
        ("extends: ./\n", "2: extends './': .: is a folder; name the YAML file in it"),
        ("extends: mine.yaml\n", "2: extends 'mine.yaml': the files extend each other in a circle, "
         "mine.yaml -> mine.yaml; take one `extends` out"),
        ("extends:\n", "2: 'extends': expected a text or a mapping (`key: value` lines) or a list, found "
         "nothing"),
        ("extends: 3\n", "2: 'extends': expected a text or a mapping (`key: value` lines) or a list, found the "
         'number 3; put it in quotes: "3"'),
        ("extends: ''\n", "2: extends '': '' is no name and no path; write it in one line of letters and usual signs"),
        ("extends: [base.yaml, {use: ' '}]\n",
         "2: extends '': '' is no name and no path; write it in one line of letters and usual signs"),
        ("extends: base\n", "2: extends 'base': no constitution 'base' is shipped; did you mean 'base.yaml'?"),
        ("extends: []\n", "2: no principle is left; extend a constitution, take fewer out, or add "
         "`principles: ...`"),
        ("extends: {use: base.yaml, without: [harmless, honest, never-dose]}\n", "2: no principle is left; "
         "extend a constitution, take fewer out, or add `principles: ...`"),
        ("extends: {without: [honest]}\n", "2: 'use' is missing in 'extends'; add `use: ...`"),
        ("extends: {use: base.yaml, wihtout: [honest]}\n",
         "2: unknown key 'wihtout' in 'extends'; did you mean 'without'?"),
        ("extends:\n- use: base.yaml\n  onyl: [honest]\n",
         "4: unknown key 'onyl' in item 1 of 'extends'; did you mean 'only'?"),
        ("extends: {use: base.yaml, without: honest}\n", "2: 'without' in 'extends': expected a list, found the "
         "text 'honest'; write it as a list: [honest]"),
        ("extends: {use: base.yaml, only: []}\n", "2: 'only' in 'extends' must not be empty"),
        ("extends:\n  use: base.yaml\n  without: [honest]\n  only: [harmless]\n",
         "5: both `without` and `only` are given for 'base.yaml'; keep one"),
        ("extends:\n  use: base.yaml\n  without:\n  - honest\n  - harmles\n",
         "6: 'base.yaml' has no principle 'harmles'; did you mean 'harmless'?"),
        ("extends:\n- use: base.yaml\n  only: [zzz, honest]\n", "4: 'base.yaml' has no principle 'zzz'; choose "
         "from: harmless, honest, never-dose"),
        ("extend: base.yaml\n", "2: unknown key 'extend'; did you mean 'extends'?"),
        ("extends: base.yaml\noveride: {}\n", "3: unknown key 'overide'; did you mean 'override'?"),
        ("extends: base.yaml\nprinciples: [{id: harmless, text: x}]\n", "3: principle 'harmless' is inherited "
         "from base.yaml:6; change it under `override`, or leave the inherited one out by `without: [harmless]`"),
        ("extends: base.yaml\noverride: [honest]\n",
         "3: 'override': expected a mapping (`key: value` lines), found a list"),
        ("extends: base.yaml\noverride:\n  honest: Be honest.\n", "4: 'honest' in 'override': expected a "
         "mapping (`key: value` lines), found the text 'Be honest.'"),
        ("extends: base.yaml\noverride:\n  honest:\n", "4: 'honest' in 'override': expected a mapping (`key: "
         "value` lines), found nothing"),
        ("extends: base.yaml\noverride:\n  honset: {weight: 2}\n", "4: override of 'honset': no such principle "
         "is inherited; did you mean 'honest'?"),
        ("extends: {use: base.yaml, without: [honest]}\noverride:\n  honest: {weight: 2}\n", "4: override of "
         "'honest': the principle is left out of 'base.yaml'; let it in, or remove the override"),
        ("extends: base.yaml\noverride:\n  own: {weight: 2}\nprinciples: [{id: own, text: x}]\n", "4: override "
         "of 'own': the principle is this file's own; change it where it stands"),
        ("override:\n  own: {weight: 2}\nprinciples: [{id: a, text: x}]\n", "3: override of 'own': nothing is "
         "inherited; add `extends: ...`, or remove the override"),
        ("extends: base.yaml\noverride:\n  honest:\n    wieght: 2\n",
         "5: unknown key 'wieght' in 'honest' in 'override'; did you mean 'weight'?"),
        ("extends: base.yaml\noverride:\n  honest: {weight: -2}\n",
         "4: 'weight' in 'honest' in 'override' must be at least 0, found the number -2"),
        ("extends: base.yaml\noverride:\n  honest: {weight: '2'}\n",
         "4: 'weight' in 'honest' in 'override': expected a number, found the text '2'"),
        ("extends: base.yaml\noverride:\n  honest:\n    text: null\n", "4: override of 'honest': says nothing; "
         "add `text: ...`, or at least one of critique, revision, preference"),
        ("extends: base.yaml\noverride:\n  never-dose: {text: null, critique: x}\n", "4: override of "
         "'never-dose': a hard constraint needs `text`: it stands in every wording; add `text: ...`"),
        ("extends: base.yaml\nextends: cai-2022\n", "3: key 'extends' is given twice (first on line 2); keep "
         "one"),
        ("extends: [base.yaml, cai-2022]\n", "2: what is extended has different preambles (base.yaml:4, none in "
         "cai-2022.yaml); write the one that holds here, `preamble: ...`, or `preamble: null` for none"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_remedy(write: Write, text: str, told: str) -> None:
    assert problems(text) == [f"mine.yaml:{told}"]


def test_a_recipe_in_place_of_a_constitution_is_one_mistake(write: Write) -> None:
    Path("recipe.yaml").write_text("constitution: base.yaml\nprompts: p\nmodel: smollm2\nstory: revision\n")
    told = "recipe.yaml: is a recipe, no constitution; name the one that it names, 'base.yaml'"
    assert problems("extends: recipe.yaml\n") == [f"mine.yaml:2: extends 'recipe.yaml': {told}"]
    with pytest.raises(BadInput) as caught:
        load("recipe.yaml")
    assert caught.value.problems == (told,)


def test_the_name_is_never_inherited(write: Write) -> None:
    Path("mine.yaml").write_text("extends: base.yaml\n")
    with pytest.raises(BadInput, match=r"^mine\.yaml:1: 'name' is missing; add `name: \.\.\.`$"):
        resolve("mine.yaml")


def test_two_parents_that_differ_under_one_id_are_told_together(write: Write) -> None:
    other = "name: o\npreamble: Be good.\nprinciples:\n- {id: honest, text: x}\n- {id: new, text: y}\n- "
    write(other=other + "{id: harmless, text: z}\n")
    text = "extends:\n- base.yaml\n- other.yaml\n"
    assert problems(text) == [
        "mine.yaml:4: 'other.yaml' says something else than what is extended before it under 'honest' (base.yaml:11, "
        "other.yaml:4), 'harmless' (base.yaml:6, other.yaml:6); leave these out here or there by `without: [...]`, or "
        "give them another id"
    ]
    child = mine("extends: [base.yaml, {use: other.yaml, without: [honest, harmless]}]\n").constitution
    assert child.principle("new").text == "y"


def test_a_circle_is_told_with_every_file_on_it(write: Write) -> None:
    write(a="name: a\nextends: ./b.yaml\n", b="name: b\nlicence: x\nextends: [first-steps, c.yaml]\n")
    way = f"../{Path.cwd().name}/b.yaml"
    write(c=f"name: c\nextends: {way}\n")
    assert problems("extends: a.yaml\n") == [
        f"c.yaml:2: extends {way!r}: the files extend each other in a circle, b.yaml -> c.yaml -> b.yaml; take one "
        "`extends` out"
    ]


def test_mistakes_of_the_parents_are_told_with_their_lines_along_with_the_pages_own(write: Write) -> None:
    write(wrong="name: w\nprinciples:\n- id: Not An Id\n  text: x\n- id: b\n", broken='name: "\n')
    write(middle="name: m\nextends: [wrong.yaml, deep/gone.yaml]\n")
    text = "extends: [middle.yaml, wrong.yaml, broken.yaml, base.yaml]\noverride: {what: {weight: x}}\nnmae: y\n"
    assert problems(text) == [
        "wrong.yaml:3: 'id' in principle 'Not An Id': 'Not An Id' is no id; use small letters and digits, joined by "
        "'-', '_' or '.', for example 'not-an-id'",
        "wrong.yaml:5: principle 'b': says nothing; add `text: ...`, or at least one of critique, revision, preference",
        "middle.yaml:2: extends 'deep/gone.yaml': deep/gone.yaml: no such file; the folder deep cannot be read either",
        "broken.yaml:1: the quote that opens here is never closed; close it",
        "mine.yaml:3: 'weight' in 'what' in 'override': expected a number, found the text 'x'",
        "mine.yaml:4: unknown key 'nmae'; did you mean 'name'?",
    ]


def test_twenty_files_may_extend_each_other_and_no_more(write: Write) -> None:
    write(
        **{f"f{n}": f"name: f{n}\nextends: f{n + 1}.yaml\n" for n in range(1, 20)},
        f20="name: last\nextends: base.yaml\n",
    )
    assert len(load("f2.yaml").principles) == 3
    assert problems("extends: f1.yaml\n") == [
        "f20.yaml:2: extends 'base.yaml': extended through more than 20 files; write it flatter"
    ]


def test_many_ways_to_one_file_cost_no_more_than_one(write: Write) -> None:
    """Nineteen files that each extend the next one a hundred times: every file is read once."""
    write(**{f"f{n}": f"name: f{n}\nextends: [{', '.join([f'f{n + 1}.yaml'] * 100)}]\n" for n in range(1, 19)})
    write(f19="name: last\nextends: base.yaml\n")
    found = resolve("f1.yaml")
    assert len(found.constitution.principles) == 3
    assert len(found.files) == 20
    assert problems(f"extends: [{', '.join(['base.yaml'] * 101)}]\n") == [
        "mine.yaml:2: more than 100 are extended; extend fewer"
    ]


def test_many_names_that_are_not_there_are_told_at_once(write: Write) -> None:
    """Near names are sought for the first of them only: a file can hold a hundred thousand."""
    lines = "".join(f"  no{n}: {{}}\n" for n in range(3000))
    told = problems(f"extends: counsel\noverride:\n{lines}")
    assert len(told) == 3000
    assert told[-1].endswith("no such principle is inherited; look its id up there, or remove this one")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("broken_rules:gone.yaml", "the package 'broken_rules' has no readable file 'gone.yaml': No such file"),
        ("broken_rules", "the entry point 'x' of 'solon.constitutions' is 'broken_rules'; expected 'package:file"),
        ("nowhere_rules:x.yaml", "the package 'nowhere_rules' cannot be imported: No module named 'nowhere_rules'"),
        ("broken_rules.bad:x.yaml", "the package 'broken_rules.bad' cannot be imported: not today; reinstall it"),
        ("broken_rules:out.yaml", "broken_rules/out.yaml:2: extends '../x.yaml': '../x.yaml' leads out of the package"),
        ("broken_rules:wrong.yaml", "broken_rules/wrong.yaml:1: unknown key 'nmae'; did you mean 'name'?"),
    ],
)  # fmt: skip
def test_a_package_that_is_broken_is_told(write: Write, package: Install, value: str, told: str) -> None:
    files = {
        "__init__.py": "",
        "bad/__init__.py": "raise RuntimeError('not today')",
        "out.yaml": "name: o\nextends: ../x.yaml\n",
        "wrong.yaml": "nmae: w\nprinciples: [{id: a, text: b}]\n",
    }
    package({"x": value}, files, "broken_rules")
    with pytest.raises(BadInput) as caught:
        load("x")
    assert str(caught.value).startswith(told)
    line = problems("extends: x\n")[0]
    assert line.startswith(told if ".yaml:" in told else f"mine.yaml:2: extends 'x': {told}")
