"""`solon constitution test`: the unit tests of a constitution, as a table, an exit code and a JUnit file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import constitution_app
from solon.cli.screen import console, counted, money, plain

if TYPE_CHECKING:
    from solon.commands.testing import Tested
    from solon.review.cases import Tried


@constitution_app.command("test")
def test(
    target: Annotated[str, typer.Argument(help="A recipe, or a constitution (a file or a shipped name).")],
    model: Annotated[
        str | None, typer.Option(help="Who judges: openai:..., smollm2, ...; default: the recipe's judge.")
    ] = None,
    principle: Annotated[list[str] | None, typer.Option(help="Only this principle's cases; may be repeated.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the results as JUnit XML.", show_default=False)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Unsure is not good enough: exit 1.")] = False,
) -> None:
    """Judge the cases of a constitution: under their own principle and under the whole, in both orders.

    Exit code 1 where a case failed or was not answered (with --strict: or is unsure).
    """
    import asyncio

    from solon.commands.testing import test_constitution

    tested = asyncio.run(test_constitution(target, model=model, principles=principle or ()))
    _print(tested)
    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_bytes(_junit(tested, strict=strict))
    bad = {"fail", "unanswered", *(["unsure"] if strict else [])}
    raise typer.Exit(any(each.outcome in bad for each in tested.tried))


def _print(tested: Tested) -> None:
    from rich.table import Table

    from solon.review.cases import OUTCOMES, tally

    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("principle", overflow="fold")
    for scope in ("own", "whole"):
        for outcome in OUTCOMES:
            table.add_column(f"{scope}\n{outcome}", justify="right")
    counts = tally(tested.tried)
    for principle, scopes in counts.items():
        told = [scopes[scope][outcome] for scope in scopes for outcome in OUTCOMES]
        table.add_row(principle, *(str(count or "·") for count in told))
    out.print(table, soft_wrap=False)
    for each in tested.tried:
        if each.outcome != "pass":
            out.print(f"\n{_where(tested, each)}", style="red" if each.outcome == "fail" else "yellow")
            out.print(f"  prompt  {plain(_one_line(each.case.prompt[-1].content))}")
            out.print(f"  better  {plain(_one_line(each.case.better))}")
            out.print(f"  worse   {plain(_one_line(each.case.worse))}")
    passed = sum(each.outcome == "pass" for each in tested.tried)
    out.print(
        f"\n{passed} of {counted(len(tested.tried), 'judgement')} as the cases say, by {plain(tested.judge)}; "
        f"{counted(tested.asked, 'call')} asked, {tested.known:,} known; {money(tested.dollars)}"
    )


def _where(tested: Tested, each: Tried) -> str:
    """Return e.g. "rules.yaml:14: brief, case 2, under its own principle: fail, P(better) 0.21"."""
    file, line = _place(tested, each)
    told = {"own": "under its own principle", "whole": "under the whole constitution"}[each.scope]
    why = [f"P(better) {each.p:.2f}"] if each.p is not None else []
    why += [each.detail] if each.detail else []
    return plain(f"{file}:{line}: {each.principle}, case {each.number}, {told}: {each.outcome}, {'; '.join(why)}")


def _place(tested: Tested, each: Tried) -> tuple[str, int]:
    ids = [principle.id for principle in tested.resolved.constitution.principles]
    return tested.resolved.place("principles", ids.index(each.principle), "cases", each.number - 1)


def _one_line(text: str, most: int = 100) -> str:
    from solon.complaints import short

    return short(text, most)


def _junit(tested: Tested, *, strict: bool) -> bytes:
    """Return the results as JUnit XML: a suite a principle; fail is a failure, unanswered an error, unsure skipped."""
    import re
    from xml.etree import ElementTree as Xml

    root = Xml.Element("testsuites", name=tested.resolved.constitution.name)
    suites: dict[str, Xml.Element] = {}
    kinds = {"fail": "failure", "unanswered": "error", "unsure": "failure" if strict else "skipped"}
    for each in tested.tried:
        if each.principle not in suites:
            suites[each.principle] = Xml.SubElement(root, "testsuite", name=each.principle)
        file, line = _place(tested, each)
        case = Xml.SubElement(
            suites[each.principle], "testcase", name=f"case {each.number}, {each.scope}",
            classname=each.principle, file=file, line=str(line),
        )  # fmt: skip
        if each.outcome in kinds:
            # XML has no control characters but tab and line ends
            message = re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", _where(tested, each))
            Xml.SubElement(case, kinds[each.outcome], message=message)
    for suite in suites.values():
        suite.set("tests", str(len(suite)))
        for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(name, str(len(suite.findall(f"testcase/{kind}"))))
    Xml.indent(root)
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True))
