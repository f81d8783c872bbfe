"""What the experiments of 2408.08650 and GILL's checks share: rows on the photo world, what each
says and paints on the same test dialogues or captions, and a table of it
(``evaluation/table.py``)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _rows import Row, trained
from jobs import slug

from photoworld.scenes import TEST_SEEDS
from photoworld.talk import world_dialogue
from showtell.data.world import load_oracle
from showtell.dialogue import Dialogue, Photo
from showtell.evaluation.outputs import OUTPUTS, Outputs, outputs_of
from showtell.evaluation.scored import Gold, Instruments
from showtell.evaluation.table import COLUMNS, Cell, Column, Run, Table, table_of
from showtell.metrics.paired import Scores, difference, run_value
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.papers import DvtmConfig, load_model
from showtell.papers.minigpt5 import alignment_dialogue
from showtell.recipes import RECIPES, run_recipe
from showtell.training.features import captioned_scene

PHOTO_NOTE = (
    "Photos are each row's own, at the agent's gold photo turns, painted from its own description; "
    "attributes are those that the dialogue determines, read by the oracle."
)
SEED_NOTE = (
    "A cell is the mean over training seeds; its interval is over dialogues and tells nothing of "
    "other training seeds. The single seeds stand in the JSON."
)


def columns_of(*names: str) -> tuple[Column, ...]:
    """Columns of the comparison by their names."""
    return tuple(column for column in COLUMNS if column.name in names)


def instruments() -> Instruments:
    """The shipped readers; no CLIP, which would have to be trained first."""
    return Instruments(
        oracle=load_oracle("oracle"),
        encoder=load_oracle("encoder"),
        clip=None,
    )


def opened(folder: str | Path) -> PhotoDialogueModel:
    """A model that is going to be measured: its photos are many, and painted in bfloat16."""
    model = load_model(str(folder))
    if isinstance(model.painter, LatentDiffusionPainter):
        model.painter.bfloat16_products = True
    return model


def test_dialogues(options: argparse.Namespace) -> tuple[str, list[Dialogue]]:
    """The name of the data, and the first dialogues of the test split (tiny: some with photos)."""
    first = TEST_SEEDS[106 if options.tiny else 0]
    seeds = range(first, first + options.limit)
    return f"world:{seeds[0]}-{seeds[-1]}", [world_dialogue(seed) for seed in seeds]


def test_captions(options: argparse.Namespace) -> tuple[str, list[Dialogue]]:
    """The name of the data, and the first captions of the test split, each with the photo to be
    made of it: what UAS of 2310.02239 and ``world_gill_captions`` learn from."""
    seeds = TEST_SEEDS[: options.limit]
    tasks = []
    for seed in seeds:
        scene, caption, stated = captioned_scene(seed)
        labels = {"scene": scene.as_dict(), "stated": list(stated), "determined": list(stated)}
        tasks.append(alignment_dialogue(caption, Photo(id=f"photo-{seed}", labels=labels)))
    return f"captions:{seeds[0]}-{seeds[-1]}", tasks


def schedule(row: Row, options: argparse.Namespace) -> list[str]:
    """Warm-up and annealing at the same part of a row's run as in its recipe, however long it is:
    in a short run the temperature would else hardly fall."""
    config = RECIPES[row.recipe].config()
    part = options.steps / config.stage.steps
    settings = [f"stage.warmup={round(config.stage.warmup * part)}"]
    if isinstance(config.bridge, DvtmConfig):
        settings.append(f"bridge.annealing_epochs={config.bridge.annealing_epochs * part}")
    return settings


def run_of(
    row: Row,
    seed: int,
    options: argparse.Namespace,
    *,
    train: Callable[..., Path] = run_recipe,
) -> Path:
    """The folder of the finished run of a row (see ``_rows.trained``)."""
    return trained(row, seed, options, train=train, settings=schedule(row, options))


def compared(
    rows: Sequence[Row],
    options: argparse.Namespace,
    *,
    against: str,
    train: Callable[..., Path] = run_recipe,
    tests: Callable[[argparse.Namespace], tuple[str, list[Dialogue]]] = test_dialogues,
) -> Table:
    """Train what is not trained, let it speak and paint on the ``tests`` where it has not, and
    score everything."""
    data, dialogues = tests(options)
    systems: dict[str, list[Run]] = {}
    for row in rows:
        for seed in options.seeds:
            run = run_of(row, seed, options, train=train)
            folder = run / f"outputs-{slug(data)}"
            if not (folder / OUTPUTS).is_file():
                print(f"measuring {row.name}, seed {seed}", file=sys.stderr, flush=True)
                outputs_of(opened(run), dialogues, data=data, seed=0, most_answers=0).save(folder)
            systems.setdefault(row.name, []).append(Run(outputs=Outputs.load(folder), costs={}))
    return table_of(systems, Gold(dialogues, instruments(), seed=0), against=against)


def add_column(
    table: Table,
    column: Column,
    systems: Mapping[str, Sequence[Mapping[str, Scores]]],
    *,
    against: str,
) -> None:
    """A column of measures that ``compared`` does not know: for each system, those of its runs."""

    def runs(name: str) -> list[Scores]:
        return [run[column.name] for run in systems.get(name, ()) if column.name in run]

    for name in systems:
        ours, theirs = runs(name), runs(against) if name != against else []
        if ours:
            value = run_value(
                ours, seed=0, higher_is_better=column.higher_is_better, unit=column.unit
            )
            table.setdefault(name, {})[column.name] = Cell(
                value=value,
                against=difference(ours, theirs, seed=0) if theirs else None,
                runs=tuple(run.value() for run in ours),
            )
