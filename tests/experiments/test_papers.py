"""All small experiments by one command: what they need comes first, and each script knows what it
is told."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import all_papers as papers
import pytest
from jobs import slug
from minigpt5_table6 import VOKENS

from showtell.errors import UsageError

RUNS = Path("runs/papers/quick")


class Parsed(Exception):
    """Raised where a script has understood its options."""


@pytest.fixture
def only_parsed(monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def stop(self, arguments=None):
        raise Parsed(parse(self, arguments))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)


@pytest.mark.parametrize("size", ["quick", "full"])
def test_each_script_knows_its_options(only_parsed, size):
    jobs = papers.jobs_of(papers.EXPERIMENTS, size=size, runs=RUNS, base="runs/base/model")
    scripts = {job.name: job for job in jobs if job.arguments[0] != "-m"}
    assert set(scripts) == {experiment.name for experiment in papers.EXPERIMENTS}
    for name, job in scripts.items():
        with pytest.raises(Parsed) as found:
            importlib.import_module(name).main(job.arguments[1:])
        (options,) = found.value.args
        assert options.out == RUNS / "results" and getattr(options, "runs", job.out) == job.out
        if size == "quick" and hasattr(options, "steps"):
            assert 0 < options.steps <= 1000 and options.seeds == [0]


def test_what_is_needed_is_begun_before(tmp_path):
    for base in ("runs/base/model", None):
        jobs = papers.jobs_of(papers.EXPERIMENTS, size="full", runs=tmp_path, base=base)
        before: set[str] = set()
        for job in jobs:
            assert before.issuperset(job.needs)
            before.add(job.name)
        assert (papers.BASE in before) == (base is None)
        assert len({job.goal for job in jobs}) == len(jobs)


def test_an_experiment_brings_those_whose_runs_it_reads():
    names = [experiment.name for experiment in papers.chosen(["minigpt5_tables23"])]
    assert names == ["minigpt5_table6", "minigpt5_table1", "minigpt5_tables23"]
    with pytest.raises(UsageError, match='no experiment "gill_contex".*"gill_context"'):
        papers.chosen(["gill_contex"])


def test_later_tables_start_from_the_vokens_of_table_6():
    table6, table1 = papers.chosen(["minigpt5_table1"])
    jobs = papers.jobs_of([table6, table1], size="quick", runs=RUNS, base=None)
    (aligned, after) = (job for job in jobs if job.name in (table6.name, table1.name))
    told = after.arguments[after.arguments.index("--aligned") + 1]
    assert Path(told.format(seed=0)) == aligned.out / slug(f"{VOKENS}, seed 0") / "model"
    assert "--aligned" not in aligned.arguments


def test_tables_come_to_the_docs_when_all_their_files_are_there(tmp_path):
    results, out = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    for file in ("gill_stories.json", "gill_stories.md", "gill_rounds.json"):
        (results / file).write_text(file)
    assert papers.publish(papers.EXPERIMENTS, results, out) == ["gill_stories"]
    assert sorted(path.name for path in out.iterdir()) == [
        "gill_stories.json",
        "gill_stories.md",
    ]


def test_scripts_that_pages_name_are_there():
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    pattern = re.compile(r"\b(?:experiments|benchmarks)/[\w/]+\.(?:py|sh)\b")
    named = {path for page in pages for path in pattern.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 20 and not [path for path in sorted(named) if not (root / path).is_file()]
