"""The documents say what the code is: commands, layers, names, paths."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

from photoworld.scenes import ATTRIBUTES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "showtell"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
HOSTS = {"arxiv.org", "github.com"}


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------- commands


def test_the_page_of_the_command_line_is_current():
    path = ROOT / "scripts" / "cli_docs.py"
    spec = importlib.util.spec_from_file_location("cli_docs", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert text_of(DOCS / "cli.md") == script.page(), "run python scripts/cli_docs.py > docs/cli.md"


# --------------------------------------------------------------------- the house, names, sizes


def test_the_design_page_has_the_steps_of_the_import_test():
    tree = ast.parse(text_of(ROOT / "tests" / "test_layers.py"))
    steps = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STEPS"
    )
    block = re.search(r"<!-- steps -->\n```\n(.*?)\n```", text_of(DOCS / "design.md"), re.DOTALL)
    assert [tuple(line.split()) for line in block[1].splitlines()] == list(steps)


def test_every_module_has_a_place_in_the_layout():
    design = text_of(DOCS / "design.md")
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "src" / "photoworld").glob("*.py")]
    assert not {p.name for p in files if p.name not in design and not p.name.startswith("__")}


def test_the_readme_is_one_screen():
    assert text_of(ROOT / "README.md").count("\n") <= 90


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent != ROOT], ids=page_name)
def test_a_page_says_first_whom_it_is_for(path):
    title, empty, first, *_ = text_of(path).splitlines()
    assert title.startswith("# ") and not empty
    assert first.startswith("For ") or page_name(path) == "docs/cli.md"


def test_pictures_of_results_are_small():
    pictures = [*DOCS.rglob("*.png"), *(PACKAGE / "shipped").rglob("*.png")]
    assert not [page_name(p) for p in pictures if p.stat().st_size > 300_000]


def test_every_metric_that_is_named_in_the_code_is_defined():
    page = text_of(DOCS / "metrics.md")
    names: set[str] = set()
    for path in (PACKAGE / "evaluation").glob("*.py"):
        source = text_of(path)
        names.update(re.findall(r'"((?:moment|seeing|text)\.\w+)"', source))
        names.update(f"photo.{n}" for n in re.findall(r'"(attribute_\w+)"', source))
        names.update(f"{n}." for n in re.findall(r'prefix="([\w.]+)"', source))
    assert len(names) > 15
    missing = {name for name in names if f"`{name}" not in page}
    assert not missing


def test_the_reader_that_the_data_page_shows_reads_a_file(tmp_path):
    section = text_of(DOCS / "data.md").partition("## Adding a data set")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    names = {}
    exec(compile(block, "docs/data.md", "exec"), names)
    record = {"id": "7", "said": "a dog", "photo": "7.jpg"}
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    (dialogue,) = names["read_toy"](path)
    assert dialogue.id == "7"
    assert dialogue.turns[1].elements[0].caption == "a dog"


def test_the_data_page_names_every_value_of_every_attribute():
    page = text_of(DOCS / "data.md")
    for attribute, values in ATTRIBUTES.items():
        row = re.search(rf"^\| {attribute} \| (.+) \|$", page, re.MULTILINE)
        listed = re.split(r"[,;] ", re.sub(r"the (friends|pets) ", "", row[1]))
        assert listed == list(values), attribute


# ------------------------------------------------------------------------------ links and paths


def slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text_of(path)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        assert goal.is_file(), f"{page_name(path)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(goal), re.MULTILINE)
            assert anchor in {slug(h) for h in headings}, f"{page_name(path)}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_paths_inside_the_project_exist(path):
    folders = "src|docs|tests|experiments|benchmarks|scripts"
    for name in re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]*\w\.\w+)", text_of(path)):
        gone = "commit b975a6b" in text_of(path)  # the page says so of scripts that were dropped
        assert (ROOT / name).exists() or gone, f"{page_name(path)} names {name}"


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_no_page_names_a_machine(path):
    text = re.sub(r"https://\S+", lambda m: m[0].split("/")[2], text_of(path))
    hosts = re.findall(r"(?<![\w@./-])(?:[a-z0-9-]+\.)+(?:org|com|net|io|co|dev|ai)\b", text)
    assert set(hosts) <= HOSTS
    assert not re.findall(r"(?:^|[\s`\"'(=])(/[\w.-]+/[\w.-]+)", text, re.MULTILINE)
    assert ".." + "/shared" not in text
