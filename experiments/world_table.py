"""The comparison of all systems on the photo world: sh experiments/world_table.sh quick|full

Trains every row of ``ROWS`` from one base, with the same data in the same order, steps and
decoding, lets each speak and paint on the same dialogues, and writes docs/results/world.json,
world.md and examples.png. What is done is not done again: stopped at any point, the same
command goes on. Two rows at a time, one thread each.

quick   1 seed, 500 dialogues. The base is the shipped model's parts (or --base FOLDER). 82 minutes
        on 2 cores where a step of the end-to-end model takes 1.2 s (with ten rows and 1,000 steps
        of alignment; eleven and 600 now), and as much longer as a step takes elsewhere.
full    3 seeds, 5,500 dialogues (over 2,000 photos, for FID and IS), rows trained as in quick, the
        CLIP that measures and Divter's codes for longer. Trains world_base itself, four hours on 2
        cores (or --base FOLDER). From the shipped parts 14 minutes on a GPU (H200, 16 cores,
        --workers 17), and 7 to score; on 2 cores some 20 hours by its parts' costs, not run.
dry     12 dialogues and one step of everything, to see that it runs.

A row whose recipe does not exist, or failed, is "not run" in the table, with the reason. --seed N
trains with that seed alone; world_seeds.py puts such tables together.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jobs import (
    Job,
    Runner,
    exit_code_with_jobs,
    record_of,
    seconds_spent,
    slug,
    tell,
    training,
)
from runner import Row, without_folders, write_sheet
from safetensors import safe_open

from showtell.batch import to_image
from showtell.cli import main as showtell
from showtell.config import override
from showtell.data.photos import load_photo
from showtell.data.sources import open_data
from showtell.errors import ConfigError, UsageError, did_you_mean
from showtell.evaluation.answered import ANSWERS, Answers
from showtell.evaluation.compare import COLUMNS, floors, table_of
from showtell.evaluation.score_runs import Run, run_of
from showtell.evaluation.world_answers import through_vae, world_answers
from showtell.evaluation.world_gold import Gold, Readers, text_places
from showtell.metrics.encoders import load_clip
from showtell.metrics.meteor import open_wordnet
from showtell.metrics.pictures import contact_sheet, save_picture
from showtell.metrics.report import model_digest
from showtell.models.checkpoint import model_folder
from showtell.models.respond import open_album
from showtell.papers import load_model
from showtell.papers.minigpt5 import ABLATIONS
from showtell.recipes.registry import RECIPES

# ------------------------------------------------------------------------------- what is compared


# In settings stand values of ``Size`` ({before}, {batch}, {warmup}, {album}) and the models of the
# jobs that a row needs: {codes}, and {alignment} of the same seed.
PIPELINE, ALIGNMENT = "pipeline", "alignment"
_SEEING = ("seeing.steps={before}", "seeing.batch_size={batch}", "seeing.warmup={warmup}")
_ALIGNED = ("base={alignment}", "alignment.steps=0")
_DESCRIBED = (*_ALIGNED, *ABLATIONS["described"])
_FIRST, _CODES = (ALIGNMENT,), ("codes",)
ROWS = tuple(
    Row(name=name, recipe=recipe, settings=settings, needs=needs)
    for name, recipe, settings, needs in (
        ("end-to-end v1", "world_mini", (), ()),
        ("end-to-end v2", "world_v2", _SEEING, ()),
        ("vokens, LoRA", "world_vokens", _ALIGNED, _FIRST),
        ("vokens, prefix", "world_vokens_prefix", _ALIGNED, _FIRST),
        ("vokens, LoRA, described", "world_vokens", _DESCRIBED, _FIRST),
        ("GILL", "world_gill", ("album_photos=0",), ()),
        (PIPELINE, "world_pipeline", (), ()),
        ("Divter", "world_divter", ("codes={codes}", "pretrained=true"), _CODES),
        (
            "Divter, translator untrained",
            "world_divter",
            ("codes={codes}", "pretrained=false"),
            _CODES,
        ),
        ("text only", "world_text", (), ()),
        ("retrieval only", "world_retrieval", ("album_photos={album}",), ()),
    )
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything. ``steps``: of each row's stage on dialogues; ``before`` it: of v2's
    stage of seeing; ``aligned``: of the stage that the rows with vokens have in common; ``album``:
    photos that the row without a painter may show."""

    data: str
    seeds: tuple[int, ...]
    steps: int
    batch: int
    warmup: int
    before: int
    aligned: int
    calibration: int  # dev dialogues for the threshold on P(share)
    replies: int
    answers: int
    album: int = 2000
    rows: tuple[str, ...] = ()  # settings of every row
    base: tuple[str, ...] | None = None  # settings of world_base; None: the shipped parts
    contrastive: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


_TINY_CLIP = ("num_photos=12", "num_held=6", "width=16", "layers=1", "text_layers=1") + (
    "projection=8",
    "stage.steps=1",
    "stage.batch_size=4",
)
_QUICK = Size(
    data="world:100000-100499",
    seeds=(0,),
    steps=450,
    batch=32,
    warmup=40,
    before=500,
    aligned=600,
    calibration=300,
    replies=300,
    answers=100,
    rows=("stage.ema=0.95", "stage.save_minutes=1"),
    contrastive=("num_photos=12000", "stage.steps=400"),
    codes=(
        "num_photos=12000",
        "vq.steps=500",
        "translator.steps=400",
        "contrastive.steps=300",
    ),
)
SIZES = {
    "quick": _QUICK,
    "dry": Size(  # everything once, tiny: to see that it runs
        data="world:100106-100117",
        seeds=(0,),
        steps=1,
        batch=2,
        warmup=1,
        before=1,
        aligned=1,
        calibration=12,
        replies=4,
        answers=2,
        album=8,
        rows=("num_dialogues=8",),
        contrastive=_TINY_CLIP,
        codes=("num_codes=16", "translator_width=32", "translator_layers=1")
        + ("vq.steps=1", "vq.batch_size=4", "translator.steps=1", "translator.batch_size=2")
        + tuple(setting.replace("stage.", "contrastive.") for setting in _TINY_CLIP),
    ),
    "full": replace(  # its rows are trained as quick's
        _QUICK,
        data="world:100000-105499",
        seeds=(0, 1, 2),
        replies=1000,
        rows=("stage.ema=0.95", "stage.save_minutes=5"),
        base=(),
        contrastive=(),
        codes=(),
    ),
}
INSTRUMENTS = ("contrastive", "codes")  # jobs whose model is no dialogue model
CLIP_SEED = 1_000  # of the measuring CLIP: no row ever trained or ranked with it


# ------------------------------------------------------------------------------------------- jobs


def jobs_of(
    size: Size, rows: Sequence[Row], *, runs: Path, base: str | None
) -> tuple[list[Job], str]:
    """All trainings and evaluations, in the order in which they are begun; and the base."""
    jobs = []

    def train(name: str, recipe: str, settings: Sequence[str], seed: int, *needs: str) -> Path:
        out = runs / slug(name)
        jobs.append(
            training(
                name,
                recipe,
                settings,
                out=out,
                seed=seed,
                writes="report.json" if name in INSTRUMENTS else "showtell.json",
                needs=needs,
                impossible=impossible(recipe, settings),
            )
        )
        return out / "model"

    first: tuple[str, ...] = ()
    needed = {need for row in rows for need in row.needs}
    if base is None and size.base is not None:
        base, first = str(train("base", "world_base", size.base, 0)), ("base",)
    base = base or str(model_folder("mini").resolve())
    train("contrastive", "world_contrastive", size.contrastive, CLIP_SEED)
    codes = runs / "codes" / "model"
    if "codes" in needed:
        train("codes", "world_codes", (f"start={base}", *size.codes), 0, *first)
    common = (
        f"base={base}",
        f"stage.steps={size.steps}",
        f"stage.batch_size={size.batch}",
        f"stage.warmup={size.warmup}",
        f"calibration_dialogues={size.calibration}",
        *size.rows,
    )
    for seed in size.seeds:
        places = {**asdict(size), "codes": codes}
        if ALIGNMENT in needed:
            settings = [
                *common,
                f"alignment.steps={size.aligned}",
                f"alignment.batch_size={size.batch}",
                f"alignment.warmup={size.warmup}",
                "stage.steps=0",
            ]
            name = alignment_of(seed)
            places[ALIGNMENT] = train(name, "world_vokens", settings, seed, *first)
        for row in rows:
            name = f"{row.name}, seed {seed}"
            settings = [*common, *(setting.format(**places) for setting in row.settings)]
            train(name, row.recipe, settings, seed, *first, *needs_of(row, seed))
            run, out = runs / slug(name), runs / "outputs" / slug(name)
            jobs.append(
                Job(
                    name=f"{name}, evaluated",
                    arguments=(__file__, "answer", str(run), size.data, str(out))
                    + ("--replies", str(size.replies), "--answers", str(size.answers)),
                    out=out,
                    goal=out / ANSWERS,
                    needs=(name,),
                )
            )
    return jobs, base


def alignment_of(seed: int) -> str:
    """The job that trains the vokens of a seed, before their rows do."""
    return f"alignment, seed {seed}"


def needs_of(row: Row, seed: int) -> list[str]:
    """The jobs that come before a row's own."""
    return [alignment_of(seed) if need == ALIGNMENT else need for need in row.needs]


def impossible(recipe: str, settings: Sequence[str]) -> str:
    """Why a recipe cannot be run so; "" where it can."""
    if recipe not in RECIPES:
        return f'there is no recipe "{recipe}"'
    try:
        override(RECIPES[recipe].config, list(settings))
    except ConfigError as error:
        return str(error)
    return ""


# ----------------------------------------------------------------------------------- evaluation


def answer(run: Path, data: str, out: Path, *, replies: int, answers: int) -> int:
    """Let the model of a run speak and paint on ``data``; write its answers to ``out``."""
    model, spoke = load_model(str(run)), 0.0
    album = run / "album"

    def told(what: str, done: int, total: int) -> None:
        nonlocal spoke
        if done >= total or time.monotonic() - spoke > 60:
            spoke = time.monotonic()
            tell(f"{what} {done:,}/{total:,}")

    world_answers(
        model,
        list(open_data(data)),
        folder=out,
        seed=0,
        most_texts=replies,
        most_answers=answers,
        album=open_album(model, album) if model.painter is None and album.is_dir() else None,
        told=told,
    )
    return 0


def costs_of(runs: Sequence[Path], peak: int) -> dict[str, float]:
    """What the training of a row cost: seconds of the stages of its runs, what moved in any."""
    histories = [json.loads(path.read_text()) for r in runs for path in r.rglob("history.json")]
    seconds = [max(r["seconds"] for r in h if "seconds" in r) for h in histories if h]
    moved: dict[str, int] = {}
    for path in (path for run in runs for path in run.rglob("state/state.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no dict)
                if name.startswith("model/"):
                    shape = tensors.get_slice(name).get_shape()
                    moved[name] = int(torch.Size(shape).numel())
    return {"cost.training_seconds": sum(seconds), "cost.trained": float(sum(moved.values()))} | (
        {"cost.peak_memory": peak / 1e6} if peak else {}
    )


def table(
    size: Size,
    rows: Sequence[Row],
    *,
    runs: Path,
    base: str,
    failed: Mapping[str, str],
    out: Path,
    wordnet: str | None,
    notes: Sequence[str],
) -> None:
    """Score what was said, compare, and write all files to ``out``."""
    readers = Readers(
        clip=load_clip(runs / "contrastive" / "model"),
        wordnet=open_wordnet(wordnet) if wordnet else None,
    )
    dialogues = list(open_data(size.data))
    gold = Gold(dialogues, readers)
    systems: dict[str, list[Run]] = {}
    said: dict[str, Answers] = {}  # of the first seed
    absent: dict[str, str] = {}
    for row in rows:
        names = [f"{row.name}, seed {seed}" for seed in size.seeds]
        reasons = [failed[n] for name in names for n in (name, f"{name}, evaluated") if n in failed]
        if reasons:
            absent[row.name] = without_folders(reasons[0])
            continue
        for seed, name in zip(size.seeds, names, strict=True):
            trained = [name, *(need for need in needs_of(row, seed) if need not in INSTRUMENTS)]
            peak = max(record_of(runs, one).get("peak_memory_bytes", 0) for one in trained)
            costs = costs_of([runs / slug(one) for one in trained], peak)
            answers = Answers.read(runs / "outputs" / slug(name), dialogues, seed=0)
            said.setdefault(row.name, answers)
            tell(f"scoring {name}")
            systems.setdefault(row.name, []).append(run_of(answers, gold, costs))
    num = len(gold.photos)
    compared = table_of(systems, against=PIPELINE, absent=absent, num_photos=num)
    compared = {row.name: compared[row.name] for row in rows}
    compared |= floors(through_vae(load_model(base), gold.pixels_N3HW), gold)
    texts = len(text_places(dialogues, seed=0, most=size.replies))
    spent = seconds_spent(runs)
    write_sheet(
        compared,
        COLUMNS,
        name="world",
        title="The photo world: all systems from one base",
        against=PIPELINE,
        notes=[*NOTES, *notes],
        out=out,
        about={
            "base": f"{Path(base).name}, digest {model_digest(model_folder(base))}",
            "data": f"{size.data}: {len(dialogues):,} dialogues, {num:,} of the agent's "
            f"photos, {len(gold.seen):,} comments, {texts:,} replies",
            "seeds": f"training {', '.join(map(str, size.seeds))}; evaluation 0",
            "steps": f"{size.steps:,} of {size.batch} dialogues; before them, {size.aligned:,} of "
            f"alignment (vokens, once for all their rows) and {size.before:,} of seeing (v2)",
            "time": f"{sum(spent) / 60:.0f} min in {len(spent)} sessions: of all that ran in its "
            "folder",
            "device": devices_of(runs, systems, seed=size.seeds[0]),
            "settings": json.dumps(asdict(size)),
        },
    )
    examples(said, gold, out / "examples.png", count=8)


def examples(said: Mapping[str, Answers], gold: Gold, path: Path, *, count: int) -> None:
    """The first ``count`` of the agent's photos, as each system shows them: none is picked."""
    shown = {name: a.of("photo") for name, a in said.items() if a.pixels("photo") is not None}
    images, captions = [], []
    for number, photo in enumerate(gold.photos[:count]):
        images.append(to_image(gold.pixels_N3HW[number]))
        captions.append(f"true photo\n{photo.caption}")
        for name, answers in shown.items():
            images.append(load_photo(said[name].folder / answers[number].photos[0]))
            captions.append(f"{name}\n{answers[number].said['caption'] or '(no words)'}")
    if images:
        title = f"the first {min(count, len(gold.photos))} photos of the data, unpicked"
        save_picture(contact_sheet(images, captions, columns=1 + len(shown), title=title), path)


def devices_of(runs: Path, rows: Iterable[str], *, seed: int) -> str:
    """What the rows were trained on; where that is several things, each with its rows."""
    found: dict[str, list[str]] = {}
    for name in rows:
        device = record_of(runs, f"{name}, seed {seed}").get("device", "unknown")
        found.setdefault(device, []).append(name)
    if len(found) == 1:
        return next(iter(found))
    return ". ".join(f"{device}: {'; '.join(names)}" for device, names in found.items())


NOTES = (
    "Latency was measured while other rows ran beside it, as many as the passport says. Peak "
    "memory is that of the process, without a GPU's own.",
    "Perplexity is that of the words of the agent's text turns, so that systems with tokens of "
    "their own for photos can stand beside the others; all share one tokenizer.",
    "Similarity, CLIP-I, CLIP-T and MM-Relevance are cosines of a small CLIP trained on the "
    "world's photos and captions, with a seed that no row has; they are not to be compared with "
    "figures of OpenAI's CLIP or of S-BERT.",
    "Photos are each system's own, at the agent's gold photo turns: painted from its own "
    "description, or found by it.",
    "Trained parameters and seconds are those of all stages of the row, alignment too; what the "
    "base's and Divter's codes took before is not counted.",
)
SHIPPED_NOTE = (
    "The base is the shipped model's parts, which have been trained end to end before: the "
    "end-to-end rows go on with their own training, the others begin another. Name a true "
    "world_base by --base, or run full, where this is not so."
)


# ------------------------------------------------------------------------------------ the command


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="size", required=True)
    for name in SIZES:
        one = commands.add_parser(name, help=f"{name}: see the top of this file")
        one.add_argument("--base", help="a world_base to start from")
        one.add_argument("--runs", type=Path, help="runs/world_table/SIZE")
        one.add_argument("--seed", type=int, help="the only training seed (see world_seeds.py)")
        one.add_argument("--out", type=Path, default=Path("docs/results"))
        one.add_argument("--only", action="append", metavar="ROW", help="these rows; repeatable")
        one.add_argument("--workers", type=int, default=2, help="0: in this process")
        one.add_argument("--wordnet", help="a folder with corpora/wordnet, for METEOR")
    one = commands.add_parser("answer", help="a job: what a run says on data")
    one.add_argument("run", type=Path)
    one.add_argument("data")
    one.add_argument("out", type=Path)
    one.add_argument("--replies", type=int, required=True)
    one.add_argument("--answers", type=int, required=True)
    options = parser.parse_args(arguments)
    if options.size == "answer":
        values = {key: getattr(options, key) for key in ("replies", "answers")}
        return answer(options.run, options.data, options.out, **values)
    return compare(options)


def compare(options: argparse.Namespace) -> int:
    """Run what is not done, and write the table; 1 where a row could not be run."""
    known = [row.name for row in ROWS]
    for name in options.only or ():
        if name not in known:
            raise UsageError(f'there is no row "{name}"{did_you_mean(name, known)}')
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    size = SIZES[options.size]
    runs = options.runs or Path("runs/world_table") / options.size
    if options.base is not None:
        size = replace(size, base=None)
    if options.seed is not None:
        size = replace(size, seeds=(options.seed,))
    jobs, base = jobs_of(size, rows, runs=runs, base=options.base)
    runner = Runner(runs, workers=options.workers, call=call_here)
    runner.run(jobs)
    if "contrastive" in runner.failed:
        raise UsageError(f"the measuring CLIP is missing: {runner.failed['contrastive']}")
    shipped = model_folder(base).resolve() == model_folder("mini").resolve()
    table(
        size,
        rows,
        runs=runs,
        base=base,
        failed=runner.failed,
        out=options.out,
        wordnet=options.wordnet,
        notes=[SHIPPED_NOTE] if shipped else [],
    )
    for name, reason in runner.failed.items():
        tell(f"not run: {name}: {reason}")
    return 1 if runner.failed else 0


def call_here(arguments: Sequence[str]) -> int:
    """A job in this process."""
    if list(arguments[:2]) == ["-m", "showtell"]:
        return showtell(arguments[2:])
    return main(arguments[1:])


if __name__ == "__main__":
    sys.exit(exit_code_with_jobs(main))
