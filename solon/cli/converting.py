"""`solon constitution import` and `solon constitution export`: the forms that others use, and what they cannot hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from solon.cli.apps import constitution_app

MOST_NAMED = 5


@constitution_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="The constitution in another form.", show_default=False)],
    form: Annotated[
        str | None, typer.Option(help="Its form; default: told from the content.", show_default=False)
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The YAML file to write; default: print it.")] = None,
) -> None:
    """Read a constitution from another form, and write it as YAML.

    Forms: cai, cai-preferences, hf, traits, markdown, list, prose, system-prompt.
    """
    from solon.cli.screen import counted, plain
    from solon.constitution.forms import read_form

    read = read_form(file, form)
    text = f"# read from {plain(file.name)} as `{read.form}`\n\n{read.constitution.to_yaml()}"
    _write(text, to)
    _say(f"read as `{read.form}`: {counted(len(read.constitution.principles), 'principle')}", *read.notes)
    if to:
        _say(f"wrote {to}", f"next: write `licence` and `source` into it, then: solon check {to}")


@constitution_app.command("export")
def export_to(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="A shipped name, or a YAML file.", show_default=False)
    ],
    form: Annotated[str, typer.Option(help="The form to write.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="The file to write; default: print it.")] = None,
) -> None:
    """Write a constitution in another form, and say what that form cannot hold.

    Forms: cai, cai-preferences, hf, traits, markdown, list, prose, system-prompt.
    """
    from solon.cli.screen import counted
    from solon.constitution import load
    from solon.constitution.forms import write_form

    written = write_form(load(reference), form)
    _write(written.text, to)
    lost = dict(written.lost)
    left = lost.pop("principle", ())
    if left:
        named = ", ".join(left[:MOST_NAMED]) + (", ..." if len(left) > MOST_NAMED else "")
        _say(f"`{form}` leaves out {counted(len(left), 'principle')}: {named}")
    whole = [field for field, ids in lost.items() if not ids]
    if whole:
        _say(f"`{form}` does not hold {', '.join(whole)}")
    parts = [f"{field} ({counted(len(ids), 'principle')})" for field, ids in lost.items() if ids]
    if parts:
        _say(f"`{form}` does not hold {', '.join(parts)}")
    if to:
        _say(f"wrote {to}")


def _write(text: str, to: Path | None) -> None:
    """Write a file that is not there yet, or print."""
    from solon.cli.screen import plain
    from solon.errors import BadInput

    if to is None:
        # what is piped on is the file, byte for byte
        sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
        return
    try:
        with to.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{to}: is there already; move it away, or give another name") from None


def _say(*lines: str) -> None:
    from solon.cli.screen import plain

    for line in lines:
        typer.echo(plain(line), err=True)
