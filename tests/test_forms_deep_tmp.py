"""Constitutions in the forms that others use: recognised, read, written, read back, and what is told of the rest."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from constitution_kit import FLAT_2022
from forms_kit import BULLETS, CHARACTER, FULL, HEADINGS, OPTIONS, PAIRS, PROSE, SWARM, problem, read
from hypothesis import example, given, settings
from hypothesis import strategies as st
from run_kit import Solon

from solon.constitution import ROLES, Constitution, load, parse, shipped
from solon.constitution.forms import FORMS, read_form, write_form
from solon.errors import BadInput

PAGE = Path(__file__).parents[1] / "docs" / "forms.md"

# -- what every form promises --------------------------------------------------------------------------------------

ANY = st.text(min_size=1, max_size=30).filter(str.strip)
VISIBLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30).filter(str.strip)
MARKED = st.text("aB1 #*->`~.)([]{}_\\\n&;:=|<+\t", min_size=1, max_size=30).filter(str.strip)
TURNS = st.one_of(
    ANY, st.tuples(ANY, ANY, ANY).map(lambda said: [{"role": role, "content": words} for role, words in zip(
        ("user", "assistant", "user"), said, strict=True)])
)  # fmt: skip


@st.composite
def constitutions(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Constitution:
    """Return a constitution with any of its fields filled."""
    few, maybe = st.lists(texts, max_size=2), st.none() | texts
    turns = st.one_of(texts, TURNS)
    ids = draw(st.lists(st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,3})?", fullmatch=True), min_size=1, max_size=4,
                        unique=True))  # fmt: skip
    principles = [
        draw(
            st.fixed_dictionaries(
                {"id": st.just(id), "text": texts},
                optional={
                    "critique": texts, "revision": texts, "preference": texts, "rationale": texts,
                    "kind": st.sampled_from(["principle", "priority", "hard_constraint", "trait"]),
                    "weight": st.floats(0, 10), "rank": st.integers(1, 9), "tags": few, "applies_to": few,
                    "exemplars": st.lists(st.fixed_dictionaries(
                        {"prompt": turns, "response": texts, "critique": texts, "revision": texts}), max_size=2),
                    "cases": st.lists(st.fixed_dictionaries({"prompt": turns, "better": texts, "worse": texts}),
                                      max_size=2),
                    "prompts": st.lists(turns, max_size=2),
                },
            )
        )
        for id in ids
    ]  # fmt: skip
    around = {name: draw(maybe) for name in ("version", "description", "licence", "source", "preamble")}
    return Constitution.model_validate({"name": draw(texts), **around, "principles": principles})


def told_to_lose() -> dict[str, set[str]]:
    """Return what docs/forms.md says that each form does not hold."""
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.*?) ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: words for name, words, _ in rows} == FORMS
    return {name: set(re.findall(r"`(\w+)`", lost)) for name, _, lost in rows}


def written(given: Constitution, form: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Return the text and what it loses; no text where nothing of the constitution fits."""
    try:
        done = write_form(given, form)
    except BadInput as problem:
        assert "no principle has what" in str(problem)
        return "", {}
    return done.text, dict(done.lost)


def assert_held(before: Constitution, after: Constitution, form: str, lost: dict[str, tuple[str, ...]]) -> None:
    """Check that `after` is `before` in every field that is not told to be lost, principle by principle."""
    for name in ("version", "description", "licence", "source", "preamble"):
        assert name in lost or getattr(after, name) == getattr(before, name)
    held = [each for each in before.principles if each.id not in lost.get("principle", ())]
    if form == "hf":
        held.sort(key=lambda each: each.weight == 0)  # what is only shown stands behind what is drawn
    for old, new in zip(held, after.principles, strict=True):
        for name in type(old).model_fields:
            if old.id not in lost.get(name, ()):
                value = getattr(old, name)
                made = name in ROLES and not value and getattr(new, name)
                assert getattr(new, name) == (old.own(name) if made else value), name


@pytest.mark.parametrize("form", [name for name in FORMS if name != "system-prompt"])
@settings(max_examples=800, deadline=None)
@given(given=constitutions(st.one_of(ANY, MARKED)))
def test_what_was_written_is_read_again_as_it_was_but_for_what_is_told(
    tmp_path_factory: pytest.TempPathFactory, form: str, given: Constitution
) -> None:
    """The form is told from the content, but where a text may be of several forms."""
    text, lost = written(given, form)
    if text:
        again = read(tmp_path_factory.mktemp("forms"), text, form=form).constitution
        assert_held(given, again, form, lost)
        assert parse(again.to_yaml()) == again


@pytest.mark.parametrize("form", ["cai", "cai-preferences", "hf", "traits", "markdown", "system-prompt"])
@settings(max_examples=800, deadline=None)
@given(given=constitutions(st.one_of(ANY, MARKED)))
def test_no_form_loses_more_than_its_page_says(form: str, given: Constitution) -> None:
    """Whatever stands in the texts: signs of Markdown, control characters, line ends of other systems."""
    assert set(written(given, form)[1]) <= told_to_lose()[form]


@pytest.mark.parametrize("form", ["list", "prose"])
@settings(max_examples=800, deadline=None)
@given(given=constitutions(st.one_of(VISIBLE, MARKED)))
def test_no_plain_text_loses_more_than_its_page_says(form: str, given: Constitution) -> None:
    """Whatever signs of Markdown stand in the texts; control characters no text file holds for certain."""
    assert set(written(given, form)[1]) <= told_to_lose()[form]


def test_the_page_says_what_each_form_loses_of_a_full_constitution() -> None:
    full = parse(FULL)
    assert {form: set(write_form(full, form).lost) for form in FORMS} == told_to_lose()


@settings(max_examples=800, deadline=None)
@given(given=constitutions(st.one_of(ANY, MARKED)))
def test_markdown_loses_nothing_at_all(tmp_path_factory: pytest.TempPathFactory, given: Constitution) -> None:
    text, lost = written(given, "markdown")
    assert lost == {}
    again = read(tmp_path_factory.mktemp("page"), text)
    assert (again.form, again.constitution) == ("markdown", given)


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("form", FORMS)
def test_the_shipped_constitutions_go_out_and_come_back(tmp_path: Path, name: str, form: str) -> None:
    given = load(name)
    text, lost = written(given, form)
    if not text:
        assert all(each.text is None for each in given.principles)
        return
    if form != "system-prompt":
        again = read(tmp_path, text)
        assert again.form == form
        assert_held(given, again.constitution, form, lost)
        assert write_form(again.constitution, form).text == text.replace(
            f"# {given.name}\n", f"# {again.constitution.name}\n"
        )


@pytest.mark.parametrize("form", ["cai", "hf", "traits", "cai-preferences"])
def test_importing_again_gives_the_same_ids(tmp_path: Path, form: str) -> None:
    once = read(tmp_path, write_form(load("first-steps"), form).text).constitution
    twice = read(tmp_path, write_form(once, form).text).constitution
    assert twice == once


# -- which form a file has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form", "count"),
    [
        (PAIRS, "cai", 1),
        (OPTIONS, "cai-preferences", 2),
        (SWARM, "hf", 1),
        (CHARACTER, "traits", 1),
        (BULLETS, "list", 2),
        ("1. Be kind.\n2) Be brief.\n(3) Be true.\n", "list", 3),
        ("Be kind.\nBe brief.\n", "list", 2),
        ("Be kind.", "list", 1),
        (HEADINGS, "prose", 2),
        ("Kindness\n--------\n\nBe kind.\n", "prose", 1),
        ("## Kindness\n- Do not mock.\n- Say thanks.\n", "list", 2),
        ("# House rules\n\nBe kind.\nBe brief.\n", "list", 2),
        (f"{'A long paragraph. ' * 30}\n\nAnother.\n", "prose", 2),
        ("- Be kind.\n- Be brief.\n\nThat is all.\n", "prose", 1),
        ("\ufeff" + BULLETS.replace("\n", "\r\n"), "list", 2),
        ("[Links](#a) may stand first.\n\n# A\n\nBe kind.\n", "prose", 1),
    ],
)
def test_the_form_is_told_from_the_content(tmp_path: Path, text: str, form: str, count: int) -> None:
    name = "given.md" if text.startswith("[Links") else "given.txt"
    done = read(tmp_path, text, name)
    assert (done.form, len(done.constitution.principles)) == (form, count)


def test_a_text_that_may_be_either_asks_for_the_form(tmp_path: Path) -> None:
    text = "Be kind.\n\nBe brief.\n"
    assert problem(tmp_path, text) == "given.txt: may be `list` or `prose`; name the form, `--form list`"
    assert [read(tmp_path, text, form=form).form for form in ("list", "prose")] == ["list", "prose"]


@pytest.mark.parametrize(
    ("text", "form", "told"),
    [
        ("", None, "given.txt: the file is empty"),
        (" \n\n", None, "given.txt: the file is empty"),
        (b"Be kind\n\xff\xfe", None, "given.txt:2: byte 0xff is not UTF-8; give a text file in UTF-8"),
        (b"PK\x03\x04\x00\x00", None, "given.txt: holds NUL bytes, so it is no text file; give one in UTF-8"),
        (b"x" * 5_000_000, None, "given.txt: larger than 1 MB; a constitution holds a few pages"),
        ('{"a": ', None, "given.txt:1: not JSON: Expecting value; check this line, or name the form of a text"),
        ("[" * 100_000, None, "given.txt: nested too deep for a constitution; write it flatter"),
        ('{"a":' * 100_000, "hf", "given.txt: nested too deep for a constitution; write it flatter"),
        ('{"constitutions": [NaN]}', None, "given.txt: NaN is no JSON; remove it"),
        ('{"constitutions": -Infinity}', None, "given.txt: -Infinity is no JSON; remove it"),
        ('{"constitutions": ' + "9" * 10_000 + "}", None, "given.txt: not JSON that can be read: Exceeds the limit"),
        ('{"constitutions": [], "constitutions": []}', None, "the key 'constitutions' is given twice in one object"),
        ('{"rules": ["a"]}', None, "of no form that is read here ($ is an object with 'rules'); name its form"),
        ("[1, 2]", None, "of no form that is read here ($ is a list); name its form, `--form`: cai, cai-"),
        ('{"constitutions": 3}', None, "$.constitutions: expected a list of {critic, revision}, found a number"),
        ('{"constitutions": []}', None, "given.txt: holds no principle"),
        ('{"constitutions": [{"critic": "a"}]}', None, "$.constitutions[0]: 'revision' is missing"),
        ('{"constitutions": [{"critic": "a", "revision": ["b"]}]}', None,
         "$.constitutions[0].revision: expected a text, found a list"),
        ('{"constitutions": [{"critic": " ", "revision": "b"}]}', None,
         "$.constitutions[0].critic: expected a text, found no text"),
        ('{"constitutions": ["a"]}', None, "$.constitutions[0]: expected an object with 'critic', found the text 'a'"),
        (r'{"constitutions": [{"critic": "\ud800", "revision": "b"}]}', None,
         "$.constitutions[0].critic: holds half a character (a lone surrogate); write it whole"),
        ('{"constitutions": [], "system_chat": [[{"role": "judge", "content": "a"}]]}', None,
         "$.system_chat[0][0].role: expected one of system, user, assistant, found the text 'judge'"),
        ('{"constitutions": [], "system_chat": [[{"role": "user"}]]}', None,
         "$.system_chat[0][0]: 'content' is missing"),
        ('[{"trait": ""}]', None, "$[0].trait: expected a text, found no text"),
        ('[{"trait": "I am.", "questions": "Who?"}]', None, "$[0].questions: expected a list of texts, found the text"),
        ('[{"trait": "I am.", "questions": [null]}]', None, "$[0].questions[0]: expected a text, found null"),
        ('[{"trait": "I am."}, true]', None, "$[1]: expected an object with 'trait', found a truth value"),
        ('{"a b": {"prompt": "Is it?", "edit_request": "Do."}}', None,
         '$["a b"].prompt: expected a list of one critique request, found the text'),
        ('{"a": {"prompt": ["1", "2"], "edit_request": "Do."}}', None,
         "$.a.prompt: expected a list of one critique request"),
        ('{"a": {"prompt": ["\\n\\nCritiqueRequest: \\n\\nCritique:"], "edit_request": "Do."}}', None,
         "$.a.prompt[0]: expected words within the markup"),
        ('["Which? Options:", {}]', None, "$[1]: expected a text, found an empty object"),
        (SWARM, "traits", "expected a list of {trait, questions}, found an object with 'constitutions', 'system_chat'; "
         "it looks like `hf`"),
        (SWARM, "list", "given.txt: is JSON, and `list` is a text; it looks like `hf`"),
        (BULLETS, "hf", "given.txt:1: not JSON: Expecting value; check this line, or name the form of a text, "
         "`--form`; it looks like `list`"),
        (BULLETS, "bullets", "unknown form 'bullets'; choose from: cai, cai-preferences, hf, traits, markdown, list"),
        (BULLETS, "Prose", "unknown form 'Prose'; did you mean 'prose'?"),
        (FLAT_2022, None, "is a constitution of Solon's own, to be used as it stands; look at it with `solon check`"),
        ("# Only\n\n## Headings\n", None, "no heading has a text below it, so there is no principle"),
        ("- Be kind.\n", "prose", "no heading and no paragraph; a list needs `--form list`; it looks like `list`"),
        ("```\ncode\n```\n", "prose", "no heading and no paragraph; a list needs `--form list`"),
        ("# Only a heading\n", None, "no heading and no paragraph; a list needs"),
        ("- a\n" * 20_001, None, "given.txt: more than 20,000 lines; a constitution holds a few pages"),
        ("- a\n" * 2_001, None, "given.txt: 2,001 principles; a constitution has 2,000 at most"),
    ],
)  # fmt: skip
def test_an_unusual_file_ends_in_one_line_that_says_where(
    tmp_path: Path, text: str | bytes, form: str | None, told: str
) -> None:
    assert told in problem(tmp_path, text, form=form)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.json: no such file"):
        read_form(tmp_path / "nowhere.json")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        read_form(tmp_path)


@settings(max_examples=800, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.none() | st.sampled_from(list(FORMS)))
@example(b"#", None)
@example(b"# \n1.", "list")
@example(b"<!-- solon constitution -->\n> a", None)
@example(b"[]", "prose")
def test_no_file_does_anything_but_be_read_or_be_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, form: str | None
) -> None:
    path = tmp_path_factory.mktemp("any") / "given.txt"
    path.write_bytes(data)
    try:
        done = read_form(path, form)
    except BadInput as problem:
        assert len(problem.problems) >= 1
    else:
        assert parse(done.constitution.to_yaml()) == done.constitution


# -- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def test_import_writes_yaml_that_check_reads(tmp_path: Path, solon: Solon) -> None:
    (tmp_path / "traits.txt").write_text(CHARACTER)
    to = tmp_path / "mine.yaml"
    told = solon("constitution", "import", tmp_path / "traits.txt", "--to", to)
    assert (told.code, told.out) == (0, "")
    assert told.err.splitlines() == [
        "read as `traits`: 1 principle",
        f"wrote {to}",
        f"next: write `licence` and `source` into it, then: solon check {to}",
    ]
    assert to.read_text().startswith("# read from traits.txt as `traits`\n\nname: traits\n")
    assert load(to) == read_form(tmp_path / "traits.txt").constitution
    assert solon("check", to).code == 0


def test_import_prints_yaml_alone_and_its_notes_aside(tmp_path: Path, solon: Solon) -> None:
    (tmp_path / "prose.md").write_text(PROSE)
    told = solon("constitution", "import", tmp_path / "prose.md")
    assert parse(told.out) == read_form(tmp_path / "prose.md").constitution
    assert "an outline: 10 principles" in told.err


def test_the_form_can_be_named(tmp_path: Path, solon: Solon) -> None:
    (tmp_path / "rules.txt").write_text("Be kind.\n\nBe brief.\n")
    told = solon("constitution", "import", tmp_path / "rules.txt")
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("solon: ")
    assert "read as `list`" in solon("constitution", "import", tmp_path / "rules.txt", "--form", "list").err


def test_export_says_what_the_form_does_not_hold(tmp_path: Path, solon: Solon) -> None:
    (tmp_path / "full.yaml").write_text(FULL)
    to = tmp_path / "full.json"
    told = solon("constitution", "export", tmp_path / "full.yaml", "--form", "traits", "--to", to)
    assert (told.code, told.out) == (0, "")
    assert told.err.splitlines() == [
        "`traits` leaves out 2 principles: own-words, own-words-again",
        "`traits` does not hold name, version, description, licence, source, preamble",
        "`traits` does not hold id (4 principles), critique (1 principle), revision (1 principle), preference "
        "(1 principle), weight (2 principles), tags (1 principle), applies_to (1 principle), rank (1 principle), kind "
        "(3 principles), rationale (1 principle), exemplars (1 principle), cases (1 principle), prompts (1 principle)",
        f"wrote {to}",
    ]
    assert to.read_text() == write_form(load(tmp_path / "full.yaml"), "traits").text


def test_export_prints_the_file_byte_for_byte(solon: Solon) -> None:
    told = solon("constitution", "export", "counsel", "--form", "markdown")
    assert told.out == write_form(load("counsel"), "markdown").text
    assert told.err == ""


def test_a_terminal_is_shown_no_sequence_that_it_would_obey(
    tmp_path: Path, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "red.yaml").write_text('name: red\nprinciples: [{id: red, text: "Be \\e[31mred."}]\n')
    arguments = ("constitution", "export", tmp_path / "red.yaml", "--form", "list")
    assert solon(*arguments).out == "1. Be \x1b[31mred.\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert solon(*arguments).out == "1. Be \u241b[31mred.\n"


def test_neither_command_writes_over_a_file(tmp_path: Path, solon: Solon) -> None:
    there = tmp_path / "there"
    there.write_text("- Be kind.\n")
    for arguments in (["import", there], ["export", "counsel", "--form", "list"]):
        told = solon("constitution", *arguments, "--to", there)
        assert told.code == 2
        assert told.err == f"solon: {there}: is there already; move it away, or give another name\n"
    assert there.read_text() == "- Be kind.\n"


def test_help_names_every_form(solon: Solon) -> None:
    for command in ("import", "export"):
        told = re.sub(r"-\s+", "-", solon("constitution", command, "--help").out)
        (named,) = re.findall(r"Forms: ([^.]*)\.", told)
        assert named.replace("\n", " ").split(", ") == list(FORMS)
