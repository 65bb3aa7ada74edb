"""The command line: thin commands over `solon.commands`, and the only place that prints.

Exit codes: 0 done; 1 done, and the answer is no (mistakes found, not a single pair); 2 bad input or a missing
extra; 3 the provider stopped us (key, model, credit, nobody listens); 4 ledger or run folder cannot be read or
written; 5 another run walks this folder; 6 the budget is used up; 7 done, but rows failed: the same command walks them
again; 130 interrupted.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

import typer

from solon.cli import (  # noqa: F401, they bring the commands
    auditing,
    batches,
    checking,
    comparing,
    converting,
    costing,
    diffing,
    inferring,
    ledgers,
    planning,
    showing,
    standing,
    testing,
    watching,
    working,
)
from solon.cli.apps import app, batch_app, constitution_app, ledger_app, models_app
from solon.errors import SolonError

__all__ = ["app", "main"]

app.add_typer(constitution_app, name="constitution")
app.add_typer(models_app, name="models")
app.add_typer(ledger_app, name="ledger")
app.add_typer(batch_app, name="batch")


def main() -> None:
    """Run the command line. Mistakes end in a clear line on standard error and a non-zero exit, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a log that holds ASCII alone is no reason to lose a line
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="solon")
    except SolonError as problem:
        for line in str(problem).splitlines():
            typer.echo(f"solon: {line}", err=True)
        sys.exit(problem.exit_code)
    except BrokenPipeError:
        # the reader of our output went away (`| head`): nothing is wrong, and nobody is left to tell
        sys.stderr.close()
        sys.exit(0)
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        typer.echo(
            f"solon: {place}{problem.strerror or problem}; check the path, its permissions and the disk", err=True
        )
        sys.exit(4)
