"""`solon check`: every mistake in recipes and constitutions at once, and what may be better in them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from solon.cli.apps import app
from solon.cli.screen import counted, plain

if TYPE_CHECKING:
    from solon.commands.checks import Checked, Problem

Format = Annotated[
    Literal["text", "json", "github"],
    typer.Option(help="text for people, json for programs, github for annotations in a workflow."),
]


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(help="Recipes, constitutions, folders with a recipe.yaml.", show_default=False)
    ],
    format: Format = "text",
    strict: Annotated[bool, typer.Option("--strict", help="Advice alone ends with 1 too.")] = False,
) -> None:
    """Tell every mistake in recipes and constitutions at once, and what may be better in them.

    Ends with 1 where there are mistakes. Advice has a rule in brackets, and a comment silences it: docs/rules.md.
    """
    from solon.commands.checks import check_files

    checked = check_files(files)
    if format == "text":
        _print(checked)
    elif format == "json":
        pages = [asdict(page) for page in checked.pages]
        typer.echo(
            json.dumps({"files": pages, "problems": [asdict(problem) for problem in checked.problems]}, indent=2)
        )
    else:
        for problem in checked.problems:
            typer.echo(_annotation(problem))
    if checked.count("error") or (strict and checked.problems):
        raise typer.Exit(1)


def _print(checked: Checked) -> None:
    for problem in checked.problems:
        typer.echo(_line(problem), err=True)
    for page in checked.pages:
        if page.summary:
            typer.echo(_line(page.summary))
    names = {"error": "mistake", "warning": "warning", "note": "note"}
    told = [counted(count, name) for severity, name in names.items() if (count := checked.count(severity))]
    if told:
        typer.echo(", ".join(told), err=True)


def _line(told: object) -> str:
    return plain(str(told).replace("\n", "\N{SYMBOL FOR LINE FEED}"))  # the name of a file may hold one


def _annotation(problem: Problem) -> str:
    """Return a problem as a workflow command of GitHub Actions: ::warning file=a.yaml,line=3,title=rule::text."""
    kind = {"error": "error", "warning": "warning", "note": "notice"}[problem.severity]
    line = "" if problem.line is None else f",line={problem.line}"
    title = _escaped(f"solon check: {problem.rule}" if problem.rule else "solon check", ":,")
    return f"::{kind} file={_escaped(problem.file, ':,')}{line},title={title}::{_escaped(problem.text)}"


def _escaped(text: str, also: str = "") -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    for sign in also:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return plain(text)
