"""The photo world is a package of its own, and light to import."""

import ast
import subprocess
import sys
from pathlib import Path

import photoworld

FILES = sorted(Path(photoworld.__file__).parent.glob("*.py"))


def test_it_imports_nothing_of_showtell_but_the_dialogue():
    for path in FILES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        names += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
        assert {name for name in names if "showtell" in name} <= {"showtell.dialogue"}, path


def test_scenes_words_and_drawings_need_neither_torch_nor_numpy():
    light = [f"photoworld.{path.stem}" for path in FILES if "oracle" not in path.stem]
    code = f"import sys, {', '.join(light)}, showtell.data.world; "
    code += "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
