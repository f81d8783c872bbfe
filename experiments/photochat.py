"""PhotoChat for real: when to share, what to say, what the photo shows; every row on the same dev
dialogues, beside what papers report.

    python experiments/photochat.py --home MODEL [--home MODEL_OF_ANOTHER_SEED] [--workers 2]

with PhotoChat in $SHOWTELL_DATA (or --train and --dev), MODEL what "showtell train home" wrote. Of
train 1,000 dialogues are held out: they set each row's calibration and threshold (those of a
model's card are such), and choose one decoding for all rows. Dev is asked once. Whatever is asked
is kept in --runs in parts of some dialogues: stopped, the same command goes on. What it finds out
about the zero-shot agent, RUNS/zero-shot-0/calibration.json, "showtell chat --lm" reads.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from published import without_folders
from runner import RESULTS, kept
from workers import run_all, slug, tell

from showtell.agent.local_engines import LocalLanguage
from showtell.agent.zero_shot import prompts_digest
from showtell.agent.zero_shot_gold import ZeroShotTalks
from showtell.cli.exits import exit_code_of
from showtell.data.photochat import HELD_OUT, split_held_out
from showtell.data.sources import open_data
from showtell.data.storage import write_atomically
from showtell.dialogue import Dialogue
from showtell.errors import UsageError, did_you_mean
from showtell.evaluation.compare import NO_SYSTEM, Cell, Column, Table, table_of
from showtell.evaluation.measures_photochat import PHOTOCHAT, positions_of
from showtell.evaluation.photochat_runs import (
    DECODINGS,
    LAST_TURNS,
    Calibration,
    ModelTalks,
    Talks,
    contexts_of,
    description_scores,
    merit,
    moment_scores,
    objects_of,
    perplexity_scores,
    reply_scores,
    search_scores,
    text_places,
)
from showtell.evaluation.reported import reported_rows
from showtell.evaluation.score_runs import Run
from showtell.evaluation.table_page import write
from showtell.metrics.encoders import load_sentence_encoder
from showtell.metrics.intervals import RESAMPLES, Value
from showtell.metrics.moment import keyword_score, tagged_text, tfidf_moment_scores
from showtell.metrics.report import current_commit, installed_versions, model_digest
from showtell.models.checkpoint import model_folder
from showtell.models.hub import index_parts
from showtell.models.named import named_folder
from showtell.models.two_heads import TEXTS
from showtell.papers import load_model
from showtell.progress import terminal_progress
from showtell.runtime import device_label

HOME, ZERO_SHOT, SMALL = "home", "zero-shot", "photochat_small"
TFIDF, KEYWORD, WORDS = "TF-IDF + logistic regression", "keyword rule", "the dialogue's own words"
TALKING, ROWS = (HOME, ZERO_SHOT, SMALL), (HOME, ZERO_SHOT, SMALL, TFIDF, KEYWORD, WORDS)
SHOWN = "what the photo shows"
COLUMNS = (
    Column("moment.f1", "moment F1", "when"),
    Column("moment.auprc", "AUPRC", "when"),
    Column("moment.ece", "ECE", "when", higher_is_better=False),
    Column("moment.brier", "Brier", "when", higher_is_better=False, unit=""),
    Column("text.psdg.bleu1", "BLEU-1", "words"),
    Column("text.psdg.bleu2", "BLEU-2", "words"),
    Column("text.psdg.rouge_l", "ROUGE-L", "words"),
    Column(
        "text.perplexity_per_word", "perplexity a word", "words", higher_is_better=False, unit=""
    ),
    Column("description.object_f1", "objects F1", SHOWN),
    *(
        Column(f"description.{name}.r{k}", f"R@{k}, {head}", SHOWN)
        for name, head in (("bm25", "BM25"), ("encoder", "encoder"))
        for k in (1, 5, 10)
    ),
)
NOTES = (
    "Rows marked *reported, test* are what papers print of PhotoChat's test split; all others are "
    "measured here on dev.",
    "moment: every position from the second turn to the share, the next speaker unknown. Our "
    "models sum over who speaks next; the zero-shot agent is asked as the one who did not speak "
    "last.",
    "P(share) of every row is calibrated by Platt on the held-out training dialogues, where its "
    "threshold is the best; a model's card has its own from the same dialogues.",
    "words: replies at a fixed sample of 1,000 text turns, as whoever spoke there. One decoding "
    "for all rows: the one with the highest mean of BLEU-1, BLEU-2 and ROUGE-L (mean over rows) "
    'on held-out dialogues. "showtell evaluate" takes the most likely words instead.',
    "perplexity a word: exp of -log p of the words of all text turns from the second on, by their "
    "number between spaces; marks and ends of turns are not counted.",
    "what the photo shows: at the gold photo turn the row describes the photo, greedily. Objects "
    "F1 is against the gold list; in a free description the names of training objects are looked "
    "for. R@k: the description asks the gold descriptions of all photos, by BM25 and by a "
    f'sentence encoder. "{WORDS}" asks with what was said before (the encoder: the last '
    f"{LAST_TURNS} turns).",
)


def main(arguments: Sequence[str] | None = None) -> int:
    told = list(sys.argv[1:] if arguments is None else arguments)
    return Bench(parser().parse_args(told), told).run()


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", action="append", metavar="MODEL", help="one a training seed")
    parser.add_argument("--lm", default="smollm2-135m-instruct", help="the zero-shot agent's LLM")
    parser.add_argument("--train", default="photochat:train", metavar="DATA")
    parser.add_argument("--dev", default="photochat:dev", metavar="DATA")
    parser.add_argument("--held", type=int, default=HELD_OUT, help="training dialogues held out")
    parser.add_argument("--choose", type=int, default=200, help="held-out replies for a decoding")
    parser.add_argument("--limit", type=int, help="dev dialogues; default: all")
    parser.add_argument("--decoding", choices=list(DECODINGS), help="default: chosen")
    parser.add_argument(
        "--sentence-encoder", metavar="DIR", help="default: the part, if it is here"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/photochat_table"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--part", type=int, default=96, help="dialogues that are kept together")
    parser.add_argument("--only", action="append", metavar="ROW", help="these rows; repeatable")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: in this one")
    parser.add_argument("--worker", nargs=2, metavar=("STEP", "ROW"), help=argparse.SUPPRESS)
    return parser


class Bench:
    """The command at work."""

    def __init__(self, options: argparse.Namespace, told: Sequence[str]) -> None:
        self.options, self.told = options, told
        for name in options.only or ():
            if name not in ROWS:
                raise UsageError(f'there is no row "{name}"{did_you_mean(name, ROWS)}')
        self.rows = [row for row in ROWS if not options.only or row in options.only]
        self.homes = options.home or [HOME]
        for home in self.homes if HOME in self.rows else ():
            model_folder(home)  # before hours of other rows
        self.failed: dict[str, str] = {}

    def run(self) -> int:
        """Ask held-out dialogues, choose a decoding, ask dev, write; 1 where a row failed."""
        if self.options.worker:
            step, row = self.options.worker
            self.step(step, row)
            return 0
        for step in ("held", "dev"):
            rows = [row for row in self.rows if row in TALKING and row not in self.failed]
            if self.options.workers:
                command = [__file__, *self.told, "--worker", step]
                jobs = {f"{row}, {step}": [*command, row] for row in rows}
                logs = self.options.runs / "logs"
                failed = run_all(jobs, logs=logs, workers=self.options.workers)
                self.failed |= {name.rpartition(", ")[0]: why for name, why in failed.items()}
            else:
                for row in rows:
                    self.step(step, row)
        self.publish()
        return 1 if self.failed else 0

    def step(self, step: str, row: str) -> None:
        """All that one of the talking rows is asked of held-out dialogues, or of dev."""
        for number in range(self.seeds_of(row)):
            if step == "held":
                self.calibration(row, number)
                if not self.options.decoding:
                    self.held_merits(row, number)
            else:
                self.read(row, number, self.dev, words=True)
                self.replies(row, number, self.dev, self.decoding, places=self.places)
                self.descriptions(row, number)

    # ------------------------------------------------------------------------------------- data

    @cached_property
    def split(self) -> tuple[list[Dialogue], list[Dialogue]]:
        """(those that are trained on, those held out) of train."""
        return split_held_out(open_data(self.options.train), count=self.options.held)

    @cached_property
    def dev(self) -> list[Dialogue]:
        return list(open_data(self.options.dev))[: self.options.limit]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        return text_places(self.dev)

    def held_places(self) -> list[tuple[int, int]]:
        return text_places(self.split[1], most=self.options.choose)

    # ------------------------------------------------------------------------------------- rows

    def seeds_of(self, row: str) -> int:
        return len(self.homes) if row == HOME else 1

    def name_of(self, row: str, number: int) -> str:
        return {HOME: self.homes[number], ZERO_SHOT: self.options.lm}.get(row, row)

    @cache  # noqa: B019 (one bench a process)
    def talks(self, row: str, number: int) -> Talks:
        name = self.name_of(row, number)
        if row == ZERO_SHOT:
            folder = named_folder(name, flag="--lm", told=terminal_progress)
            return ZeroShotTalks(LocalLanguage(folder, name=name))
        return ModelTalks(load_model(name))

    @cache  # noqa: B019
    def about(self, row: str, number: int) -> dict[str, str]:
        """What made a row's answers: others are not taken for them."""
        name = self.name_of(row, number)
        if row == ZERO_SHOT:
            return {"lm": name, "prompts": prompts_digest()}
        return {"model": model_digest(model_folder(name))}

    def kept_parts(
        self, row: str, number: int, what: str, items: Sequence[Any], make: Callable[..., list]
    ) -> list[Any]:
        """``make`` of some items at a time, each part made once; ``make`` gets where it begins."""
        found: list[Any] = []
        folder = self.options.runs / slug(f"{row} {number}")
        about = self.about(row, number)
        for start in range(0, len(items), self.options.part):
            part = items[start : start + self.options.part]
            digest = hashlib.sha256(repr(part).encode()).hexdigest()[:16]
            path = folder / f"{slug(what)}-{start:05}.json"
            began = time.monotonic()
            new = not path.is_file()
            found += kept(path, {**about, "of": digest}, partial(make, part, start))
            if new:
                done, took = start + len(part), time.monotonic() - began
                left = took / len(part) * (len(items) - done) / 60
                tell(f"{row}: {what} {done:,}/{len(items):,}, {took:.0f} s, {left:.0f} min left")
        return found

    def read(
        self, row: str, number: int, dialogues: Sequence[Dialogue], *, words: bool
    ) -> tuple[list[float], list[dict[int, float]]]:
        """(P(share) at all positions, -log p of words by turn) of dialogues."""

        def make(part: Sequence[Dialogue], start: int) -> list[Any]:
            found = self.talks(row, number).read(part, words=words, told=terminal_progress)
            return [[talk.chances, list(talk.word_nll.items())] for talk in found]

        what = "dev moments" if words else "held-out moments"
        found = self.kept_parts(row, number, what, dialogues, make)
        chances = [chance for talk, _ in found for chance in talk]
        return chances, [dict(pairs) for _, pairs in found]

    def replies(
        self,
        row: str,
        number: int,
        dialogues: Sequence[Dialogue],
        decoding: str,
        *,
        places: Sequence[tuple[int, int]],
    ) -> list[str]:
        cases = [(dialogues[b].turns[:k], dialogues[b].turns[k].speaker) for b, k in places]

        def make(part: Sequence[Any], start: int) -> list[str]:
            return self.talks(row, number).replies(part, DECODINGS[decoding], seed=start)

        kind = "dev" if dialogues is self.dev else "held-out"
        return self.kept_parts(row, number, f"{kind} replies {decoding}", cases, make)

    def descriptions(self, row: str, number: int) -> list[str]:
        def make(part: Sequence[Dialogue], start: int) -> list[str]:
            return self.talks(row, number).descriptions(part)

        return self.kept_parts(row, number, "dev descriptions", self.dev, make)

    # ------------------------------------------------------------------------ what is chosen on

    @cache  # noqa: B019
    def calibration(self, row: str, number: int) -> Calibration:
        """A model's own, of its card, or by the held-out dialogues."""
        if row in (HOME, SMALL):
            card = self.talks(row, number).model.card.get("moment")  # type: ignore[attr-defined]
            if card:
                return Calibration(**{key: card[key] for key in ("scale", "bias", "threshold")})
        held = self.split[1]
        if row in TALKING:
            found = Calibration.of(held, self.read(row, number, held, words=False)[0])
            plain = {**self.about(row, number), **dataclasses.asdict(found)}
            path = self.options.runs / slug(f"{row} {number}") / "calibration.json"
            write_atomically(path, (json.dumps(plain) + "\n").encode())
            return found
        return Calibration.of(held, self.lexical(row)[0])

    def held_merits(self, row: str, number: int) -> dict[str, float]:
        """What each decoding is worth on held-out replies."""
        held, places = self.split[1], self.held_places()
        return {
            name: merit(
                reply_scores(held, places, self.replies(row, number, held, name, places=places))
            )
            for name in DECODINGS
        }

    @cached_property
    def merits(self) -> dict[str, dict[str, float]]:
        """By row and decoding, of the rows that are asked."""
        rows = [row for row in self.rows if row in TALKING and row not in self.failed]
        return {row: self.held_merits(row, 0) for row in rows}

    @cached_property
    def decoding(self) -> str:
        """The one that was named, or the best on held-out dialogues, the same for all rows."""
        if self.options.decoding:
            return str(self.options.decoding)
        merits = self.merits.values()
        return max(DECODINGS, key=lambda name: sum(row[name] for row in merits))

    @cache  # noqa: B019
    def lexical(self, row: str) -> tuple[list[float], list[float]]:
        """(held-out, dev) scores of the rows that count words."""
        rest, held = self.split
        learn, tune, test = (positions_of(each) for each in (rest, held, self.dev))
        if row == KEYWORD:
            both = [[keyword_score(p.context) for p in each] for each in (tune, test)]
            return both[0], both[1]
        found = tfidf_moment_scores(
            [tagged_text(position.context) for position in learn],
            [int(position.shares) for position in learn],
            [tagged_text(position.context) for position in (*tune, *test)],
        ).tolist()
        return found[: len(tune)], found[len(tune) :]

    # ------------------------------------------------------------------------------ the table

    def publish(self) -> None:
        found: dict[str, list[Run]] = {}
        for row in self.rows:
            if row not in self.failed:
                runs = (self.scored(row, number) for number in range(self.seeds_of(row)))
                found[row] = [Run(scores=scores) for scores in runs]
        failed = {row: self.failed[row] for row in self.rows if row in self.failed}
        cells = table_of(found, COLUMNS, against=SMALL, absent=failed, protocol=PHOTOCHAT)
        page = write(
            {**cells, **reported()},
            COLUMNS,
            out=self.options.out,
            name="photochat",
            title="PhotoChat: when, what is said, what the photo shows",
            against=SMALL,
            notes=(*NOTES, *self.choice()),
            passport=self.passport(),
        )
        print(f"{page}\nWrote {self.options.out / 'photochat'}.md and .json")

    def scored(self, row: str, number: int) -> dict[str, Any]:
        """Every measure that a row has."""
        dev, encoder = self.dev, self.encoder
        if row == WORDS:
            last = contexts_of(dev, last=LAST_TURNS)
            return search_scores(dev, contexts_of(dev), encoder=encoder, encoded=last)
        calibration = self.calibration(row, number)
        if row not in TALKING:
            return moment_scores(dev, self.lexical(row)[1], calibration)
        chances, nll = self.read(row, number, dev, words=True)
        said = self.replies(row, number, dev, self.decoding, places=self.places)
        shown = self.descriptions(row, number)
        return {
            **moment_scores(dev, chances, calibration),
            **reply_scores(dev, self.places, said),
            **perplexity_scores(dev, nll),
            **description_scores(dev, shown, known=objects_of(self.split[0])),
            **search_scores(dev, shown, encoder=encoder),
        }

    @cached_property
    def encoder(self) -> Any:
        """The sentence encoder that was named, or the index's where it has been fetched."""
        part = index_parts()[TEXTS]
        name = self.options.sentence_encoder or (part.folder if part.here else None)
        return None if name is None else load_sentence_encoder(name)

    def choice(self) -> Iterator[str]:
        """What was chosen on held-out dialogues, and by what."""
        if self.options.decoding:
            yield f'decoding: "{self.decoding}", named by --decoding'
            return
        means = {n: sum(m[n] for m in self.merits.values()) / len(self.merits) for n in DECODINGS}
        told = "; ".join(f"{name} {100 * mean:.2f}" for name, mean in means.items())
        yield f'decoding: "{self.decoding}" (mean of BLEU-1, BLEU-2, ROUGE-L, %, held out: {told})'

    def passport(self) -> dict[str, str]:
        counts = {
            "dialogues": len(self.dev),
            "positions": len(positions_of(self.dev)),
            "replies": len(self.places),
        }
        systems = [
            f"{row} {' '.join(self.about(row, number).values())}"
            for row in TALKING
            if row in self.rows
            for number in range(self.seeds_of(row))
        ]
        encoder = self.encoder
        command = f"python experiments/photochat.py {shlex.join(self.told)}"
        return {
            "command": f"`{without_folders(command)}`",
            "data": ", ".join(
                f"{Path(name).name} {open_data(name).digest()[:16]}"
                for name in (self.options.train, self.options.dev)
            ),
            "N": ", ".join(f"{name} {count:,}" for name, count in counts.items()),
            "held out": f"{len(self.split[1]):,} of train's dialogues",
            "systems": "; ".join(map(without_folders, systems)),
            "training seeds of home": str(len(self.homes)) if HOME in self.rows else "",
            "sentence encoder": "" if encoder is None else without_folders(encoder.id),
            "bootstrap": f"{RESAMPLES:,} draws of dialogues",
            "products": "of bfloat16 numbers where an LLM is large and the device has them",
            "written on": device_label(),
            "commit": current_commit() or "not a git checkout",
            "versions": ", ".join(f"{key} {value}" for key, value in installed_versions().items()),
        }


def reported() -> Table:
    """What papers print, a row each, without intervals."""
    rows: dict[str, dict[str, Value]] = {}
    told: Iterable[Any] = (
        *reported_rows(PHOTOCHAT, ("photochat",), ""),
        *reported_rows(PHOTOCHAT, ("psdg",), "dialogue"),
    )
    for each in told:
        measure, _, who = each.name.partition(" of ")
        value = Value(value=each.value, n=0, protocol=PHOTOCHAT, note=each.source)
        rows.setdefault(f"{who.removeprefix('the ')} (*reported, {each.split}*)", {})[measure] = (
            value
        )
    names = {column.name for column in COLUMNS}
    return {
        who: {n: Cell(value=of.get(n), reason="" if n in of else NO_SYSTEM) for n in names}
        for who, of in rows.items()
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
