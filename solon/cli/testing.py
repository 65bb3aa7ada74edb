"""`solon constitution test`: the unit tests of a constitution, as a table, an exit code and a JUnit file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solon.cli.apps import constitution_app
from solon.cli.screen import columns, console, counted, plain, spending

if TYPE_CHECKING:
    from collections import Counter

    from solon.commands.testing import Tested
    from solon.review.cases import Outcome, Tried


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

    if junit is not None:
        # before anything is paid: a path that cannot be written, or results of before beside a test that stopped
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_bytes(b"")
    tested = asyncio.run(test_constitution(target, model=model, principles=principle or ()))
    _print(tested)
    if junit is not None:
        junit.write_bytes(_junit(tested, strict=strict))
    bad = {"fail", "unanswered", *(["unsure"] if strict else [])}
    raise typer.Exit(any(each.outcome in bad for each in tested.tried))


def _print(tested: Tested) -> None:
    from itertools import groupby

    from solon.complaints import short
    from solon.review.cases import BY_PLACE, tally

    out = console()
    table = columns("principle", "its cases by its own words", "by the whole constitution")
    for principle, scopes in tally(tested.tried).items():
        table.add_row(principle, *(_counts(scopes[scope]) for scope in scopes))
    out.print(table, soft_wrap=False)
    missed = [each for each in tested.tried if each.outcome != "pass"]
    for _, same in groupby(missed, key=lambda each: (each.principle, each.number)):
        told = list(same)
        case = told[0].case
        out.print()
        for each in told:
            out.print(_where(tested, each), style="red" if each.outcome == "fail" else "yellow")
        for name, text in (("prompt", case.prompt[-1].content), ("better", case.better), ("worse", case.worse)):
            out.print(f"  {name:6}  {plain(short(text, 100))}")
    passed = len(tested.tried) - len(missed)
    out.print(
        f"\n{passed} of {counted(len(tested.tried), 'judgement')} as the cases say, by {plain(tested.judge)}; "
        f"{spending(tested.asked, tested.known, tested.dollars)}"
    )
    placed = sum(each.detail == BY_PLACE for each in tested.tried)
    if 2 * placed > len(tested.tried):
        out.print(
            f"in {placed:,} of them the judge preferred a place to a text: take a stronger judge (--model) before "
            "you change a word"
        )


def _counts(outcomes: Counter[Outcome]) -> str:
    """Return e.g. "2 pass, 1 unsure"."""
    from solon.review.cases import OUTCOMES

    return ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in OUTCOMES if outcomes[outcome])


def _where(tested: Tested, each: Tried) -> str:
    """Return e.g. "rules.yaml:14: brief, case 2, by its own words: fail, P(better) 0.21"."""
    file, line = _place(tested, each)
    told = {"own": "by its own words", "whole": "by the whole constitution"}[each.scope]
    why = [f"P(better) {each.p:.2f}"] if each.p is not None else []
    why += [" ".join(each.detail.split())] if each.detail else []
    return plain(f"{file}:{line}: {each.principle}, case {each.number}, {told}: {each.outcome}, {'; '.join(why)}")


def _place(tested: Tested, each: Tried) -> tuple[str, int]:
    ids = [principle.id for principle in tested.resolved.constitution.principles]
    return tested.resolved.place("principles", ids.index(each.principle), "cases", each.number - 1)


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
