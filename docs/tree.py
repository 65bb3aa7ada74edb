"""The tree of the house with one caption a file: the first sentence of its docstring.

python docs/tree.py --write      puts it into ARCHITECTURE.md, between the two markers
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- tree -->", "<!-- end of tree -->"


def caption(file: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return re.split(r"(?<=[.?!]) (?=[A-Z`])", " ".join(first.split()))[0].rstrip(".:")


def tree() -> str:
    """Return one line a file, folders first said by their own docstring."""
    lines = []
    for file in sorted((ROOT / "solon").rglob("*.py"), key=_order):
        depth = len(file.relative_to(ROOT).parts) - 2
        if file.name == "__init__.py":
            name, depth = f"{file.parent.name}/", depth - 1
        else:
            name = file.name
        lines.append(f"{'  ' * (depth + 1)}{name}".ljust(26) + caption(file))
    return "```\n" + "\n".join(lines) + "\n```"


def _order(file: Path) -> list[tuple[int, str]]:
    """Return what sorts a folder's own docstring first, then its files, then its folders."""
    *folders, name = file.relative_to(ROOT / "solon").parts
    return [*((2, folder) for folder in folders), (0 if name == "__init__.py" else 1, name)]


def rendered(text: str) -> str:
    """Return the page with its tree made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{tree()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    page = ROOT / "ARCHITECTURE.md"
    if "--write" in sys.argv:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(tree())
