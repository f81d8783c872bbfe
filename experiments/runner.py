"""The one way that the papers' tables in small are made: rows are trained and measured once, kept,
and printed.

A ``Sheet`` is a table: its rows, its columns, and how rows are measured on a ``Bench``. A script of
this folder names rows and sheets; ``table`` makes its command of them. Stopped at any point, the
same command goes on where it was; what was begun with other settings is refused, so that rows stay
comparable. With --workers N a row and training seed is a process of its own, N at a time: the same
command with --worker ROW, which keeps what it made on disk and prints nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from making import Opener, own_photos_in_place, painted_texts
from published import publish
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor
from workers import run_all, slug, tell

from showtell.config import override
from showtell.data.sources import open_data
from showtell.data.storage import write_atomically
from showtell.dialogue import Dialogue, Photo
from showtell.errors import ConfigError, UsageError, did_you_mean
from showtell.evaluation.answered import ANSWERS, Answers
from showtell.evaluation.compare import Column
from showtell.evaluation.score_runs import FEW_PHOTOS, Run, photo_run, run_of
from showtell.evaluation.world_answers import world_answers
from showtell.evaluation.world_gold import Gold, Readers
from showtell.metrics.encoders import load_clip
from showtell.models.checkpoint import model_folder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.open_album import open_album
from showtell.models.painter import LatentDiffusionPainter
from showtell.papers import load_model
from showtell.papers.minigpt5 import alignment_dialogue
from showtell.recipes import run_recipe
from showtell.recipes.registry import RECIPES
from showtell.runtime import device_label

RESULTS = Path("docs/results")
Rows = Mapping[str, Sequence[Run]]
PHOTO_NOTE = (
    "Photos are each row's own, at the agent's gold photo turns, painted from its own description; "
    "attributes are those that the dialogue determines, read by the oracle."
)
SEED_NOTE = (
    "A cell is the mean over training seeds; its interval is over dialogues and tells nothing of "
    "other training seeds. The single seeds stand in the JSON."
)
CLIP_NOTES = (
    "CLIP-I, CLIP-T and similarity are cosines of a small CLIP of the world (--clip, the model of "
    '"showtell train world_contrastive"), and not to be compared with figures of OpenAI\'s CLIP.',
    f"FID and IS stand in the oracle's features, from {FEW_PHOTOS:,} photos on; KID beside them.",
    SEED_NOTE.replace("dialogues", "examples"),
)


# ------------------------------------------------------------------------------ what a table is


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a recipe and the settings that make it this row.

    recipe: "" for the base as it is, of which nothing is trained
    aligned_only: it ends after its stage of alignment, which gets all of the steps
    paints_texts: it is a painter alone, which reads texts and no dialogue
    train: what stands in for ``run_recipe``
    after: the row whose finished run it goes on from, in the place of the base
    """

    name: str
    settings: tuple[str, ...] = ()
    recipe: str = "world_mini"
    aligned_only: bool = False
    paints_texts: bool = False
    train: Callable[..., Path] | None = None
    after: Row | None = None


ZERO_SHOT = Row(name="painter, zero-shot", recipe="", paints_texts=True)


@dataclass(frozen=True, kw_only=True)
class Point:
    """What is read before photos are made: the tasks, or the texts by a row that paints texts. A
    row that has nothing to read is left out here.

    counted: further measures, by the attributes that count for each photo
    guidance: in the place of the model's own
    """

    tasks: Sequence[Dialogue] = ()
    texts: Sequence[str] = ()
    counted: Mapping[str, Sequence[Collection[str]]] = field(default_factory=dict)
    guidance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table. ``measure`` trains and measures rows; ``against`` is the row that all others are
    held to; with ``floors`` stand rows of photos that no system made."""

    name: str
    title: str
    rows: tuple[Row, ...]
    columns: Sequence[Column]
    against: str
    measure: Callable[[Bench, Sequence[Row]], Rows]
    notes: Sequence[str] = ()
    floors: bool = False


def table(
    file: str,
    doc: str | None,
    *sheets: Sheet,
    runs: str = "",
    steps: int = 2000,
    limit: int = 500,
    **numbers: int,
) -> Callable[[Sequence[str] | None], int]:
    """The command of a script: its sheets, measured, printed and written.

    ``runs`` is the folder that it shares with others; ``numbers`` are options of its own.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--base", default="mini", help="a world_base; default: the shipped parts")
    parser.add_argument("--runs", type=Path, default=Path("runs") / (runs or Path(file).stem))
    parser.add_argument("--out", type=Path, help="default: docs/results")
    parser.add_argument("--steps", type=int, default=steps, help="of each row's last stage")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")])
    parser.add_argument("--limit", type=int, default=limit, help="dialogues to measure on")
    parser.add_argument("--only", action="append", metavar="ROW", help="these rows; repeatable")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--clip", help='the model of "showtell train world_contrastive"')
    parser.add_argument(
        "--aligned",
        help="the model of a run of world_vokens with stage.steps=0, for all rows that else begin "
        "with an alignment of their own; {seed} in it is the row's seed",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: in this one")
    parser.add_argument("--worker", metavar="ROW", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help="next to nothing of everything")
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)

    def main(arguments: Sequence[str] | None = None) -> int:
        told = list(sys.argv[1:] if arguments is None else arguments)
        options = parser.parse_args(told)
        if options.tiny:
            options.steps, options.limit, options.seeds = 1, 12, [0]
            vars(options).update(dict.fromkeys(numbers, 3))
        return Bench(options, [file, *told]).run(sheets)

    return main


# ------------------------------------------------------------------------------------- the bench


class Bench:
    """A command at work: its options, the data and readers of its tables, what is kept."""

    def __init__(self, options: argparse.Namespace, command: Sequence[str]) -> None:
        self.options, self.command, self.tiny = options, command, options.tiny
        self.runs: Path = options.runs
        self.seeds: list[int] = options.seeds or [0, 1, 2]
        self.out: Path = options.out or (self.runs if self.tiny else RESULTS)
        self.base = str(model_folder(options.base).resolve())
        self.failed: dict[str, str] = {}  # rows, and why
        self._scored: dict[Path, Run] = {}

    def run(self, sheets: Sequence[Sheet]) -> int:
        """Train, measure, print and write all sheets; 1 where a row could not be run."""
        rows = {row.name: row for sheet in sheets for row in sheet.rows}
        wanted = [self.options.worker] if self.options.worker else self.options.only
        for name in wanted or ():
            if name not in rows:
                raise UsageError(f'there is no row "{name}"{did_you_mean(name, rows)}')
        chosen = [row for row in rows.values() if not wanted or row.name in wanted]
        if self.options.workers and not self.options.worker:
            jobs = {
                f"{row.name}, seed {n}": [*self.command, "--worker", row.name, "--seeds", str(n)]
                for row in chosen
                for n in self.seeds_of(row)
            }
            failed = run_all(jobs, logs=self.runs / "logs", workers=self.options.workers)
            self.failed = {name.rpartition(", seed ")[0]: why for name, why in failed.items()}
        for sheet in sheets:
            own = [row for row in chosen if row in sheet.rows and row.name not in self.failed]
            found = sheet.measure(self, own) if own else {}
            if found and not self.options.worker:
                publish(self, sheet, own, found)
        return 1 if self.failed else 0

    def seeds_of(self, row: Row) -> list[int]:
        """What is not trained is the same with all seeds."""
        return self.seeds if row.recipe else self.seeds[:1]

    # ------------------------------------------------------------------------------------- data

    @functools.cached_property
    def readers(self) -> Readers:
        """The shipped readers, and the CLIP that was named."""
        return Readers(clip=load_clip(self.options.clip) if self.options.clip else None)

    @functools.cached_property
    def gold(self) -> Gold:
        """The world's test dialogues."""
        return Gold(self.data(), self.readers)

    def data(self, kind: str = "") -> list[Dialogue]:
        """The first ``limit`` of the world's test data of a kind (dialogues, tiny: some with
        photos)."""
        first = 100_106 if self.tiny and not kind else 100_000
        span = f"{first}-{first + self.options.limit - 1}"
        return list(open_data(f"world:{kind}:{span}" if kind else f"world:{span}"))

    def captions(self) -> list[Dialogue]:
        """The first captions of the test split, each with the photo to be made of it: what UAS of
        2310.02239 and ``world_gill_captions`` learn from."""
        tasks = []
        for photo in (dialogue.photos[0] for dialogue in self.data("photos")):
            labels = {**photo.labels, "determined": photo.labels["stated"]}
            tasks.append(alignment_dialogue(photo.caption, Photo(id=photo.id, labels=labels)))
        return tasks

    # --------------------------------------------------------------------------------- training

    def trained(self, row: Row, seed: int) -> Path:
        """The folder of the finished run of a row."""
        out = self.runs / slug(f"{row.name}, seed {seed}")
        if row.recipe:
            settings = self.settings(row, seed)
            about = {"recipe": row.recipe, "settings": settings}
            kept(out / "row.json", about, lambda: {"device": device_label()})
        if row.recipe and not (out / "model" / "showtell.json").is_file():
            tell(f"training {row.name}, seed {seed}")
            train = row.train or run_recipe
            train(row.recipe, overrides=settings, out=out, resume=True, seed=seed)
        return out

    def settings(self, row: Row, seed: int) -> list[str]:
        """What makes the recipe the row. Stages warm up at the same part of their steps as in the
        recipe. One of alignment has half of the steps, or all (``aligned_only``); or the row goes
        on from --aligned, which has had it."""
        config, options = RECIPES[row.recipe].config, self.options
        base = self.base if row.after is None else self.trained(row.after, seed) / "model"
        found = [f"base={base}", *schedule(config.stage, "stage", options.steps)]
        first = config.stages[0]
        if first.name == "alignment":
            if options.aligned and not row.aligned_only and "alignment.steps=0" not in row.settings:
                aligned = model_folder(options.aligned.format(seed=seed)).resolve()
                found += [f"base={aligned}", "alignment.steps=0"]
            else:
                steps = options.steps if row.aligned_only else -(-options.steps // 2)
                found += schedule(first, "alignment", steps)
        found += ["stage.steps=0"] if row.aligned_only else []
        found += [*options.settings, *row.settings]
        if self.tiny:
            config = override(config, found)
            found += ["num_dialogues=8", "calibration_dialogues=12"]
            few = {key: min(8, getattr(config, key)) for key in ("album_photos", "start_captions")}
            few["start_dialogues"] = min(24, config.start_dialogues)
            found += [f"{key}={count}" for key, count in few.items()]
            for stage in config.stages:
                found += [f"{stage.name}.steps={min(1, stage.steps)}", f"{stage.name}.batch_size=2"]
        return found

    def runs_of(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Path, Opener]]:
        """Each row, trained if it is not yet, with the folder of each of its runs, and what opens
        the model."""
        for row in rows:
            for seed in self.seeds_of(row):
                run = self.trained(row, seed)
                yield row, run, self.opener(run if row.recipe else self.base)

    def opener(self, folder: str | Path) -> Opener:
        """Opens a model that is going to be measured, once: its photos are many, and painted in
        bfloat16."""

        @functools.cache
        def opened() -> PhotoDialogueModel:
            model = load_model(str(folder))
            if isinstance(model.painter, LatentDiffusionPainter):
                model.painter.bfloat16_products = True
            if self.tiny:
                model.decoding = replace(model.decoding, num_steps=1, max_new_tokens=4)
            return model

        return opened

    # -------------------------------------------------------------------------------- measuring

    def answers(self, row: Row, seed: int, gold: Gold | None = None, **most: int) -> Answers:
        """What a row says and paints on the gold dialogues (None: the test split's), made once."""
        dialogues, run = (gold or self.gold).dialogues, self.trained(row, seed)
        folder = run / slug(f"answers {len(dialogues)} {dialogues[0].id} {sorted(most.items())}")
        if not (folder / ANSWERS).is_file():
            tell(f"measuring {row.name}, seed {seed}")
            model, album = self.opener(run if row.recipe else self.base)(), run / "album"
            shows = model.painter is None and album.is_dir()
            album_of = open_album(model, album) if shows else None
            world_answers(model, dialogues, folder=folder, seed=0, album=album_of, **most)
        return Answers.read(folder, dialogues, seed=0)

    def compared(
        self, rows: Sequence[Row], gold: Gold | None = None, **most: int
    ) -> dict[str, list[Run]]:
        """Rows that speak and paint, with every measure that their answers have."""
        found: dict[str, list[Run]] = {}
        for row in rows:
            for seed in self.seeds:
                answers = self.answers(row, seed, gold, **most)
                if answers.folder not in self._scored and not self.options.worker:
                    costs = costs_of(self.trained(row, seed))
                    self._scored[answers.folder] = run_of(answers, gold or self.gold, costs)
                scored = self._scored.get(answers.folder, Run(scores={}))
                found.setdefault(row.name, []).append(scored)
        return found

    def shown(
        self, name: str, rows: Sequence[Row], points: Mapping[str, Point], gold: Gold
    ) -> dict[str, list[Run]]:
        """The photos of rows at each point, a row "ROW; POINT" each; ``name`` is the table's."""
        found: dict[str, list[Run]] = {}
        for row, run, model in self.runs_of(rows):
            for head, point in points.items():
                read = point.texts if row.paints_texts else point.tasks
                if not read:
                    continue
                make = painted_texts if row.paints_texts else own_photos_in_place
                paint = functools.partial(make, model, read, guidance=point.guidance)
                path = run / f"{slug(f'{name} {head}')}.safetensors"
                photos_N3HW = self.kept_photos(path, paint, len(gold.dialogues))
                scored = Run(scores={})
                if not self.options.worker:
                    scored = photo_run(photos_N3HW, gold, point.counted)
                found.setdefault(f"{row.name}; {head}" if head else row.name, []).append(scored)
        return found

    def kept_photos(self, path: Path, make: Callable[[], Tensor], num: int) -> Tensor:
        """Photos (N, 3, H, W) in [0, 1] of ``num`` tasks, made once."""

        def paint() -> int:
            tell(f"painting {path}")
            photos_N3HW = (make().float().clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
            write_atomically(path, save_tensors({"photos_N3HW": photos_N3HW}))
            return len(photos_N3HW)

        self.kept(path.with_suffix(".json"), paint, num)
        return load_file(path)["photos_N3HW"].float() / 255

    def kept(self, path: Path, make: Callable[[], Any], num: int) -> Any:
        """JSON of ``num`` tasks, made once."""
        return kept(path, {"tasks": num, "base": self.base}, make)


# ---------------------------------------------------------------------------------------- tools


def schedule(stage: Any, name: str, steps: int) -> list[str]:
    """So many steps, and warm-up at the same part of them as the recipe's stage has."""
    warmup = round(stage.warmup * steps / stage.steps)
    return [f"{name}.steps={steps}", f"{name}.warmup={warmup}"]


def costs_of(run: Path) -> dict[str, float]:
    """What training a row cost: seconds of its stages, and what moved in any; with those of the
    alignment that it goes on from. Nothing of what was not trained."""
    if not (run / "row.json").is_file():
        return {}
    runs = [run]
    for setting in json.loads((run / "row.json").read_text())["settings"]["settings"]:
        if (
            setting.startswith("base=")
            and (parent := Path(setting[5:]).parent / "row.json").is_file()
        ):
            runs.append(parent.parent)
    histories = [json.loads(path.read_text()) for r in runs for path in r.rglob("history.json")]
    seconds = [max(r["seconds"] for r in h if "seconds" in r) for h in histories if h]
    moved: dict[str, int] = {}
    for path in (path for r in runs for path in r.rglob("state/state.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no dict)
                if name.startswith("model/"):
                    moved[name] = int(torch.Size(tensors.get_slice(name).get_shape()).numel())
    return {"cost.training_seconds": sum(seconds), "cost.trained": float(sum(moved.values()))}


def kept(path: Path, settings: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What ``make`` gave, as JSON; made once. Raises ConfigError if it was with other settings."""
    if not path.is_file():
        plain = {"settings": dict(settings), "value": make()}
        write_atomically(path, (json.dumps(plain) + "\n").encode())
    found = json.loads(path.read_text())
    if found["settings"] != json.loads(json.dumps(dict(settings))):
        raise ConfigError(
            f'"{path}" was made with {found["settings"]}; wanted {dict(settings)}, so that all '
            f'rows are alike; remove the folder "{path.parent}", or name another --runs'
        )
    return found["value"]
