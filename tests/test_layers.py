"""Who may import whom: a module may import its own layer and the layers before it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
LAYERS = (
    ("errors",),
    ("dialogue", "config"),
    ("prompt", "batch", "data", "devices", "ranks"),
    ("models.parts",),
    ("models", "papers", "album"),
    ("training", "metrics"),
    ("recipes", "evaluation"),
    ("agent", "cli", "__init__", "__main__"),
)
FILES = sorted((SOURCE / "showtell").rglob("*.py"))
LIGHT = ("errors", "dialogue", "config", "data.")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE / "showtell").with_suffix("").parts)


def layer_of(module: str) -> int:
    found = [
        (len(name), layer)
        for layer, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert found, f"showtell.{module} has no layer; add it to LAYERS"
    return max(found)[1]  # the longest name counts: models.parts before models


def imports_of(path: Path) -> list[str]:
    """Full names of all imports, those inside functions as well, not those for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    package = ["showtell", *module_of(path).split(".")]
    names = []
    for node in ast.walk(tree):
        if node in checked:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) + "." if node.level else ""
            for alias in node.names:
                names.append(f"{base}{node.module or ''}.{alias.name}".replace("..", "."))
    return names


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_module_imports_nothing_from_a_later_layer(path):
    module = module_of(path)
    for name in imports_of(path):
        if not name.startswith("showtell."):
            continue
        imported = name.removeprefix("showtell.")
        if not any(
            imported == n or imported.startswith(n + ".") for names in LAYERS for n in names
        ):
            continue  # a name of showtell/__init__.py itself
        assert layer_of(imported) <= layer_of(module), f"{module} imports {imported}"
        ours, theirs = module.split("."), imported.split(".")
        if ours[0] == theirs[0] == "papers" and ours[-1] != "__init__":
            # dvtm and dvtm_blocks are one bridge
            same = theirs[1].split("_")[0] == ours[1].split("_")[0]
            assert same, f"{module} imports another bridge, {imported}"
        if "parts" not in theirs and {ours[0], theirs[0]} == {"models", "papers"}:
            raise AssertionError(f"{module} imports {imported}: recipes put those together")


@pytest.mark.parametrize(
    "path", [p for p in FILES if module_of(p).startswith(LIGHT)], ids=module_of
)
def test_light_modules_do_not_import_torch(path):
    heavy = {"torch", "transformers", "diffusers"}
    assert not {name.split(".")[0] for name in imports_of(path)} & heavy


def test_nothing_imports_torchvision():
    for path in FILES:
        assert not any(name.startswith("torchvision") for name in imports_of(path)), path
