"""The frame of the papers' tables in small: rows are trained and measured once, kept, and printed.

A table is a ``Sheet``: its columns, and a function that measures its rows on a ``Bench``. A script
of this folder names its rows and sheets, and ends with ``main(...)``. Stopped at any point, the
same command goes on where it was; what was begun with other settings is refused, so that rows stay
comparable. --tiny runs everything once on next to nothing, for tests, and writes beside its runs
and not to docs/results.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jobs import slug, tell
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from showtell.data.sources import open_data
from showtell.data.storage import write_atomically
from showtell.dialogue import AGENT, Dialogue, Photo
from showtell.errors import ConfigError, UsageError, did_you_mean
from showtell.evaluation.answer import own_photos, write_texts
from showtell.evaluation.answered import ANSWERS, Answers
from showtell.evaluation.compare import Cell, Column, table_of
from showtell.evaluation.score_runs import FEW_PHOTOS, Run, photo_run, run_of
from showtell.evaluation.table_page import write
from showtell.evaluation.world_answers import world_answers
from showtell.evaluation.world_gold import Gold, Readers
from showtell.metrics.encoders import load_clip
from showtell.metrics.intervals import RESAMPLES
from showtell.metrics.paired import Scores, scores
from showtell.metrics.report import current_commit, installed_versions, model_digest
from showtell.models.checkpoint import model_folder
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.gold import described
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import Conditioning
from showtell.models.respond import Responder
from showtell.papers import load_model
from showtell.papers.forms import readable
from showtell.papers.minigpt5 import alignment_dialogue
from showtell.recipes import run_recipe
from showtell.recipes.registry import RECIPES
from showtell.runtime import device_label

RESULTS = Path("docs/results")
TINY = ("stage.batch_size=2", "num_dialogues=8", "calibration_dialogues=12")
AS_BUILT = "mapper not started by captions"  # with start_captions=0
ZERO_SHOT = "painter, zero-shot"  # the base's own: nothing is trained
BATCH = 32
Opener = Callable[[], PhotoDialogueModel]
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


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a recipe, the settings that make it this row, and jobs it waits for."""

    name: str
    settings: tuple[str, ...] = ()
    recipe: str = "world_mini"
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table: ``rows`` measures them, ``against`` is the row that all others are held to."""

    name: str
    title: str
    columns: Sequence[Column]
    against: str
    rows: Callable[[Bench], Rows]
    notes: Sequence[str] = ()
    absent: Callable[[Bench], Mapping[str, str]] = lambda bench: {}
    about: Callable[[Bench], Mapping[str, str]] = lambda bench: {}
    picture: Callable[[Bench, Path], Any] | None = None


def parser(doc: str | None, *, runs: str, limit: int = 500) -> argparse.ArgumentParser:
    """The options that all tables have; ``Bench`` finishes what it parses."""
    found = argparse.ArgumentParser(description=(doc or runs).splitlines()[0])
    found.add_argument("--base", help="a world_base to start from; default: the shipped parts")
    found.add_argument("--runs", type=Path, default=Path("runs") / runs)
    found.add_argument("--out", type=Path, help="default: docs/results")
    found.add_argument("--steps", type=int, default=2000, help="of each row's stage on dialogues")
    found.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")])
    found.add_argument("--limit", type=int, default=limit, help="dialogues to measure on")
    found.add_argument("--only", action="append", metavar="ROW", help="these rows; repeatable")
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    found.add_argument("--clip", help='the model of "showtell train world_contrastive"')
    found.add_argument(
        "--aligned",
        help="the model of a run of world_vokens with stage.steps=0, for all rows that else begin "
        "with an alignment of their own; {seed} in it is the row's seed",
    )
    found.add_argument("--tiny", action="store_true", help="next to nothing of everything")
    return found


def main(
    sheets: Sequence[Sheet],
    options: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
) -> int:
    """Measure, print and write all sheets of a script."""
    bench = Bench(options.parse_args(arguments))
    for sheet in sheets:
        bench.publish(sheet)
    return 0


class Bench:
    """A command: its options, the data and readers of its tables, what is kept of its rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.tiny = options, options.tiny
        self.runs: Path = options.runs
        if self.tiny:
            options.steps, options.limit, options.seeds = 1, 12, [0]
        self.seeds: list[int] = options.seeds or [0, 1, 2]
        self.out: Path = options.out or (self.runs if self.tiny else RESULTS)
        self.base = str(model_folder(options.base or "mini").resolve())

    @functools.cached_property
    def readers(self) -> Readers:
        """The shipped readers, and the CLIP that was named."""
        return Readers(clip=load_clip(self.options.clip) if self.options.clip else None)

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

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """All rows, or those of --only. Raises UsageError for a row that is not there."""
        names = [row.name for row in rows]
        for name in self.options.only or ():
            if name not in names:
                raise UsageError(f'there is no row "{name}"{did_you_mean(name, names)}')
        return [row for row in rows if not self.options.only or row.name in self.options.only]

    # ---------------------------------------------------------------------------------- training

    def trained(
        self,
        row: Row,
        seed: int,
        *,
        train: Callable[..., Path] = run_recipe,
        only_aligned: bool = False,
    ) -> Path:
        """The folder of the finished run of a row.

        Where there is an alignment stage it has half of the steps, or, if ``only_aligned``, all; or
        the row goes on from --aligned, which has had it.
        """
        config, options = RECIPES[row.recipe].config, self.options
        settings = schedule(row, options.steps)
        (first, *_) = config.stages
        aligns = first.name == "alignment"
        if aligns and options.aligned and "alignment.steps=0" not in row.settings:
            aligned = model_folder(options.aligned.format(seed=seed)).resolve()
            settings += [f"base={aligned}", "alignment.steps=0"]
        elif aligns:
            steps = options.steps if only_aligned else -(-options.steps // 2)
            warmup = round(first.warmup * steps / first.steps)
            settings += [f"alignment.steps={steps}", f"alignment.warmup={warmup}"]
            settings += ["stage.steps=0"] if only_aligned else []
            settings += ["alignment.batch_size=2"] if self.tiny else []
        out = self.runs / slug(f"{row.name}, seed {seed}")
        overrides = [f"base={self.base}", f"stage.steps={options.steps}", *settings]
        overrides += [*(TINY if self.tiny else ()), *options.settings, *row.settings]
        kept(out / "row.json", {"recipe": row.recipe, "settings": overrides}, dict)
        if not (out / "model" / "showtell.json").is_file():
            tell(f"training {row.name}, seed {seed}")
            train(row.recipe, overrides=overrides, out=out, resume=True, seed=seed)
        return out

    def runs_of(
        self, rows: Sequence[Row], *, only_aligned: bool = False
    ) -> Iterator[tuple[str, Path, Opener]]:
        """The name of each row, trained if it is not yet, the folder of each of its runs,
        and what opens the model. ``ZERO_SHOT`` is the base, which has one run and no training."""
        for row in rows:
            for seed in self.seeds[:1] if row.name == ZERO_SHOT else self.seeds:
                if row.name == ZERO_SHOT:
                    yield row.name, self.runs / "zero-shot", self.opener(self.base)
                else:
                    run = self.trained(row, seed, only_aligned=only_aligned)
                    yield row.name, run, self.opener(run)

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

    # --------------------------------------------------------------------------------- measuring

    def compared(
        self,
        rows: Sequence[Row],
        dialogues: Sequence[Dialogue] | None = None,
        *,
        train: Callable[..., Path] = run_recipe,
    ) -> dict[str, list[Run]]:
        """Train what is not trained, let it speak and paint on ``dialogues`` (None: those of the
        test split) where it has not, and score everything."""
        dialogues = self.data() if dialogues is None else dialogues
        gold = Gold(dialogues, self.readers)
        found: dict[str, list[Run]] = {}
        for row in rows:
            for seed in self.seeds:
                run = self.trained(row, seed, train=train)
                folder = run / f"answers-{len(dialogues)}-{slug(dialogues[0].id)}"
                if not (folder / ANSWERS).is_file():
                    tell(f"measuring {row.name}, seed {seed}")
                    world_answers(self.opener(run)(), dialogues, folder=folder, seed=0)
                answers = Answers.read(folder, dialogues, seed=0)
                found.setdefault(row.name, []).append(run_of(answers, gold))
        return found

    def photos(
        self,
        path: Path,
        make: Callable[[], Tensor],
        gold: Gold,
        counted: Mapping[str, Sequence[Collection[str]]] | None = None,
    ) -> Run:
        """What photos score, which are made once."""
        return photo_run(self.kept_photos(path, make, len(gold.dialogues)), gold, counted)

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

    # ----------------------------------------------------------------------------------- writing

    def publish(self, sheet: Sheet) -> None:
        """Measure, print and write a table; one without rows (--only named others) is left out."""
        rows = sheet.rows(self)
        if not rows:
            return
        num = max((len(s.rows_NS) for r in rows.values() for x in r for n, s in x.scores.items()
                   if n.startswith("photo.")), default=0)  # fmt: skip
        table = table_of(
            rows, sheet.columns, against=sheet.against, absent=sheet.absent(self), num_photos=num
        )
        options = self.options
        about = {
            "base": f"{Path(self.base).name}, digest {model_digest(self.base)}",
            "rows": f"{options.steps:,} steps, training seeds {', '.join(map(str, self.seeds))}",
            "settings": " ".join(options.settings),
            "photos": "painted by bfloat16 products, on a device that has them",
            "measuring CLIP": model_digest(options.clip) if options.clip else "",
            **sheet.about(self),
        }
        if sheet.picture:
            sheet.picture(self, self.out / f"{sheet.name}.png")
        write_sheet(
            table,
            sheet.columns,
            name=sheet.name,
            title=sheet.title,
            against=sheet.against,
            notes=sheet.notes,
            about=about,
            out=self.out,
        )


def write_sheet(
    table: Mapping[str, Mapping[str, Cell]],
    columns: Sequence[Column],
    *,
    about: Mapping[str, str],
    out: Path,
    name: str,
    **page: Any,
) -> None:
    """Print the table and write NAME.md and NAME.json to ``out`` with its passport."""
    passport = {
        "command": without_folders(
            f"`python experiments/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}`"
        ),
        "N": ", ".join(
            f"{column.head} {found[0].n:,}"
            for column in columns
            if (found := [c[column.name].value for c in table.values() if c[column.name].value])
        ),
        **about,
        "bootstrap": f"{RESAMPLES:,} draws of dialogues",
        "written on": device_label(),  # rows may have been trained elsewhere
        "commit": current_commit() or "not a git checkout",
        "versions": ", ".join(f"{key} {value}" for key, value in installed_versions().items()),
    }
    print(write(dict(table), columns, out=out, name=name, passport=passport, **page))
    print(f"Wrote {out / name}.md and .json")


def without_folders(text: str) -> str:
    """Absolute paths cut to their last two parts: a page names no machine."""
    return re.sub(r"/(?:[^/\s]+/)+([^/\s]+/[^/\s]+)", r"\1", text)


# -------------------------------------------------------------------------- what a system makes


def schedule(row: Row, steps: int) -> list[str]:
    """Warm-up at the same part of a row's run as in its recipe, however long it is."""
    stage = RECIPES[row.recipe].config.stage
    return [f"stage.warmup={round(stage.warmup * steps / stage.steps)}"]


def photos_in_place(
    model: PhotoDialogueModel, tasks: Sequence[Dialogue], *, decoding: Decoding | None = None
) -> Tensor:
    """A system's photos in the places of the gold ones: the agent's, one a task or more."""
    contexts = [
        task.turns[:k]
        for task in described(model, tasks)
        for k, turn in enumerate(task.turns)
        if turn.speaker == AGENT and turn.photos
    ]
    responder = Responder(Decoder(model, decoding=decoding))
    photos_N3HW = own_photos(responder, contexts, seed=0).pixels_N3HW
    if photos_N3HW is None:
        raise UsageError(f'"{model.name}" paints no photo; name a --base with a painter')
    return photos_N3HW


@torch.no_grad()
def painted_texts(model: PhotoDialogueModel, texts: Sequence[str]) -> Tensor:
    """What the painter alone makes of texts, the n-th from seed n; of a long text its text tower
    reads the words that it knows (``readable``), as many as it has room for."""
    painter, settings = model.painter, model.decoding
    if not isinstance(painter, LatentDiffusionPainter):
        raise UsageError(f'"{model.name}" has no painter that reads texts; name another --base')
    parts = []
    for start in range(0, len(texts), BATCH):
        part = [readable(text, painter.text) for text in texts[start : start + BATCH]]
        parts.append(
            painter.paint(
                Conditioning(cond_NSC=painter.text.encode(part)),
                num_steps=settings.num_steps,
                guidance=settings.guidance,
                seeds=range(start, start + len(part)),
            )
        )
    return torch.cat(parts)


def first_answer(task: Dialogue) -> int:
    return next(k for k, turn in enumerate(task.turns) if turn.speaker == AGENT)


def own_texts(model: PhotoDialogueModel, tasks: Sequence[Dialogue]) -> list[str]:
    """A system's texts in the places of the agent's first turns."""
    contexts = [task.turns[: first_answer(task)] for task in tasks]
    return write_texts(Decoder(model), contexts, seed=0)


# ---------------------------------------------------------------------------------------- tools


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


def with_scores(rows: Rows, more: Mapping[str, Sequence[Mapping[str, Scores]]]) -> Rows:
    """Rows with further measures of their runs, or rows of those alone."""
    found = {name: list(runs) for name, runs in rows.items()}
    for name, each in more.items():
        runs = found.get(name) or [Run(scores={}) for _ in each]
        found[name] = [
            replace(run, scores={**run.scores, **own}) for run, own in zip(runs, each, strict=True)
        ]
    return found


def means(name: str, pairs: Sequence[tuple[int, float]]) -> dict[str, Scores]:
    """A measure that is a mean of (what is drawn, value); {} without any."""
    if not pairs:
        return {}
    return {name: scores("mean", [n for n, _ in pairs], [float(value) for _, value in pairs])}
