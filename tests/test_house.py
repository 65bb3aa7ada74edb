"""The house stands as ARCHITECTURE.md says: floors, doors, and what a start-up may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "solon"

# Each room stands on the ones before it. Rooms on one line stand side by side and do not know each other.
FLOORS: list[set[str]] = [
    {"__init__"},
    {"digests", "errors", "complaints"},
    {"yamls"},
    {"calls"},
    {"constitution", "rows", "markup", "spend"},
    {"cast", "ledger", "budget"},
    {"jobs"},
    {"generators", "judges", "models", "dataset"},
    {"pipelines", "training", "prices"},
    {"review", "schemas", "outlay", "telemetry"},
    {"workshop"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(file: Path) -> set[str]:
    """Return every module that a file imports, also inside its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from solon.models import weights` imports a file of that room, not the room
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if _is_module(name)}
            found |= modules if modules == names else {*modules, node.module}
    return found


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_every_room_has_its_floor() -> None:
    rooms = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in files()}
    assert rooms <= set(FLOOR), f"give these a floor: {sorted(rooms - set(FLOOR))}"


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_arrow_points_down(file: Path) -> None:
    """A room imports only rooms below it, or itself; not even a deferred import points up or sideways."""
    here = room_of(module_of(file))
    for module in imports(file):
        if module.split(".")[0] != "solon" or module == "solon":
            continue
        there = room_of(module)
        if there not in FLOOR:
            continue  # `from solon import __version__`
        assert there == here or FLOOR[there] < FLOOR[here], f"{file.name} ({here}) imports {module} ({there})"


def test_no_two_files_import_each_other() -> None:
    """There is no cycle, inside a room either."""
    names = {module_of(file) for file in files()}
    graph = {module_of(file): {name for name in imports(file) if name in names} - {module_of(file)} for file in files()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            for other in graph[name]:
                # a package's own __init__ gathers its files: they do not import it back
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


TORCHED = ("local", "worker", "batches", "slots", "reading", "decode", "grammar", "weights")


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("torch", {"training/", *(f"models/{name}.py" for name in TORCHED)}),
        ("llguidance", {"models/grammar.py"}),
        ("trl", {"training/"}),
        ("yaml", {"yamls.py"}),
        ("openai", {"models/openai.py"}),
        ("anthropic", {"models/anthropic.py"}),
        ("typer", {"cli/"}),
        ("rich", {"cli/"}),
        ("tenacity", {"models/pace/"}),
        ("opentelemetry", {"telemetry.py"}),
        ("random", set()),
    ],
)
def test_a_library_has_its_door(library: str, rooms: set[str]) -> None:
    """Only the rooms named here import the library. Nobody imports `random`: all dice are thrown by hash."""
    for file in files():
        place = file.relative_to(PACKAGE).as_posix()
        if any(place.startswith(room) for room in rooms):
            continue
        used = {module.split(".")[0] for module in imports(file)}
        assert library not in used, f"{place} imports {library}"


def test_only_the_workshop_knows_both_a_ledger_and_a_provider() -> None:
    knowing = [
        module_of(file)
        for file in files()
        if {"solon.ledger", "solon.models"} <= {".".join(module.split(".")[:2]) for module in imports(file)}
    ]
    assert knowing == ["solon.workshop"]


def test_only_dataset_touches_row_files() -> None:
    """SQLite is opened by the ledger and the row store, Parquet by the dataset alone."""
    for file in files():
        place = file.relative_to(PACKAGE).as_posix()
        used = {module.split(".")[0] for module in imports(file)}
        if not place.startswith("dataset/"):
            assert "pyarrow" not in used, place
        if not place.startswith(("dataset/", "ledger/", "jobs/")):
            assert "sqlite3" not in used, place


def loaded_by(*arguments: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running these arguments."""
    code = (
        "import sys, runpy, io, contextlib\n"
        f"sys.argv = {list(arguments)!r}\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    exec(sys.argv[1]) if sys.argv[0] == '-c' else runpy.run_module(sys.argv[0], run_name='__main__')\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


HEAVY = {"torch", "transformers", "datasets", "openai", "anthropic", "pyarrow", "trl", "matplotlib"}


def test_import_solon_loads_nothing_heavy() -> None:
    assert not loaded_by("-c", "import solon") & (HEAVY | {"pydantic"})


def test_help_loads_nothing_heavy_and_no_pydantic() -> None:
    assert not loaded_by("solon", "--help") & (HEAVY | {"pydantic"})


def test_a_constitution_is_read_without_anything_heavy() -> None:
    assert not loaded_by("-c", "import solon.constitution as c; c.load('cai-2022')") & HEAVY


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_tells_its_story_and_stays_readable(file: Path) -> None:
    """Each module opens with a docstring, and has at most 450 lines."""
    text = file.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{file}: no module docstring"
    assert text.count("\n") <= 450, f"{file}: {text.count(chr(10))} lines"


def test_names_of_a_room_are_sorted_and_there() -> None:
    """Each `__all__` is sorted, and every name in it exists."""
    import importlib

    for room in ("constitution", "generators", "judges", "dataset", "training", "models", "errors", "calls", "cast"):
        module = importlib.import_module(f"solon.{room}")
        names = list(module.__all__)
        assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)), room
        assert [name for name in names if not hasattr(module, name)] == []


def test_nothing_says_where_it_was_made() -> None:
    """No path of a machine and no registry host stands in the project, this file included."""
    # put together here, so that this file is read like every other
    marks = [f"/{folder}" for folder in ("work/", "home/", "root/", "tmp/v")]
    marks += ["/".join(("pypi.org", "simple")), ".".join(("files", "pythonhosted"))]
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".sh", ".jsonl"}:
            text = path.read_text(encoding="utf-8")
            for mark in marks:
                assert mark not in text, f"{name}: {mark}"
