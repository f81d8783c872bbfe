"""The papers' own experiments in small, all by one command: sh experiments/papers.sh quick|full

Each is a script of this folder, which says what it is about and can be run by itself; here they get
one base and one measuring CLIP, and run two at a time, one thread each. MiniGPT-5's tables on
stories start from the vokens that its Table 6 has aligned; its Table 5 is taken from the comparison
of all systems as it stands in docs/results, which is a command of its own (world_table.sh). What is
done is not done again: stopped at any point, the same command goes on. Tables come to
docs/results as they are finished.

quick   1 seed, some hundred steps a row: to see what can be seen on 2 cores in a day.
full    3 seeds, 2,000 steps a row, from a world_base of its own: days.

The base of quick is the shipped model's parts, or --base FOLDER. A script that failed is named with
its reason, and the others go on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import Job, Runner, exit_code_with_jobs, seconds_spent, tell, training
from world_table import CLIP_SEED, SIZES

from showtell.errors import UsageError, did_you_mean
from showtell.models.checkpoint import model_folder

HERE = Path(__file__).parent
CLIP, ALIGNED = "clip", "aligned"  # options of scripts, and jobs
BASE, RESULTS = "base", "results"
STORIES = "minigpt5_stories"  # the runs of Tables 1 to 4
GILL = "gill"  # the runs of the experiments on GILL, which share rows


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A script, its ``steps`` a row in quick (None: it trains nothing), and the tables it writes.

    ``uses`` names the options --clip and --aligned that it has; ``after`` the experiments whose
    runs it reads; ``runs`` their folder, where it is shared (None: it has none); ``options`` what
    else it is told, where {runs} is the folder of all. ``limit``: examples in quick, and in_full
    in full, where FID and IS need 2,000 photos (None: as many as the script says).
    """

    name: str
    steps: int | None
    writes: tuple[str, ...]
    uses: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    runs: str | None = ""
    options: tuple[str, ...] = ()
    limit: int | None = None
    in_full: int | None = None


TABLE6 = "minigpt5_table6"
_AFTER_SIX = {"uses": (CLIP, ALIGNED), "runs": STORIES}
EXPERIMENTS = tuple(
    Experiment(name=name, steps=steps, writes=writes or (name,), **more)
    for name, steps, writes, more in (
        (TABLE6, 600, (TABLE6, "minigpt5_guidance"), {"uses": (CLIP,), "in_full": 2000}),
        ("gradient_matters", 100, (), {"limit": 200}),
        ("e2e_table2", 400, (), {}),
        (
            "e2e_robustness",
            None,
            (),
            {
                "after": ("e2e_table2",),
                "options": (
                    "{runs}/e2e_table2/end-to-end-seed-0",
                    "{runs}/e2e_table2/pipeline-seed-0",
                ),
            },
        ),
        (
            "minigpt5_table1",
            300,
            (),
            {**_AFTER_SIX, "after": (TABLE6,), "limit": 200, "in_full": 2000},
        ),
        (
            "minigpt5_tables23",
            300,
            ("minigpt5_table2", "minigpt5_table3"),
            {**_AFTER_SIX, "after": ("minigpt5_table1",), "limit": 60},
        ),
        (
            "minigpt5_table4",
            300,
            (),
            {**_AFTER_SIX, "after": ("minigpt5_tables23",), "limit": 60},
        ),
        ("minigpt5_table5", None, (), {"runs": None}),
        ("gill_checks", 450, ("gill_checks", "gill_tokens"), {"uses": (CLIP,), "runs": GILL}),
        (
            "gill_context",
            450,
            ("gill_stories", "gill_rounds"),
            {"uses": (CLIP,), "after": ("gill_checks",), "runs": GILL, "limit": 100},
        ),
        (
            "long_worlds",
            450,
            (),
            {"uses": (ALIGNED,), "after": (TABLE6, "gill_checks"), "runs": GILL, "limit": 200},
        ),
        ("e2e_sensitivity", 100, (), {"limit": 200}),
    )
)


def chosen(only: Sequence[str]) -> list[Experiment]:
    """All experiments, or the named ones with those whose runs they read. Raises UsageError."""
    known = {experiment.name: experiment for experiment in EXPERIMENTS}
    wanted: set[str] = set()

    def add(name: str) -> None:
        if name not in known:
            raise UsageError(f'there is no experiment "{name}"{did_you_mean(name, known)}')
        wanted.add(name)
        for before in known[name].after:
            add(before)

    for name in only or known:
        add(name)
    return [experiment for experiment in EXPERIMENTS if experiment.name in wanted]


def jobs_of(
    experiments: Sequence[Experiment], *, size: str, runs: Path, base: str | None
) -> list[Job]:
    """What the experiments need, and they themselves, in the order in which they are begun."""
    jobs = []

    def train(name: str, recipe: str, *settings: str, seed: int = 0, needs: Sequence[str]) -> str:
        out = runs / name
        writes = "showtell.json" if name == BASE else "report.json"
        jobs.append(
            training(name, recipe, settings, out=out, seed=seed, writes=writes, needs=needs)
        )
        return str(out / "model")

    first: tuple[str, ...] = ()
    if base is None and size == "full":
        base, first = train(BASE, "world_base", needs=()), (BASE,)
    used = {use for experiment in experiments for use in experiment.uses}
    given = {ALIGNED: str(runs / TABLE6 / "vokens-seed-{seed}" / "model")}
    if CLIP in used:
        settings = SIZES[size].contrastive
        given[CLIP] = train(CLIP, "world_contrastive", *settings, seed=CLIP_SEED, needs=())
    for one in experiments:
        own = runs / (one.runs or one.name)
        options = [option.format(runs=runs) for option in one.options]
        options += ["--runs", str(own)] if one.runs is not None else []
        options += ["--out", str(runs / RESULTS)]
        if one.steps is not None:
            options += ["--base", base] if base else []
            options += ["--steps", str(one.steps), "--seeds", "0"] if size == "quick" else []
            limit = one.limit if size == "quick" else one.in_full
            options += ["--limit", str(limit)] if limit is not None else []
        options += [part for use in one.uses for part in (f"--{use}", given[use])]
        jobs.append(
            Job(
                name=one.name,
                arguments=(os.path.relpath(HERE / f"{one.name}.py"), *options),
                out=own,
                goal=runs / RESULTS / f"{one.writes[-1]}.md",  # what it writes last
                needs=(*first, *(use for use in one.uses if use != ALIGNED), *one.after),
            )
        )
    return jobs


def publish(experiments: Sequence[Experiment], results: Path, out: Path) -> list[str]:
    """Copy the tables that are there to ``out``; their names."""
    found = []
    out.mkdir(parents=True, exist_ok=True)
    for name in (name for experiment in experiments for name in experiment.writes):
        if (results / f"{name}.md").is_file():  # it is written last
            found.append(name)
            for file in results.glob(f"{name}.*"):
                shutil.copyfile(file, out / file.name)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("size", choices=("quick", "full"), help="see the top of this file")
    parser.add_argument("--base", help="a world_base to start from")
    parser.add_argument("--runs", type=Path, help="runs/papers/SIZE")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    experiments = chosen(options.only)
    runs = options.runs or Path("runs/papers") / options.size
    if options.base:
        model_folder(options.base)  # now, and not in each script
    jobs = jobs_of(experiments, size=options.size, runs=runs, base=options.base)
    runner = Runner(runs, workers=options.workers)
    try:
        runner.run(jobs)
    finally:
        found = publish(experiments, runs / RESULTS, options.out)
    for name, reason in runner.failed.items():
        tell(f"not run: {name}: {reason}")
    print(f"Wrote {len(found)} tables to {options.out}: {', '.join(found) or 'none yet'}")
    spent = seconds_spent(runs)
    print(f"{sum(spent) / 60:.0f} minutes in {len(spent)} sessions")
    return 1 if runner.failed else 0


if __name__ == "__main__":
    sys.exit(exit_code_with_jobs(main))
