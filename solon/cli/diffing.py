"""`solon constitution diff`: what an edit did, principle by principle, and what it means for the rows of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from solon.cli.apps import Reference, constitution_app
from solon.cli.screen import console, counted, plain, styled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from solon.constitution import Principle
    from solon.constitution.diff import Change, Difference, Edit, Piece
    from solon.review.edits import Moved
    from solon.review.sources import Found

__all__ = ["print_edits", "worded"]

CONTEXT = 100
"""Characters of unchanged words shown on either side of a change."""
LONGEST = 2_000
MOST_FLOWS = 5


@constitution_app.command("diff")
def diff(
    a: Reference,
    b: Annotated[
        str | None,
        typer.Argument(help="The same, after the edit; left out, A is a run and B what its recipe names now."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Whose rows to speak of: a recipe or a run folder; default: B or A, where it is one."),
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option(help="json: everything, for machines.")] = "text",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 where there is a difference.")] = False,
) -> None:
    """Say what became of each principle from A to B, and how many rows that moves. Nothing is asked of a model."""
    from solon.constitution.diff import diff
    from solon.errors import BadInput
    from solon.review.edits import moved_between
    from solon.review.sources import constitution_at, constitution_now

    old = constitution_at(a)
    if b is None and old.run is None:
        raise BadInput(f"{a}: is no run folder; name a second constitution to compare it with")
    new = constitution_now(old) if b is None else constitution_at(b)
    among = constitution_at(recipe) if recipe else new if new.recipe else old
    if recipe and not among.recipe:
        raise BadInput(f"--recipe {recipe}: is neither a recipe nor a run folder")
    difference = diff(old.constitution, new.constitution)
    moved = moved_between(old, new, among) if among.recipe and difference else None
    if format == "json":
        _print_json(old, new, difference, moved)
    else:
        _print(old, new, difference, moved, among)
    raise typer.Exit(1 if exit_code and difference else 0)


def _print(old: Found, new: Found, difference: Difference, moved: Moved | None, among: Found) -> None:
    out = console()
    for sign, found in (("-", old), ("+", new)):
        constitution = found.constitution
        count = counted(len(constitution.principles), "principle")
        out.print(f"{sign} {plain(found.name)}: {plain(constitution.name)}, {count}, digest {constitution.digest[:12]}")
    out.print()
    print_edits(difference, out)
    out.print(difference.summary, style="bold")
    if moved is None:
        return
    out.print(f"{moved.told} ({plain(among.name)})", style="bold")
    for step, flows in moved.steps.items():
        told = [f"{plain(was)} -> {plain(now)} {rows:,}" for (was, now), rows in flows.flows.most_common(MOST_FLOWS)]
        told += [f"{plain(id)} reworded {rows:,}" for id, rows in flows.words.most_common(MOST_FLOWS)]
        more = max(len(flows.flows) - MOST_FLOWS, 0) + max(len(flows.words) - MOST_FLOWS, 0)
        if told:
            out.print(f"  {step}: {', '.join(told)}{f', and {more:,} more' if more else ''}")
    if moved.why_unplanned:
        out.print(plain(f"  {moved.why_unplanned}"), style="red")


def print_edits(difference: Difference, out: Console) -> None:
    """Print one block for each principle that was edited, after what stands around them all."""
    everywhere = "stands in every wording: every row meets it"
    for fact in difference.facts:
        _block(out, fact.name, "changed", [_change(fact, out)], [everywhere] if fact.name == "preamble" else [])
    for edit in difference.edits:
        if edit.kinds:
            name = edit.id if edit.old is None or edit.old.id == edit.id else f"{edit.old.id} -> {edit.id}"
            _block(out, name, ", ".join(edit.kinds), list(_lines(edit, out)), list(_notes(edit, everywhere)))


def _block(out: Console, name: str, what: str, lines: Iterable[Text], notes: Iterable[str]) -> None:
    out.print(styled((plain(name), "bold"), f": {what}"))
    for line in lines:
        out.print(styled("    ") + line)
    for note in notes:
        out.print(f"    ({note})", style="dim")
    out.print()


def _lines(edit: Edit, out: Console) -> Iterator[Text]:
    """Yield what changed of one principle, a line each."""
    if edit.old is None or edit.new is None:
        op: Literal["insert", "delete"] = "insert" if edit.new else "delete"
        for name, words in _said(edit.new or edit.old):
            yield _labelled(name, worded([(op, words)], out))
    for change in edit.written:
        feeds = f"  [{', '.join(edit.feeds)}]" if change.name == "text" and edit.feeds else ""
        yield _change(change, out).append(feeds, "dim")
    shown = {change.name for change in edit.written} | set(edit.feeds)
    yield from (_change(change, out) for change in edit.wordings if change.name not in shown)
    yield from (_change(change, out) for change in edit.settings)
    pairs = {where: pair for where, pair in (edit.shares or {}).items() if pair[0] != pair[1]}
    shares = {where: f"{was:.1%} -> {now:.1%} of" for where, (was, now) in pairs.items()}
    if len(shares) == len(_WHERE) and len(set(shares.values())) == 1:
        shares = {"all": shares["judge"]}
    for where, share in shares.items():
        yield _labelled("share", styled(f"{share} the draws{_WHERE.get(where, '')}"))


def _said(principle: Principle | None) -> Iterator[tuple[str, str]]:
    for name in ("text", "critique", "revision", "preference"):
        if words := getattr(principle, name):
            yield name, words


def _notes(edit: Edit, everywhere: str) -> Iterator[str]:
    """Yield what the edit of a principle means beyond its words."""
    old, new = edit.old, edit.new
    hard = [each for each in (old, new) if each and each.kind == "hard_constraint"]
    if hard and set(edit.kinds) - {"with other notes", "with other exemplars", "with another scope", "reweighted"}:
        yield f"a hard constraint {everywhere}"
    if edit.written and not edit.wordings:
        yield "changes no call: critic, reviser and judge are told the same words as before"
    if "renamed" in edit.kinds:
        yield "draws go by id: a renamed principle draws other rows"
    if edit.kinds == ("moved",) and not hard:
        yield "changes no draw and no wording"
    if "with other notes" in edit.kinds:
        yield "notes change no call"
    if "with other exemplars" in edit.kinds:
        yield "exemplars stand in every critique and revision of a base model"
    if new and not new.weight and not hard:
        yield "weight 0: it is never drawn"


def _labelled(name: str, value: Text) -> Text:
    return styled((f"{name:<11}", "cyan")) + value


def _change(change: Change, out: Console) -> Text:
    if isinstance(change.old or change.new, str) and change.name != "kind":
        return _labelled(change.name, worded(change.words, out))
    from solon.constitution.diff import told

    return _labelled(change.name, styled(plain(f"{told(change.old)} -> {told(change.new)}")))


def worded(pieces: Iterable[Piece], out: Console) -> Text:
    """Return a word difference as people read it: red and green, or [-gone-]{+come+} where there are no colours.

    Long stretches are shortened: unchanged ones to what stands around a change.
    """
    marked = out.color_system is None or out.no_color
    text = styled()
    pieces = list(pieces)
    for place, (op, words) in enumerate(pieces):
        if op == "equal":
            text.append(_shortened(words, CONTEXT if place else 0, CONTEXT if place + 1 < len(pieces) else 0))
            continue
        words = _shortened(words, LONGEST, 0)
        before, after, style = _MARKS[op]
        text.append(f"{before}{words}{after}" if marked else words, "" if marked else style)
    return text


def _shortened(words: str, start: int, end: int) -> str:
    """Return the first `start` and the last `end` characters where there are many more, on indented lines."""
    left = len(words) - start - end
    if left > CONTEXT:
        words = f"{words[:start]} [... {left:,} characters ...] {words[len(words) - end :]}"
    return plain(words).replace("\n", "\n" + " " * 15)


_MARKS = {"delete": ("[-", "-]", "red strike"), "insert": ("{+", "+}", "green underline")}
_WHERE = {"rounds": " for critique and revision", "judge": " for the judge"}


def _print_json(old: Found, new: Found, difference: Difference, moved: Moved | None) -> None:
    import json

    def side(found: Found) -> dict[str, str]:
        return {"name": found.name, "constitution": found.constitution.name, "digest": found.constitution.digest}

    page = {
        "old": side(old),
        "new": side(new),
        "different": bool(difference),
        "summary": difference.summary,
        "every_wording": difference.everywhere,
        "worked_examples": difference.worked,
        "constitution": [_change_figures(fact) for fact in difference.facts],
        "principles": [_edit_figures(edit) for edit in difference.edits if edit.kinds],
        "untouched": [edit.id for edit in difference.edits if not edit.kinds],
        "rows": None if moved is None else moved.figures(),
    }
    typer.echo(json.dumps(page, indent=1, ensure_ascii=False))


def _edit_figures(edit: Edit) -> dict[str, Any]:
    def whole(principle: Principle | None) -> dict[str, Any] | None:
        return principle.model_dump(mode="json", exclude_defaults=True) if principle else None

    return {
        "id": edit.id,
        "kinds": list(edit.kinds),
        "old": whole(edit.old),
        "new": whole(edit.new),
        "written": [_change_figures(change) for change in edit.written],
        "wordings": [_change_figures(change) for change in edit.wordings],
        "settings": [_change_figures(change) for change in edit.settings],
        "shares": edit.shares,
    }


def _change_figures(change: Change) -> dict[str, Any]:
    old, new = (_plain(value) for value in (change.old, change.new))
    words = {"words": change.words} if isinstance(change.old or change.new, str) else {}
    return {"name": change.name, "old": old, "new": new, **words}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
