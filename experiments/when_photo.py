"""When a photo comes: is the chance of it what it says, and what do decisions by it cost?

    python experiments/when_photo.py --fit MODEL       a card's calibration (moment.spoken)
    python experiments/when_photo.py [--home MODEL]    docs/results/when.md, when.png

with PhotoChat in $SHOWTELL_DATA. --fit reads held-out dialogues as an agent whose turn it is: dev
of the photo world for a model of its words, 1,000 of train for one of PhotoChat. The table asks
world test and PhotoChat dev; every threshold is set by the costs alone, of a chance that held-out
dialogues have calibrated. What was asked is kept in --runs: stopped, the same command goes on;
PhotoChat's moments are those that experiments/photochat.py keeps, in --photochat-runs.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import photochat
from PIL import Image, ImageDraw, ImageFont
from published import without_folders
from runner import RESULTS, kept
from workers import slug, tell

from showtell.agent.local_engines import LocalLanguage
from showtell.agent.when import threshold_of
from showtell.agent.zero_shot import prompts_digest
from showtell.agent.zero_shot_gold import ZeroShotTalks
from showtell.cli.exits import exit_code_of
from showtell.data.photochat import HELD_OUT, moment_positions, split_held_out
from showtell.data.sources import open_data
from showtell.dialogue import Dialogue
from showtell.evaluation.compare import Column, table_of
from showtell.evaluation.measures_photochat import calibrated, platt, positions_of, rendered_moments
from showtell.evaluation.score_runs import Run
from showtell.evaluation.table_page import write
from showtell.metrics.intervals import RESAMPLES
from showtell.metrics.moment import keyword_score
from showtell.metrics.paired import Scores, scores
from showtell.metrics.pictures import save_picture
from showtell.metrics.report import current_commit, installed_versions, model_digest
from showtell.models.checkpoint import model_folder, read_description
from showtell.models.folders import write_json
from showtell.models.gold import described, read_gold, share_chances
from showtell.models.named import named_folder
from showtell.papers import load_model
from showtell.progress import terminal_progress
from showtell.runtime import device_label

COSTS = (1, 3, 10)  # of an unwanted photo, where a missed one costs 1
OURS, PLAIN = "ours: mini, home", "ours at plain 0.5 of what it says"
BEST, ZERO_SHOT, SMALL = "p*, the best possible", "zero-shot LLM", "photochat_small"
TFIDF, KEYWORD, SAYS = "TF-IDF + logistic regression", "keyword rule, calibrated", "keyword rule"
ALWAYS, NEVER = "always", "never"
ROWS = (OURS, PLAIN, BEST, SMALL, ZERO_SHOT, TFIDF, KEYWORD, SAYS, ALWAYS, NEVER)
DATA = {"world": "world test", "photochat": "PhotoChat dev"}
COLUMNS = tuple(
    column
    for name, group in DATA.items()
    for column in (
        Column(f"{name}.moment.auprc", "AUPRC", group),
        Column(f"{name}.moment.ece", "ECE", group, higher_is_better=False),
        Column(f"{name}.moment.brier", "Brier", group, higher_is_better=False, unit=""),
        *(
            Column(
                f"{name}.moment.cost_{cost}",
                f"cost at {cost}:1",
                f"{group}: what 100 positions cost",
                higher_is_better=False,
                unit="",
            )
            for cost in COSTS
        ),
    )
)
NOTES = (
    "Positions: on world test each turn of the agent's but a dialogue's first, its chance that of "
    "an agent whose turn it is; on PhotoChat dev each from the second turn to the share, the next "
    "speaker unknown.",
    "A chance is calibrated by Platt on held-out dialogues: mini, the keyword rule and the "
    "zero-shot LLM on world dev (the LLM on its first {few}), the rest on 1,000 of PhotoChat's "
    "train; mini's and home's stand on their cards.",
    "cost at U:1: an unwanted photo costs U, a missed one 1; a photo is shared where the "
    "calibrated chance is at least U / (U + 1). Nothing was chosen on what is measured. "
    "PhotoChat's dev was looked at for cost once before, by a script that is not kept. A row whose "
    'chances never reach a threshold costs there what "never" does.',
    '"{plain}" shares at 0.5 of what the model says, whatever the cost; its ECE and Brier are of '
    'that. "{says}" shares where its words stand.',
    "{best}: what the photo world's own dice were, by which its dialogues were made.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    told = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fit", metavar="MODEL", help="write a card's calibration, and nothing")
    parser.add_argument("--mini", default="mini", metavar="MODEL", help="who is asked of the world")
    parser.add_argument("--home", default="home", metavar="MODEL", help="who of PhotoChat")
    parser.add_argument("--lm", default="smollm2-135m-instruct", help="the zero-shot LLM")
    parser.add_argument("--world-dev", default="world:dev", metavar="DATA")
    parser.add_argument("--world-test", default="world:test", metavar="DATA")
    parser.add_argument("--few", type=int, default=300, help="of world dev, for the zero-shot LLM")
    parser.add_argument("--train", default="photochat:train", metavar="DATA")
    parser.add_argument("--dev", default="photochat:dev", metavar="DATA")
    parser.add_argument("--held", type=int, default=HELD_OUT, help="training dialogues held out")
    parser.add_argument("--part", type=int, default=96, help="dialogues that are kept together")
    parser.add_argument("--runs", type=Path, default=Path("runs/when"))
    parser.add_argument("--photochat-runs", type=Path, default=Path("runs/photochat_table"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(told)
    if options.fit:
        fit(options.fit, options)
    else:
        Bench(options, told).publish()
    return 0


# ---------------------------------------------------------------------------------- a model's card


def fit(name: str, options: argparse.Namespace) -> None:
    """Write ``moment.spoken`` into the card of a model's folder: how the chance that it says at its
    own turn is read. Its weights and its threshold stay."""
    folder, model = model_folder(name), load_model(name)
    if model.card.get("words") == "world":
        data = options.world_dev
        world = World.of(model, list(open_data(data)))
        shared_M, said_M = world.shared_M, world.said_M
    else:
        data = f"{options.train}, {options.held:,} held out"
        held = split_held_out(open_data(options.train), count=options.held)[1]
        rows = rendered_moments(model.renderer, held)
        found = share_chances(model, rows, told=terminal_progress)
        shared_M, said_M = found.shared_M.astype(bool), found.spoken_M
    scale, bias = platt(shared_M, said_M)
    told = {"scale": scale, "bias": bias, "positions": len(said_M), "data": data}
    description = read_description(folder)
    description["card"].setdefault("moment", {})["spoken"] = told
    write_json(folder / "showtell.json", description)
    print(f"Wrote {told} into {folder / 'showtell.json'}")


# -------------------------------------------------------------------------------------- positions


@dataclass(frozen=True, kw_only=True)
class World:
    """What a model says at the agent's turns of the world's dialogues, all but the first."""

    dialogues: list[Dialogue]
    places: list[tuple[int, int]]  # (dialogue, turn)
    shared_M: np.ndarray
    said_M: np.ndarray

    @classmethod
    def of(cls, model: Any, dialogues: list[Dialogue]) -> World:
        read = read_gold(model, described(model, dialogues), batch_size=32)
        later_M = read.later_M
        places = zip(read.dialogue_M[later_M], read.turn_M[later_M], strict=True)
        return cls(
            dialogues=dialogues,
            places=[(int(b), int(k)) for b, k in places],
            shared_M=read.shared_M[later_M].astype(bool),
            said_M=read.p_share_M[later_M].astype(np.float64),
        )

    @property
    def p_star_M(self) -> np.ndarray:
        return np.array([self.dialogues[b].turns[k].labels["p_share"] for b, k in self.places])

    @property
    def keyword_M(self) -> np.ndarray:
        return np.array([keyword_score(self.dialogues[b].turns[:k]) for b, k in self.places])


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row on some data: the chances as they are read, or None; where it shares at each cost."""

    read_M: np.ndarray | None
    shares: Mapping[int, np.ndarray]

    @classmethod
    def by(cls, read_M: np.ndarray) -> Row:
        """By the threshold of each cost."""
        return cls(read_M=read_M, shares={c: read_M >= threshold_of(c) for c in COSTS})

    @classmethod
    def fixed(cls, chosen_M: np.ndarray, read_M: np.ndarray | None = None) -> Row:
        """Whatever it costs."""
        return cls(read_M=read_M, shares=dict.fromkeys(COSTS, chosen_M))

    def scores(self, name: str, shared_M: np.ndarray, of_M: Sequence[int]) -> dict[str, Scores]:
        found = {
            f"{name}.moment.cost_{cost}": scores(
                "mean", of_M, 100 * np.where(shared_M, ~chosen_M, cost * chosen_M)
            )
            for cost, chosen_M in self.shares.items()
        }
        if self.read_M is not None:
            pairs_M2 = np.stack([shared_M, self.read_M], axis=1)
            found |= {
                f"{name}.moment.auprc": scores("auprc", of_M, pairs_M2),
                f"{name}.moment.ece": scores("ece", of_M, pairs_M2),
                f"{name}.moment.brier": scores("mean", of_M, (self.read_M - shared_M) ** 2),
            }
        return found


def by_platt(held: tuple[np.ndarray, np.ndarray], said_M: np.ndarray) -> np.ndarray:
    """Calibrated by what was shared, and said, of held-out positions."""
    scale, bias = platt(*held)
    return calibrated(said_M, scale=scale, bias=bias)


# ------------------------------------------------------------------------------------- the command


class Bench:
    """The command at work."""

    def __init__(self, options: argparse.Namespace, told: Sequence[str]) -> None:
        self.options, self.told = options, told
        of_photochat = photochat.parser().parse_args(["--home", options.home])
        of_photochat.runs = options.photochat_runs
        for name in ("lm", "train", "dev", "held", "part"):
            setattr(of_photochat, name, getattr(options, name))
        self.photochat = photochat.Bench(of_photochat, told)

    # ------------------------------------------------------------------------------- the world

    @cached_property
    def zero_shot(self) -> ZeroShotTalks:
        folder = named_folder(self.options.lm, flag="--lm", told=terminal_progress)
        return ZeroShotTalks(LocalLanguage(folder, name=self.options.lm))

    def asked(self, world: World, what: str, *, most: int | None = None) -> np.ndarray:
        """What the zero-shot LLM says at the places of the first dialogues, a part at a time."""
        settings = {"lm": self.options.lm, "prompts": prompts_digest(), "what": what}
        found, num = list[float](), len(world.dialogues[:most])
        for start in range(0, num, self.options.part):
            part = range(start, min(start + self.options.part, num))

            def ask(part: range = part) -> list[float]:
                said: list[float] = []
                for b in part:
                    turns = world.dialogues[b].turns
                    contexts = [turns[:k] for of, k in world.places if of == b]
                    said += self.zero_shot.chances_after(contexts)
                tell(f"zero-shot, {what}: {part.stop:,}/{num:,}")
                return said

            path = self.options.runs / f"zero-shot-{slug(what)}-{start:05}.json"
            found += kept(path, {**settings, "part": [part.start, part.stop]}, ask)
        return np.array(found)

    def world(self) -> tuple[dict[str, Row], World]:
        """Rows on world test."""
        model = load_model(self.options.mini)
        held, test = (
            World.of(model, list(open_data(name)))
            for name in (self.options.world_dev, self.options.world_test)
        )
        first_M = np.array([b < self.options.few for b, _ in held.places])
        asked = self.asked(held, self.options.world_dev, most=self.options.few)
        told = self.asked(test, self.options.world_test)
        own = model.card.get("moment", {}).get("spoken", {})
        read_M = calibrated(test.said_M, scale=own.get("scale", 1.0), bias=own.get("bias", 0.0))
        return {
            OURS: Row.by(read_M),
            PLAIN: Row.fixed(test.said_M >= 0.5, test.said_M),
            BEST: Row.by(test.p_star_M),
            ZERO_SHOT: Row.by(by_platt((held.shared_M[first_M], asked), told)),
            KEYWORD: Row.by(by_platt((held.shared_M, held.keyword_M), test.keyword_M)),
            SAYS: Row.fixed(test.keyword_M > 0),
        }, test

    # ------------------------------------------------------------------------------- PhotoChat

    def talks(self) -> tuple[dict[str, Row], np.ndarray]:
        """Rows on PhotoChat dev, and what was shared."""
        bench, found = self.photochat, {}
        for name, row in zip((OURS, ZERO_SHOT, SMALL), photochat.TALKING, strict=True):
            said = bench.read(row, 0, bench.dev, words=True)[0]
            found[name] = Row.by(bench.calibration(row, 0)(said))
            if name == OURS:
                found[PLAIN] = Row.fixed(np.array(said) >= 0.5, np.array(said))
        for name, row in ((TFIDF, photochat.TFIDF), (KEYWORD, photochat.KEYWORD)):
            said = bench.lexical(row)[1]
            found[name] = Row.by(bench.calibration(row, 0)(said))
        found[SAYS] = Row.fixed(np.array(said) > 0)
        return found, np.array([position.shares for position in positions_of(bench.dev)], bool)

    # ------------------------------------------------------------------------------- the table

    def publish(self) -> None:
        world, test = self.world()
        talks, shared_M = self.talks()
        of_M = [b for b, each in enumerate(self.photochat.dev) for _ in moment_positions(each)]
        measured = (
            ("world", world, test.shared_M, [b for b, _ in test.places]),
            ("photochat", talks, shared_M, of_M),
        )
        found: dict[str, dict[str, Scores]] = {row: {} for row in ROWS}
        curves = []
        for name, rows, wanted_M, of in measured:
            rows[ALWAYS] = Row.fixed(np.ones_like(wanted_M))
            rows[NEVER] = Row.fixed(np.zeros_like(wanted_M))
            for row, each in rows.items():
                found[row] |= each.scores(name, wanted_M, of)
            lines = {row: rows[row].read_M for row in (OURS, PLAIN, ZERO_SHOT)}
            curves.append((DATA[name], wanted_M, lines))
        save_picture(reliability(curves), self.options.out / "when.png")
        runs = {row: [Run(scores=own)] for row, own in found.items() if own}
        table = table_of(runs, COLUMNS, against=OURS)
        texts = {"plain": PLAIN, "says": SAYS, "best": BEST, "few": self.options.few}
        page = write(
            table,
            COLUMNS,
            out=self.options.out,
            name="when",
            title="When a photo comes: chances and costs",
            against=OURS,
            notes=[
                *(note.format(**texts) for note in NOTES),
                "![How often a photo came, by the chance that was told](when.png)",
            ],
            passport=self.passport(len(test.places), len(shared_M)),
        )
        print(f"{page}\nWrote {self.options.out / 'when'}.md, .json and .png")

    def passport(self, num_world: int, num_talks: int) -> dict[str, str]:
        names = (self.options.world_test, self.options.train, self.options.dev)
        command = f"python experiments/when_photo.py {shlex.join(self.told)}"
        return {
            "command": f"`{without_folders(command)}`",
            "data": ", ".join(
                f"{Path(name).name} {open_data(name).digest()[:16]}".strip() for name in names
            ),
            "N": f"positions of world test {num_world:,}, of PhotoChat dev {num_talks:,}",
            "systems": ", ".join(
                f"{Path(name).name} {model_digest(model_folder(name))}"
                for name in (self.options.mini, self.options.home, SMALL)
            ),
            "zero-shot LLM": f"{Path(self.options.lm).name}, prompts {prompts_digest()}",
            "bootstrap": f"{RESAMPLES:,} draws of dialogues",
            "written on": device_label(),
            "commit": current_commit() or "not a git checkout",
            "versions": ", ".join(f"{key} {value}" for key, value in installed_versions().items()),
        }


# ------------------------------------------------------------------------------------- the picture


def reliability(
    curves: Sequence[tuple[str, np.ndarray, Mapping[str, np.ndarray | None]]],
) -> Image.Image:
    """By data a square: the chance that was told along, how often a photo came upwards, a point a
    tenth, its area by how many positions it stands for."""
    side, edge, font = 380, 56, ImageFont.load_default(14)
    inks = ("#1660a8", "#8fb8de", "#c0562f")
    sheet = Image.new("RGB", (len(curves) * (side + edge) + edge, side + 150), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, shared_M, lines) in enumerate(curves):
        left, top = edge + number * (side + edge), 40
        pen.text((left, 12), title, fill="black", font=font)
        pen.rectangle((left, top, left + side, top + side), outline="#888888")
        pen.line((left, top + side, left + side, top), fill="#bbbbbb")
        for tenth in range(0, 11, 2):
            at = side * tenth / 10
            pen.text((left + at - 10, top + side + 4), f"{tenth / 10:.1f}", fill="black", font=font)
            pen.text((left - 30, top + side - at - 8), f"{tenth / 10:.1f}", fill="black", font=font)
        for (name, read_M), ink in zip(lines.items(), inks, strict=True):
            if read_M is None:
                continue
            tenth_M = np.minimum((read_M * 10).astype(int), 9)
            points = []
            for tenth in np.unique(tenth_M):
                inside_M = tenth_M == tenth
                x = left + side * read_M[inside_M].mean()
                y = top + side * (1 - shared_M[inside_M].mean())
                points.append((x, y))
                wide = 2 + 10 * float(np.sqrt(inside_M.mean()))
                pen.ellipse((x - wide, y - wide, x + wide, y + wide), fill=ink)
            pen.line(points, fill=ink, width=2)
            row = top + side + 28 + 20 * list(lines).index(name)
            pen.rectangle((left, row, left + 12, row + 12), fill=ink)
            pen.text((left + 18, row - 2), name, fill="black", font=font)
    return sheet


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
