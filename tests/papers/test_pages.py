"""A paper's page lists its equations, and each stands once in the code, where the page says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+) \|.*\| `([\w.]+)` \| `(src/\S+\.py)` \|$", re.MULTILINE)
PAGES = {  # the paper's file, its page, the equations that are the file's
    "e2e": ("dvtm", range(4, 14)),
    "minigpt5": ("vokens", range(1, 6)),
    "gill": ("gill", range(1, 5)),
    "divter": ("divter", range(1, 4)),
}


def tags(path: Path) -> list[tuple[int, str]]:
    """(n, what it stands in: function, method or assigned name) of each ``# Eq. n``."""
    source, around = path.read_text(encoding="utf-8"), []
    for node in ast.parse(source).body:
        names = [getattr(node, "name", "")]
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        inner = [n for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef)]
        if isinstance(node, ast.ClassDef):
            around += [(f"{node.name}.{n.name}", n.lineno, n.end_lineno) for n in inner]
        else:
            around += [(name, node.lineno, node.end_lineno) for name in names]
    found = []
    for number, line in enumerate(source.splitlines(), start=1):
        for equation in re.findall(r"# Eq\. (\d+)\b", line):
            (name,) = [name for name, first, last in around if first <= number <= last]
            found.append((int(equation), name))
    return found


@pytest.mark.parametrize("paper", PAGES)
def test_every_equation_is_tagged_once_in_order_and_listed_where_it_stands(paper):
    page, own = PAGES[paper]
    listed = ROW.findall((ROOT / "docs" / "papers" / f"{page}.md").read_text(encoding="utf-8"))
    file = f"src/showtell/papers/{paper}.py"
    tagged = tags(ROOT / file)
    assert sorted(n for n, _ in tagged) == list(own)
    assert sorted(tagged) == [(int(n), symbol) for n, symbol, where in listed if where == file]
    if paper == "e2e":
        assert [int(n) for n, *_ in listed] == list(range(1, 14))
    for n, symbol, where in listed:  # the rest stands in the parts that all papers share
        if where != file:
            assert (int(n), symbol) in tags(ROOT / where)
    if paper in ("e2e", "gill"):
        assert [n for n, _ in tagged] == list(own)  # in the paper's order
