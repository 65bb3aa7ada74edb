"""The one YAML reader of the house: constitutions, recipes, prices and training options come in through it.

    document = read("recipe.yaml")
    document.value["seed"]              plain Python: dict, list, str, int, float, bool, None
    document.line(("cast", "judge"))    14, the line where a person would look
    build(Recipe, document)             a pydantic object, or every mistake of the file in one BadInput

What is read is the core of YAML 1.2: only `true` and `false` are booleans (`no`, `on`, `off` stay words), `1e-5`
is a number, dates stay texts, and keys are always text. Duplicate keys, tags, merge keys (`<<`) and aliases that
grow without end are refused.

libyaml parses to events, and the tree is built here: PyYAML's own `compose` recurses in C, so that a file of a
hundred thousand brackets ends the process instead of raising.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from solon.complaints import Loc, closest, complaints, short, words_of
from solon.errors import BadInput

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

__all__ = ["Document", "Loc", "build", "comments", "decode", "dump", "located", "parse", "read"]

MOST_BYTES = 10_000_000
MOST_VALUES = 200_000
DEEPEST = 50


@dataclass(frozen=True)
class Document:
    """One YAML file, read: its values, and the line of each.

    name:   what problems call it, usually the path
    tree:   its values as far as they could be read; `value` is the same, but refuses a document with faults
    faults: what is wrong with the file whatever it should hold (duplicate keys, tags), as "name:line: text"
    lines, written: the line of every value; numbers and booleans as they stand in the file
    text:   the file as it stands, comments and all
    """

    name: str
    tree: dict[str, Any]
    faults: tuple[str, ...]
    lines: Mapping[Loc, int]
    written: Mapping[Loc, str]
    text: str = ""

    @property
    def value(self) -> dict[str, Any]:
        """Return the values. Raises BadInput with all faults, if there are any."""
        if self.faults:
            raise BadInput(self.faults)
        return self.tree

    def line(self, loc: Loc) -> int:
        """Return the line (from 1) of the value at `loc` (its key's line), or of the nearest one around it."""
        while loc not in self.lines:
            loc = loc[:-1]
        return self.lines[loc]

    def problem(self, loc: Loc, text: str) -> str:
        """Return `text` as people read it: "name:line: text"."""
        return f"{self.name}:{self.line(loc)}: {text}"


def read(path: str | Path) -> Document:
    """Return the YAML file at `path`. Raises BadInput: missing, unreadable, over 10 MB, not UTF-8, not YAML."""
    path = Path(path)
    try:
        if path.is_fifo():  # opening one may never end, and a page is read more than once
            raise BadInput(f"{path}: is a pipe; save what it brings as a file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file{_neighbour(path)}") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder; name the YAML file in it") from None
    except PermissionError:
        raise BadInput(f"{path}: may not be read; check its permissions") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return decode(data, str(path))


def decode(data: bytes, name: str) -> Document:
    """Return the YAML document that a file's bytes hold; problems call it `name`. Raises BadInput as `read` does."""
    if len(data) > MOST_BYTES:
        raise BadInput(f"{name}: larger than {MOST_BYTES // 1_000_000} MB; a file of this kind holds a few pages")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise BadInput(f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
    return parse(text, name)


def parse(text: str, name: str) -> Document:
    """Return the YAML document that `text` holds; problems call it `name`. Raises BadInput if it is none."""
    odd = _UNREADABLE.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise BadInput(f"{name}:{line}: control character U+{ord(odd.group()):04X} in the text; remove it")
    try:
        root = _compose(text, name)
    except yaml.YAMLError as error:
        raise BadInput(_syntax(error, text, name)) from None
    if root is None or (root.kind == "scalar" and root.plain and root.text in _NULLS):
        what = "holds only comments" if text.strip() else "is empty"
        raise BadInput(f"{name}:1: the file {what}; expected `key: value` lines")
    if root.kind != "mapping":
        found = "a list" if root.kind == "list" else f"the text {short(root.text)!r}"
        raise BadInput(f"{name}:{root.line}: expected `key: value` lines at the top, found {found}")
    reader = _Reader(name)
    tree = reader.plain(root, ())
    return Document(name, tree, tuple(reader.faults), reader.lines, reader.written, text)


def build(model: type[Model], document: Document, checks: Iterable[Callable[[Document], Iterable[str]]] = ()) -> Model:
    """Return `document` as a `model`. Raises one BadInput with every problem, in the order of lines.

    checks: what pydantic cannot see, or sees only once all else is right; each reads `document.tree` (whose
        types may be wrong) and gives problems as `document.problem` writes them. A validator of the model that
        guards the same for callers in Python raises PydanticCustomError("also_checked", ...), and is then not
        told twice.
    """
    from pydantic import ValidationError

    problems = [*document.faults, *(text for check in checks for text in check(document))]
    try:
        built = model.model_validate(document.tree)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        fresh = [each for each in errors if each["type"] != "also_checked"] if problems else errors
        told = complaints(model, document.tree, fresh, document.written)
        problems += [document.problem(loc, text) for loc, text in told]
    if problems:
        raise BadInput(sorted(dict.fromkeys(problems), key=lambda problem: _line_of(problem, document.name)))
    return built


def comments(document: Document) -> Iterator[tuple[int, str]]:
    """Yield every comment of a document: its line (from 1), and what follows the '#'."""
    text, start, line = document.text, 0, 1
    for event in yaml.parse(text, Loader=_LOADER):
        mark, end = event.start_mark, event.end_mark
        if not isinstance(event, yaml.ScalarEvent) or mark is None or end is None:
            continue
        # between two scalars stand signs and comments alone; a block's first line may have a comment too
        yield from _comments_between(text, start, mark.index, line)
        if event.style in ("|", ">") and (header := _BREAK.search(text, mark.index, end.index)):
            yield from _comments_between(text, mark.index, header.start(), mark.line + 1)
        start, line = end.index, end.line + 1
    yield from _comments_between(text, start, len(text), line)


def _comments_between(text: str, start: int, end: int, line: int) -> Iterator[tuple[int, str]]:
    for number, words in enumerate(_BREAK.split(text[start:end]), start=line):
        _, sign, comment = words.partition("#")
        if sign:
            yield number, comment.strip()


def dump(value: Mapping[str, Any], *, folded: bool = False) -> str:
    """Return `value` as YAML that `parse` reads back to the same: keys in order, texts of many lines as blocks.

    folded: long texts of one line as blocks too, so that a comment fits behind their key
    """
    dumper = _Folding if folded else _Dumper
    text: str = yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    return _TURNING.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


@dataclass(slots=True)
class _Node:
    """A value as it was written. A mapping's `items` are its keys and values in turn."""

    kind: str
    line: int
    tag: str | None = None
    text: str = ""
    plain: bool = False
    closed: bool = True
    items: list[_Node] = field(default_factory=list)


def _compose(text: str, name: str) -> _Node | None:
    """Return the one document of `text` as a tree, None where there is none. Needs no recursion."""
    top: list[_Node] = []
    stack: list[_Node] = []
    anchors: dict[str, _Node] = {}
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop().closed = True
            continue
        if isinstance(event, yaml.DocumentStartEvent) and top:
            raise BadInput(f"{name}:{line}: a second document begins here ('---'); keep one to a file")
        if not isinstance(event, yaml.NodeEvent):
            continue
        if isinstance(event, yaml.AliasEvent):
            node = anchors.get(str(event.anchor))
            if node is None or not node.closed:
                why = "refers to nothing above it" if node is None else "refers to itself"
                alias = f"'*{event.anchor}'"
                raise BadInput(f"{name}:{line}: {alias} {why}; a text that begins with '*' needs quotes")
        else:
            node = _node(event, line)
            if event.anchor:
                anchors[event.anchor] = node
        (stack[-1].items if stack else top).append(node)
        if not node.closed:
            stack.append(node)
            if len(stack) > DEEPEST:
                raise BadInput(f"{name}:{line}: nested more than {DEEPEST} deep; write it flatter")
    return top[0] if top else None


def _node(event: Any, line: int) -> _Node:
    if isinstance(event, yaml.ScalarEvent):
        # libyaml says "", PyYAML's own parser None, of a text without quotes
        return _Node("scalar", line, event.tag, event.value, plain=not event.style)
    kind = "list" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
    return _Node(kind, line, event.tag, closed=False)


class _Reader:
    """Turns nodes into plain values, and remembers where each stood."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Loc, int] = {}
        self.written: dict[Loc, str] = {}
        self.faults: list[str] = []

    def fault(self, line: int, text: str) -> None:
        self.faults.append(f"{self.name}:{line}: {text}")

    def plain(self, node: _Node, loc: Loc) -> Any:
        self.lines.setdefault(loc, node.line)
        if len(self.lines) > MOST_VALUES:
            raise BadInput(
                f"{self.name}:{node.line}: more than {MOST_VALUES:,} values, each alias ('*name') counted as what "
                "it stands for; write fewer"
            )
        if node.tag not in _TAGS[node.kind]:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!") if node.tag else ""
            self.fault(node.line, f"tag {tag!r} is not read here; remove it")
        if node.kind == "list":
            return [self.plain(item, (*loc, index)) for index, item in enumerate(node.items)]
        return self.mapping(node, loc) if node.kind == "mapping" else self.scalar(node, loc)

    def mapping(self, node: _Node, loc: Loc) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in zip(node.items[::2], node.items[1::2], strict=True):
            if key.kind != "scalar":
                self.fault(key.line, "a key must be one word or text, not a list or a mapping")
            elif key.plain and key.text == "<<":
                self.fault(key.line, "merge keys ('<<') are not read here; write the keys out")
            elif key.text in value:
                first = self.lines[(*loc, key.text)]
                self.fault(key.line, f"key {short(key.text)!r} is given twice (first on line {first}); keep one")
            else:
                self.lines[(*loc, key.text)] = key.line
                value[key.text] = self.plain(item, (*loc, key.text))
        return value

    def scalar(self, node: _Node, loc: Loc) -> Any:
        text = node.text
        if not node.plain or node.tag:
            return text
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            value: Any = _BOOLEANS[text]
        elif _INTEGER.fullmatch(text):
            if len(text) > 1000:
                self.fault(node.line, f"a number of {len(text):,} digits; put it in quotes if it is a text")
                return 0
            value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        elif _DECIMAL.fullmatch(text):
            value = float(text)
        elif _NOT_FINITE.fullmatch(text):
            value = float(text.lower().replace(".", ""))
        else:
            return text
        self.written[loc] = text
        return value


def _syntax(error: yaml.YAMLError, text: str, name: str) -> str:
    """Return what the parser stumbled over, in the words of somebody who edits the file."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    if mark is None:
        return f"{name}:1: not YAML: {problem}"
    # a mark at the very end stands below the last line
    lines = text.split("\n")
    number = min(mark.line, len(lines) - 1)
    if "\t" in lines[number][: len(lines[number]) - len(lines[number].lstrip())]:
        return f"{name}:{number + 1}: a tab indents this line; YAML allows only spaces there"
    if "cannot start any token" in problem:
        sign = lines[number][mark.column : mark.column + 1]
        return f"{name}:{number + 1}: a text cannot begin with {sign!r}; put it in quotes"
    for pattern, at_context, plain in _SYNTAX:
        if re.search(pattern, f"{getattr(error, 'context', None) or ''}: {problem}"):
            opened = getattr(error, "context_mark", None)
            return f"{name}:{(opened.line if at_context and opened else number) + 1}: {plain}"
    return f"{name}:{number + 1}: not YAML: {problem}; check this line and the one above"


def located(written: str | Path, base: Path) -> Path:
    """Return the path that is written in a page of the folder `base`. Raises BadInput for an unknown home (~name)."""
    try:
        return base / Path(written).expanduser()
    except RuntimeError as error:
        raise BadInput(f"{written}: {words_of(error)}; write the folder's name") from None


def _neighbour(path: Path) -> str:
    try:
        near = closest(path.name, [each.name for each in path.parent.iterdir()])
    except OSError:
        return f"; the folder {path.parent} cannot be read either"
    return f"; did you mean {path.parent / near}?" if near else ""


def _line_of(problem: str, name: str) -> int:
    number = problem.removeprefix(name + ":").partition(":")[0]
    return int(number) if number.isdecimal() else 0


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_TAGS = {
    "scalar": (None, "!", _CORE + "str"),
    "list": (None, "!", _CORE + "seq"),
    "mapping": (None, "!", _CORE + "map"),
}
_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BREAK = re.compile("\r\n|[\r\n]")
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
# U+0085, U+2028 and U+2029 end a line for YAML 1.1 and for no editor: every line after one would be told wrongly
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SYNTAX = (
    # what the parser says (context: problem); whether the line of the context is meant; what we say
    ("mapping values are not allowed", False,
     "a ':' where no key can stand; put a text that holds ': ' in quotes, write 'key: value' with a blank after "
     "the ':', and check the indentation"),
    ("quoted scalar: found unexpected end", True, "the quote that opens here is never closed; close it"),
    ("flow sequence", True, "the '[' that opens here is not closed; close it by ']', with ',' between its items"),
    ("flow mapping", True, "the '{' that opens here is not closed; close it by '}', with ',' between its pairs"),
    ("expected key|block end|expected '-' indicator|entries are not allowed", False,
     "the indentation of this line fits nothing above it; align it with its neighbours"),
    ("expected ':'", False, "neither 'key: value' nor '- item'; check this line and the one above"),
    ("escape", False, "a backslash in double quotes must be doubled; or use single quotes, or a '|' block"),
    ("tab character", False, "a tab indents this line; YAML allows only spaces there"),
    ("directive", False, "a line cannot begin with '%'; put the text in quotes"),
    ("tag handle|scanning a tag|parsing a tag", False, "a text cannot begin with '!'; put it in quotes"),
    ("block scalar", False, "after '|' or '>' the text begins on the next line, indented"),
)  # fmt: skip


class _Dumper(yaml.SafeDumper):
    """Writes what `parse` reads: no aliases, texts of many lines as blocks, words like `1e5` in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Folding(_Dumper):
    """Writes long texts as blocks too."""


def _written_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # YAML takes U+0085, U+2028 and U+2029 for line ends, which only an escape in double quotes survives; signs that
    # turn the writing direction are escaped there too, so that what is seen is what is read
    style = None
    if re.search("[\x85\u2028\u2029]", text) or _TURNING.search(text):
        style = '"'
    elif "\n" in text:
        style = "|"
    elif isinstance(dumper, _Folding) and len(text) > 60:
        style = ">"
    return dumper.represent_scalar(_CORE + "str", text, style=style)


# PyYAML quotes what YAML 1.1 takes for something else; these are the words that only we read as numbers
_Dumper.add_implicit_resolver(_CORE + "float", re.compile(f"(?:{_DECIMAL.pattern})$"), list("-+.0123456789"))
_Dumper.add_implicit_resolver(_CORE + "int", re.compile(f"(?:{_INTEGER.pattern})$"), list("-+0123456789"))
_Dumper.add_representer(str, _written_text)
