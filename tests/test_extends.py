"""Constitutions that extend others: what they become, where each part stands, and how it is shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from extends_kit import BASE, Install, Write, installer, mine, problems, writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError
from typer.testing import CliRunner

from solon import yamls
from solon.cli import app
from solon.constitution import Constitution, Principle, Resolved, load, parse, resolve
from solon.constitution.inherit import show
from solon.constitution.load import installed
from solon.constitution.pages import ConstitutionPage, Override
from solon.errors import BadInput


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    return writer(tmp_path, monkeypatch)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    return installer(tmp_path / "site", monkeypatch)


# What a page becomes


def test_extending_without_changes_moves_no_draw_and_no_word(write: Write) -> None:
    child, parent = mine("extends: cai-2022\n").constitution, load("cai-2022")
    assert child.digest == parent.digest
    assert child.principles == parent.principles
    assert child.name == "mine"
    assert child.version is child.description is None
    assert (child.licence, child.source) == (parent.licence, parent.source)


def test_a_new_weight_moves_no_wording(write: Write) -> None:
    before, after = load("base.yaml"), mine("extends: base.yaml\noverride: {harmless: {weight: 3}}\n").constitution
    assert after.principle("harmless").weight == 3
    for each in before.principles:
        assert after.wording_digest(after.principle(each.id)) == before.wording_digest(each)
    assert after.digest != before.digest


def test_inherited_principles_come_first_overridden_where_they_stand() -> None:
    text = """\
name: mine
extends: cai-2022
override:
  empathy: {text: Stay within the law., critique: null}
principles:
  - id: plain
    text: Be plain.
"""
    parent, child = load("cai-2022"), parse(text)
    assert [each.id for each in child.principles] == [*(each.id for each in parent.principles), "plain"]
    assert child.principle("empathy").text == "Stay within the law."
    assert child.principle("empathy").critique is None
    assert child.principle("empathy").revision == parent.principle("empathy").revision


def test_null_takes_a_field_away_so_that_its_default_holds(write: Write) -> None:
    changed = mine("extends: base.yaml\noverride:\n  harmless: {tags: null, cases: null, weight: null}\n").constitution
    assert changed.principle("harmless") == Principle(id="harmless", text="Do no harm.")


def test_without_and_only_take_a_part(write: Write) -> None:
    assert _ids(mine("extends: {use: base.yaml, without: [honest]}\n")) == ["harmless", "never-dose"]
    assert _ids(mine("extends: {use: base.yaml, only: [never-dose, honest]}\n")) == ["honest", "never-dose"]
    assert _ids(mine("extends: [{use: base.yaml, only: [honest]}, {use: base.yaml, only: [harmless]}]\n")) == [
        "honest",
        "harmless",
    ]


def test_what_is_left_out_may_be_written_anew(write: Write) -> None:
    new = "principles: [{id: honest, text: Do not lie.}]\n"
    child = mine(f"extends: {{use: base.yaml, without: [honest]}}\n{new}").constitution
    assert child.principle("honest").text == "Do not lie."


def test_what_two_parents_say_alike_falls_together(write: Write) -> None:
    write(left="name: l\nextends: base.yaml\n", right="name: r\nextends: base.yaml\nlicence: CC0\n")
    child = mine("extends: [left.yaml, right.yaml, {use: base.yaml}]\n")
    assert _ids(child) == ["harmless", "honest", "never-dose"]
    assert child.constitution.preamble == "Be good."
    assert child.constitution.licence == "MIT; CC0"
    assert child.constitution.source == "a book"


def test_joined_licences_are_not_repeated(write: Write) -> None:
    write(both="name: b\nlicence: CC0; MIT\nextends: base.yaml\n")
    assert mine("extends: [base.yaml, both.yaml]\n").constitution.licence == "MIT; CC0"
    assert mine("extends: [base.yaml, both.yaml]\nlicence: Apache-2.0\n").constitution.licence == "Apache-2.0"


@pytest.mark.parametrize(("own", "kept"), [("", "Be good."), ("preamble: null\n", None), ("preamble: Hm.\n", "Hm.")])
def test_a_preamble_is_inherited_unless_the_page_has_one(write: Write, own: str, kept: str | None) -> None:
    assert mine(f"extends: base.yaml\n{own}").constitution.preamble == kept


def test_an_empty_list_extends_nothing(write: Write) -> None:
    assert _ids(mine("extends: []\nprinciples: [{id: a, text: A.}]\n")) == ["a"]


def test_what_a_run_keeps_is_complete_in_itself(write: Write) -> None:
    child = mine("extends: [base.yaml, first-steps]\npreamble: x\noverride: {honest: {weight: 2}}\n").constitution
    kept = child.to_yaml()
    assert "extends" not in kept
    assert "override" not in kept
    assert parse(kept) == child
    assert parse(kept).digest == child.digest


def test_paths_start_at_the_file_in_which_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "deep" / "middle.yaml").write_text("name: m\nextends: ../base.yaml\n")
    (tmp_path / "deep" / "er" / "cai-2022").write_text("name: c\nextends: {use: ../middle.yaml, only: [honest]}\n")
    (tmp_path / "top.yaml").write_text("name: t\nextends: ./deep/er/cai-2022\n")
    found = resolve("top.yaml", tmp_path)
    assert _ids(found) == ["honest"]
    assert [file.name for file in found.files] == ["top.yaml", "cai-2022", "middle.yaml", "base.yaml"]
    assert parse("name: x\nextends: top.yaml\n", base=tmp_path).digest == found.constitution.digest


def _ids(resolved: Resolved) -> list[str]:
    return [each.id for each in resolved.constitution.principles]


TEXTS = st.sampled_from(["Say A.", "Say B: or not.", "x" * 130, "a  b " * 30 + "c", "'\"#- |", "é\u202e\u2028.", "no"])
FIELDS = st.fixed_dictionaries(
    {"text": TEXTS},
    optional={
        "critique": TEXTS,
        "weight": st.floats(0, 9),
        "tags": st.lists(TEXTS, max_size=2),
        "rank": st.integers(1, 3),
        "cases": st.just([{"prompt": "p", "better": "b", "worse": "w"}]),
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FIELDS, min_size=1, max_size=4), st.lists(FIELDS, max_size=2), st.data())
def test_a_page_is_what_a_hand_would_merge(
    tmp_path: Path, theirs: list[dict[str, Any]], own: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Also: what is shown, comments and all, is the same constitution again."""
    parent = {"name": "p", "principles": [{"id": f"p{n}", **each} for n, each in enumerate(theirs)]}
    ids = [each["id"] for each in parent["principles"]]
    without = data.draw(st.lists(st.sampled_from(ids), unique=True))
    kept = [id for id in ids if id not in without]
    override = {id: data.draw(FIELDS) for id in kept if data.draw(st.booleans())}
    added = [{"id": f"o{n}", **each} for n, each in enumerate(own)]
    (tmp_path / "parent.yaml").write_text(yamls.dump(parent), encoding="utf-8")
    use = {"use": "./parent.yaml", **({"without": without} if without else {})}
    child = {"name": "c", "extends": use, "override": override, "principles": added}
    (tmp_path / "child.yaml").write_text(yamls.dump(child), encoding="utf-8")
    merged = [{**each, **override.get(each["id"], {})} for each in parent["principles"] if each["id"] in kept]
    if not merged + added:
        with pytest.raises(BadInput, match="no principle is left"):
            resolve("child.yaml", tmp_path)
        return
    found = resolve("child.yaml", tmp_path)
    assert found.constitution == Constitution.model_validate({"name": "c", "principles": merged + added})
    shown = show(found)
    assert parse("\n".join(line + (f"  # {place[0]}:{place[1]}" if place else "") for line, place in shown)) == (
        found.constitution
    )
    for number, each in enumerate(found.constitution.principles):
        file, line = found.place("principles", number, "text")
        written = Path(file).read_text(encoding="utf-8").split("\n")[line - 1]
        assert "text:" in written
        assert Path(file).name == ("parent.yaml" if each.id in kept and each.id not in override else "child.yaml")


# Where each part stands


def test_places_point_to_where_each_value_was_written(write: Write) -> None:
    found = mine("""\
description: Mine.
extends: [base.yaml, {use: cai-2022, only: [empathy]}]
preamble: Mine.
override:
  harmless:
    weight: 2
    tags: [a, b]
    cases: null
principles:
  - id: own
    text: Mine.
""")
    assert found.place() == ("mine.yaml", 1)
    assert found.place("description") == ("mine.yaml", 2)
    assert found.place("preamble") == ("mine.yaml", 4)
    assert found.place("licence") == ("base.yaml", 2)
    assert found.place("principles") == ("mine.yaml", 10)
    assert found.place("principles", 0) == ("base.yaml", 6)
    assert found.place("principles", 0, "text") == ("base.yaml", 7)
    assert found.place("principles", 0, "weight") == ("mine.yaml", 7)
    assert found.place("principles", 0, "tags", 1) == ("mine.yaml", 8)
    assert ("principles", 0, "cases") not in found.places
    assert found.place("principles", 1, "id") == ("base.yaml", 11)
    assert found.place("principles", 3, "critique")[0] == "cai-2022.yaml"
    assert found.place("principles", 4, "text") == ("mine.yaml", 12)
    assert not [loc for loc in found.places if loc[:1] in (("extends",), ("override",))]
    assert found.document.name == "mine.yaml"


def test_overrides_of_overrides_point_to_the_last(write: Write) -> None:
    write(middle="name: m\nextends: base.yaml\noverride:\n  honest:\n    text: M.\n    weight: 2\n")
    found = mine("extends: middle.yaml\noverride:\n  honest: {weight: 3}\n")
    assert found.place("principles", 1, "text") == ("middle.yaml", 5)
    assert found.place("principles", 1, "weight") == ("mine.yaml", 4)
    assert found.place("principles") == ("mine.yaml", 2)


class Revision:
    """Files as they were, by path."""

    def __init__(self, **pages: str) -> None:
        self.pages = pages

    def read(self, path: Path) -> yamls.Document:
        if path.name not in self.pages:
            raise BadInput(f"v1:{path}: no such file in this revision")
        return yamls.decode(self.pages[path.name].encode(), f"v1:{path}")


def test_another_reader_reads_a_page_and_what_it_extends(tmp_path: Path) -> None:
    """A git revision, for example; shipped constitutions are still those that are shipped."""
    reader = Revision(**{"mine.yaml": "name: m\nextends: [base.yaml, first-steps]\npreamble: x\n", "base.yaml": BASE})
    found = resolve("mine.yaml", Path("folder"), reader)
    assert found.place("principles", 0) == ("v1:folder/base.yaml", 6)
    assert found.place("principles", 3)[0] == "first-steps.yaml"
    assert found.files == (Path("folder/mine.yaml"), Path("folder/base.yaml"))
    with pytest.raises(BadInput) as caught:
        resolve("mine.yaml", None, Revision(**{"mine.yaml": "name: m\nextends: base.yaml\n"}))
    assert str(caught.value) == "v1:mine.yaml:2: extends 'base.yaml': v1:base.yaml: no such file in this revision"


# Installed packages


def test_an_installed_package_offers_constitutions_by_name(write: Write, package: Install) -> None:
    package(
        {"house": "house_rules:house.yaml", "deep": "house_rules.more:deep.yaml"},
        {
            "__init__.py": "",
            "house.yaml": "name: House\nextends: ./more/deep.yaml\nprinciples: [{id: tidy, text: Be tidy.}]\n",
            "more/deep.yaml": "name: Deep\nextends: ['cai-2022']\n",
        },
    )
    assert installed() == ["deep", "house"]
    found = mine("extends: house\n")
    assert _ids(found) == [*(each.id for each in load("cai-2022").principles), "tidy"]
    assert found.place("principles", 16) == ("house_rules/house.yaml", 3)
    assert found.place("principles", 0)[0] == "cai-2022.yaml"
    assert len(load("deep").principles) == 16
    with pytest.raises(BadInput) as caught:
        load("hous")
    assert str(caught.value) == (
        "no constitution 'hous' is shipped or installed; did you mean 'house'? (or write the path of a YAML file)"
    )
    with pytest.raises(BadInput, match="choose from: cai-2022, counsel, first-steps, deep, house"):
        load("zzz")


def test_a_name_that_several_packages_offer_is_nobodys(write: Write, package: Install) -> None:
    package({"counsel": "a_rules:x.yaml", "other": "a_rules:x.yaml"}, {"__init__.py": "", "x.yaml": BASE}, "a_rules")
    package({"other": "b_rules:x.yaml"}, {"__init__.py": "", "x.yaml": BASE}, "b_rules")
    with pytest.raises(BadInput) as caught:
        load("counsel")
    assert str(caught.value) == (
        "the name 'counsel' is offered by several packages, Solon, a_rules; uninstall one, or copy the file that you "
        "mean, and write the path of the copy"
    )
    assert len(problems("extends: other\n")) == 1
    assert "offered by several packages, a_rules, b_rules;" in problems("extends: other\n")[0]


# The page


def takes(kind: type[BaseModel], value: dict[str, Any]) -> bool:
    try:
        kind.model_validate(value)
    except ValidationError:
        return False
    return True


def test_a_page_knows_every_key_of_a_constitution() -> None:
    assert set(ConstitutionPage.model_fields) == {*Constitution.model_fields, "extends", "override"}


@pytest.mark.parametrize("key", [name for name in Principle.model_fields if name != "id"])
def test_an_override_takes_what_a_principle_takes_and_null(key: str) -> None:
    turns = [{"role": "user", "content": "x"}]
    pair = {"prompt": "p", "better": "b", "worse": "w"}
    shown = {"prompt": turns, "response": "r", "critique": "c", "revision": "v"}
    values = ["", " ", "x", "trait", 0, 2, -1, 0.5, float("inf"), True, [], ["a"], [""], {}, [pair], [shown], [turns]]
    taken = [takes(Override, {key: value}) for value in values]
    assert taken == [takes(Principle, {"id": "p", "text": "t", "critique": "c", key: value}) for value in values]
    assert {*taken} == {True, False}
    assert takes(Override, {key: None})
    assert not takes(Override, {"id": "p"})


@pytest.mark.parametrize(
    ("page", "fits"),
    [
        ("extends: cai-2022", True),
        ("extends: {use: a, only: [b]}\noverride: {a: {weight: 2, tags: null}}", True),
        ("extends: [a, {use: ./b.yaml, without: [c]}]\nprinciples: [{id: a, text: b}]", True),
        ("principles: [{id: a, text: b}]", True),
        ("override: {}", False),
        ("extends: {use: a, only: [b], without: [c]}", False),
        ("extends: {only: [b]}", False),
        ("extends: 3", False),
        ("extends: a\noverride: {a: {wieght: 2}}", False),
    ],
)
def test_the_schema_of_a_page_marks_what_is_refused(page: str, fits: bool) -> None:
    tree = yamls.parse(f"name: x\n{page}\n", "page").value
    assert Draft202012Validator(ConstitutionPage.model_json_schema()).is_valid(tree) == fits


# `solon constitution show`


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["constitution", "show", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_show_tells_where_each_line_was_written(write: Write) -> None:
    mine("extends: {use: base.yaml, without: [never-dose]}\noverride:\n  honest: {weight: 2}\n")
    assert shown("mine.yaml").splitlines() == [
        "name: mine               # mine.yaml:1",
        "licence: MIT             # base.yaml:2",
        "source: a book           # base.yaml:3",
        "preamble: Be good.       # base.yaml:4",
        "principles:              # mine.yaml:2",
        "- id: harmless           # base.yaml:6",
        "  text: Do no harm.      # base.yaml:7",
        "  tags:                  # base.yaml:8",
        "  - harm                 # base.yaml:8",
        "  cases:                 # base.yaml:9",
        "  - prompt: Hello?       # base.yaml:10",
        "    better: Hello.       # base.yaml:10",
        "    worse: Go away.      # base.yaml:10",
        "- id: honest             # base.yaml:11",
        "  text: Say what is so.  # base.yaml:12",
        "  weight: 2.0            # mine.yaml:4",
    ]


@pytest.mark.parametrize("name", ["cai-2022", "counsel", "first-steps"])
def test_what_is_shown_is_the_same_constitution_again(name: str) -> None:
    known = load(name)
    assert parse(shown(name)) == known
    assert parse(shown(name, "--plain")) == known
    assert "#" in shown(name)
    assert f"{name}.yaml:" not in shown(name, "--plain")


def test_signs_that_would_mislead_a_reader_are_shown_as_escapes(write: Write) -> None:
    mine("principles: [{id: a, text: 'safe \u202e elbbab', rationale: \"bell \\a\"}]\n")
    for arguments in (("mine.yaml",), ("mine.yaml", "--plain")):
        out = shown(*arguments)
        assert r'text: "safe \u202e elbbab"' in out
        assert "\a" not in out
        assert parse(out) == load("mine.yaml")


def test_a_files_name_cannot_break_out_of_its_comment(write: Write) -> None:
    odd = Path("odd\nname: evil #\u2028.yaml")
    odd.write_text("name: odd\nprinciples: [{id: a, text: b}]\n")
    assert parse(shown(str(odd))) == load(odd)


def test_show_takes_a_recipe_and_a_run_folder_too(write: Write) -> None:
    Path("deep").mkdir()
    Path("deep/recipe.yaml").write_text("constitution: ../base.yaml\nprompts: p\nmodel: smollm2\nstory: revision\n")
    assert parse(shown("deep/recipe.yaml", "--plain")) == load("base.yaml")
    assert parse(shown("deep", "--plain")) == load("base.yaml")
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/run.json").write_text(json.dumps({"recipe": "x", "plan": "p", "cast": {}, "ledger": "."}))
    Path("runs/x/constitution.yaml").write_text(BASE.replace("Base", "Kept"))
    shutil.copy("deep/recipe.yaml", "runs/x/recipe.yaml")
    assert "name: Kept " in shown("runs/x")
    assert "runs/x/constitution.yaml:1" in shown("runs/x/constitution.yaml") == shown("runs/x/recipe.yaml")


@pytest.mark.parametrize(
    ("ref", "text", "told"),
    [
        ("gone.yaml", None, "gone.yaml: no such file"),
        ("counsle", None, "no constitution 'counsle' is shipped; did you mean 'counsel'?"),
        ("empty.yaml", "", "empty.yaml:1: the file is empty"),
        ("r.yaml", "prompts: p.jsonl\nmodel: smollm2\nstory: revision\n", "r.yaml:1: 'constitution' is missing"),
        (
            "r.yaml",
            "constitution: gone\nprompts: p\nmodel: smollm2\nstory: revision\n",
            "no constitution 'gone' is shipped",
        ),
        (".", None, ".: is a folder; name the YAML file in it"),
    ],
)
def test_what_cannot_be_shown_is_told(write: Write, ref: str, text: str | None, told: str) -> None:
    if text is not None:
        Path(ref).write_text(text)
    with pytest.raises(BadInput) as caught:
        CliRunner().invoke(app, ["constitution", "show", ref], catch_exceptions=False)
    assert str(caught.value).startswith(told)
