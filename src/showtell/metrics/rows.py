"""The rows of a score, one after the other: what is measured, with what, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell.data.photos import load_photo
from showtell.errors import DataError
from showtell.metrics.answers import Record
from showtell.metrics.encoders import (
    CLIP_FILES,
    SENTENCE_FILES,
    load_clip,
    load_sentence_encoder,
    pixels_of,
)
from showtell.metrics.inception import FILE as INCEPTION_FILE
from showtell.metrics.intervals import Value, bootstrap, grouped, mean_value
from showtell.metrics.meteor import TOKENS, meteor, meteor_exact_stem, open_wordnet
from showtell.metrics.moment import moment_values
from showtell.metrics.perceptual import FILE as LPIPS_FILE
from showtell.metrics.perceptual import SIDE, load_lpips
from showtell.metrics.protocols import Protocol
from showtell.metrics.relevance import (
    Relevance,
    aligned,
    cosines,
    minigpt5_relevance,
    minigpt5_text,
    mmdialog_relevance,
    mmdialog_text,
    text_before_photo,
)
from showtell.metrics.report import digest, model_digest
from showtell.metrics.retrieval import decision_values, retrieval_values
from showtell.metrics.set_rows import CHUNK, SETS, SetFeatures, inception_features, set_values
from showtell.metrics.text import CORPUS, distinct_n, perplexity_value, text_values
from showtell.runtime import Progress, dealt, gathered, quiet

Pairs = Sequence[tuple[Record, Record]]
LOWER = ("lpips", "fid", "fid_infinity", "kid", "perplexity")  # the rest: the higher the better
FEW = 100  # fewer pairs than this and the intervals themselves are rough


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What the rows of photos and of meaning need: folders, files or hub ids; or objects.

    ``clip`` and ``relevance_clip`` have ``texts``, ``photos`` and perhaps ``id``;
    ``sentence_encoder`` is called with texts; ``features`` stand in for ``inception``.
    """

    clip: Any = None
    relevance_clip: Any = None
    sentence_encoder: Any = None
    inception: str | Path | None = None
    features: SetFeatures | None = None
    lpips: str | Path | None = None
    wordnet: str | Path | None = None


class Rows:
    """``values``, ``used`` (encoders, by role) and ``warnings`` of one score."""

    def __init__(
        self,
        protocol: Protocol,
        pairs: Pairs,
        *,
        encoders: Encoders = Encoders(),  # noqa: B008 (frozen)
        only: Sequence[str] = (),
        seed: int,
        told: Progress = quiet,
    ) -> None:
        self.protocol = protocol
        self.pairs = pairs
        self.encoders = encoders
        self.only = only
        self.seed = seed
        self.told = told
        self.values: dict[str, Value] = {}
        self.used: dict[str, str] = {}
        self.warnings: list[str] = []
        self.cut: dict[str, int] = {}

    def _wants(self, *names: str) -> bool:
        known = (*self.protocol.text, *self.protocol.photo, "relevance")
        return any(name in known and (not self.only or name in self.only) for name in names)

    def _absent(self, kind: str, names: Iterable[str], needs: str) -> None:
        """Rows without a value, that say what they need; an error where they were asked for."""
        for name in filter(self._wants, names):
            if name in self.only:
                raise DataError(f"{name} cannot be measured: {needs}")
            self.values[f"{kind}.{self.protocol.name}.{name}"] = Value(
                value=None,
                n=0,
                higher_is_better=name not in LOWER,
                protocol=self.protocol.name,
                note=f"not measured: {needs}",
            )

    def _mean(
        self, name: str, values: Sequence[float], dialogues: Sequence[str], note: str = ""
    ) -> None:
        """A row of the mean over answers or photos, dialogues resampled where they have several.

        Texts of minigpt5: the mean over dialogues of their own means.
        """
        protocol = self.protocol.name
        low_is_better = name.rpartition(".")[2] in LOWER
        if not name.startswith("text.minigpt5"):
            self.values[name] = mean_value(
                values,
                seed=self.seed,
                groups=_repeated(dialogues),
                higher_is_better=not low_is_better,
                protocol=protocol,
                note=note,
                unit="" if low_is_better else "fraction",
            )
            return
        sums_G, sizes_G = (
            grouped(np.asarray(x), dialogues) for x in (values, np.ones(len(values)))
        )
        means_G = sums_G / sizes_G
        low, high = bootstrap(lambda c: (c @ means_G) / c.sum(1), len(means_G), seed=self.seed)
        note = "; ".join(part for part in (note, f"dialogues, of {len(values):,} turns") if part)
        mean = float(means_G.mean())
        self.values[name] = Value(
            value=mean, low=low, high=high, n=len(means_G), protocol=protocol, note=note
        )

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        self.told(what, 0, 1)
        yield
        self.told(what, 1, 1)

    # ------------------------------------------------------------------------------------ texts

    def texts(self) -> None:
        kept = [(said, wanted) for said, wanted in self.pairs if wanted.texts]
        if not kept:
            return
        said = [one.text for one, _ in kept]
        wanted = [[other.text, *other.alternatives] for _, other in kept]
        dialogues = [other.dialogue for _, other in kept]
        name = self.protocol.name
        if self._wants("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
            with self._step("texts"):
                if name in CORPUS:
                    groups = _repeated(dialogues)
                    rows = text_values(said, wanted, protocol=name, seed=self.seed, groups=groups)
                    self.values |= {k: v for k, v in rows.items() if self._wants(k.split(".")[2])}
                    rouge = self.values.get("text.standard.rouge_l")
                    if rouge and rouge.note:
                        self.warnings.append(f"text.standard.rouge_l: {rouge.note}")
                else:
                    self._answers(minigpt5_text if name == "minigpt5" else mmdialog_text)
        if self._wants("meteor"):
            try:
                wordnet = open_wordnet(self.encoders.wordnet)
            except DataError as error:
                if self.encoders.wordnet is not None:
                    raise
                self._absent("text", ["meteor"], str(error))
            else:
                self.used["wordnet"] = str(self.encoders.wordnet or "nltk's own")
                found = meteor(said, wanted, wordnet=wordnet)
                self._mean(f"text.{name}.meteor", found, dialogues, f"nltk; {TOKENS}")
        if self._wants("meteor_exact_stem"):
            found, note = meteor_exact_stem(said, wanted), f"no synonyms: not METEOR; {TOKENS}"
            self._mean(f"text.{name}.meteor_exact_stem", found, dialogues, note)
        if self._wants("sbert"):
            self._sbert()
        if self._wants("perplexity"):
            self._perplexity()
        spoken = [one.text for one, _ in self.pairs if one.texts]
        for order in (1, 2, 3):
            if self._wants(f"distinct{order}") and spoken:
                # no interval: every resampled corpus has fewer different n-grams
                self.values[f"text.{name}.distinct{order}"] = Value(
                    value=distinct_n(spoken, order),
                    n=len(spoken),
                    protocol="standard",
                    note="whitespace tokens; falls with n",
                )
        if missing := sum(not text.strip() for text in said) / len(said):
            self.warnings.append(f"{missing:.1%} of the reference texts have no text beside them")

    def _answers(self, score: Callable[..., dict[str, float] | None]) -> None:
        """BLEU and ROUGE-L of the protocols that score whole answers: minigpt5, mmdialog."""
        scored = [(score(said.elements, wanted.elements), wanted) for said, wanted in self.pairs]
        found = [(row, wanted.dialogue) for row, wanted in scored if row is not None]
        for name in filter(self._wants, found[0][0] if found else ()):
            values = [row[name] for row, _ in found]
            self._mean(f"text.{self.protocol.name}.{name}", values, [d for _, d in found])

    def _sbert(self) -> None:
        """A missing text counts 0, a turn without a reference text nothing."""
        encoder = self.encoders.sentence_encoder
        if encoder is None:
            needs = f"name a folder with {SENTENCE_FILES} by --sentence-encoder"
            self._absent("text", ["sbert"], f"needs {self.protocol.sentences}: {needs}")
            return
        if isinstance(encoder, str | Path):
            encoder = load_sentence_encoder(encoder)
        self._use("sentences", encoder, self.protocol.sentences)

        def text(record: Record) -> str:
            first = self.protocol.name == "minigpt5"
            return text_before_photo(record.elements) if first else record.text

        rows = [(text(said), text(wanted), wanted.dialogue) for said, wanted in self.pairs]
        rows = [row for row in rows if row[1]]

        def measure(part: Sequence[tuple[str, str, str]]) -> list[float]:
            said = [row for row in part if row[0]]
            scores: Iterator[float] = iter(())
            if said:
                scores = iter(
                    _cosines(encoder, [r[0] for r in said], encoder, [r[1] for r in said])
                )
            return [next(scores) if row[0] else 0.0 for row in part]

        if rows:
            with self._step("sentences"):
                found = dealt(rows, measure, 4 * CHUNK)
            note, dialogues = f"cosine; {_id(encoder)}", [row[2] for row in rows]
            self._mean(f"text.{self.protocol.name}.sbert", found, dialogues, note)
            self._count_cut("sentence", encoder)

    def _perplexity(self) -> None:
        """From ``nll`` and ``tokens`` of the predictions."""
        known = {"nll", "tokens"}
        kept = [pair for pair in self.pairs if known & pair[0].numbers.keys()]
        if not kept:
            needs = 'no prediction has "nll" and "tokens" of its reference'
            self._absent("text", ["perplexity"], needs)
            return
        for said, _ in kept:
            if not known <= said.numbers.keys():
                raise DataError(
                    f'{said.where}: "nll" without "tokens" or the reverse; wanted both.'
                )
        self.values[f"text.{self.protocol.name}.perplexity"] = perplexity_value(
            [said.numbers["nll"] for said, _ in kept],
            [said.numbers["tokens"] for said, _ in kept],
            seed=self.seed,
            groups=_repeated([wanted.dialogue for _, wanted in kept]),
            protocol="standard",
            note=f"of {len(kept):,} texts",
        )

    # ----------------------------------------------------------------------------------- photos

    def photos(self) -> None:
        if not any(said.photos or wanted.photos for said, wanted in self.pairs):
            return
        first = 1 if self.protocol.name == "minigpt5" else None  # it looks at the first photo alone
        rows = [
            (one, other, wanted.dialogue, number)
            for number, (said, wanted) in enumerate(self.pairs)
            for one, other in aligned(said.photos, wanted.photos[:first])
        ]
        if self._wants("clip_i", "clip_t"):
            if self.encoders.clip is None:
                self._absent("photo", ("clip_i", "clip_t"), _clip_needs(self.protocol.clip))
            else:
                clip = self._clip("clip", self.encoders.clip, self.protocol.clip)
                with self._step("CLIP"):
                    self._clip_i(clip, rows)
                    self._clip_t(clip, first)
                self._count_cut("CLIP", clip)
        both = [row for row in rows if row[0] is not None]
        if self._wants("lpips") and self.encoders.lpips is None:
            self._absent("photo", ["lpips"], f"needs {LPIPS_FILE}: name the file by --lpips")
        elif self._wants("lpips") and both:
            network = load_lpips(self.encoders.lpips)
            self.used["lpips"] = _marked(self.encoders.lpips)

            def measure(part: Sequence[Any]) -> list[float]:
                one, other = (torch.stack([_squeezed(row[k]) for row in part]) for k in (0, 1))
                return network(one, other).tolist()

            found, note = dealt(both, measure, CHUNK), "AlexNet, v0.1, 256 px"
            self._mean(f"photo.{self.protocol.name}.lpips", found, [r[2] for r in both], note)
        if self._wants(*SETS):
            self._sets()

    def _clip_i(self, clip: Any, rows: Sequence[tuple[Any, Any, str, int]]) -> None:
        """Under mmdialog a missing photo counts 0 and an answer is the mean of its photos."""
        both, name = [row for row in rows if row[0] is not None], self.protocol.name
        if not self._wants("clip_i") or not (both or rows and name == "mmdialog"):
            return

        def measure(part: Sequence[Any]) -> list[float]:
            one, other = ([row[k] for row in part] for k in (0, 1))
            return _cosines(clip.photos, one, clip.photos, other)

        found, dialogues = dealt(both, measure, CHUNK), [row[2] for row in both]
        missing = len(rows) - len(both)
        note = f"{missing:,} of {len(rows):,} photos missing" if missing else ""
        if name == "mmdialog":
            scores, of_answers = iter(found), {row[3]: [] for row in rows}
            for row in rows:
                of_answers[row[3]].append(0.0 if row[0] is None else next(scores))
            found = [sum(answer) / len(answer) for answer in of_answers.values()]
            dialogues = [self.pairs[number][1].dialogue for number in of_answers]
        note = "; ".join(part for part in (f"cosine; {_id(clip)}", note) if part)
        self._mean(f"photo.{name}.clip_i", found, dialogues, note)

    def _clip_t(self, clip: Any, first: int | None) -> None:
        """Every photo said and the reference's whole text."""
        rows = [
            (photo, wanted.text, wanted.dialogue)
            for said, wanted in self.pairs
            if wanted.text.strip()
            for photo in said.photos[:first]
        ]
        if not self._wants("clip_t") or not rows:
            return

        def measure(part: Sequence[Any]) -> list[float]:
            return _cosines(clip.photos, [r[0] for r in part], clip.texts, [r[1] for r in part])

        found, note = dealt(rows, measure, CHUNK), f"cosine; {_id(clip)}"
        self._mean(f"photo.{self.protocol.name}.clip_t", found, [row[2] for row in rows], note)

    def _sets(self) -> None:
        needs = (
            f"needs {INCEPTION_FILE}: name the file by --inception (docs/metrics.md says how it is "
            "made), or other features by --features"
        )
        features = self.encoders.features
        if (path := self.encoders.inception) is not None:
            features = inception_features(path, self.protocol)
            how = features.id.removeprefix("Inception, ")
            self.used["inception"] = f"{_marked(path)} ({how})"
        elif features is not None:
            self.used["features"] = features.id
        else:
            self._absent("photo", SETS, needs)
            return
        said, wanted = ([photo for p in self.pairs for photo in p[side].photos] for side in (0, 1))
        with self._step("photos"):
            values, warned = set_values(said, wanted, self.protocol, features, seed=self.seed)
        for name in filter(self._wants, values):
            self.values[f"photo.{self.protocol.name}.{name}"] = values[name]
        self.warnings += warned
        if features.inception is None:
            self._absent("photo", ["inception_score"], needs)

    def relevance(self) -> None:
        """MM-Relevance: mean over answers, or (minigpt5) over dialogues."""
        protocol, encoders = self.protocol, self.encoders
        if not protocol.relevance or not self._wants("relevance"):
            return
        same = protocol.clip == protocol.relevance_clip
        chosen = encoders.relevance_clip
        if chosen is None and same:
            chosen = encoders.clip
        if chosen is None:
            option = "--clip" if same else "--relevance-clip"
            self._absent("relevance", ["relevance"], _clip_needs(protocol.relevance_clip, option))
            return
        clip = self._clip("relevance", chosen, protocol.relevance_clip)
        by_dialogue: dict[str, list[int]] = {}
        for number, (_, wanted) in enumerate(self.pairs):
            name = wanted.dialogue if protocol.name == "minigpt5" else str(number)
            by_dialogue.setdefault(name, []).append(number)

        def measure(part: Sequence[list[int]]) -> list[Relevance]:
            found = []
            for numbers in part:
                sides = ([self.pairs[k][side].elements for k in numbers] for side in (0, 1))
                if protocol.name != "minigpt5":
                    sides = (side[0] for side in sides)
                how = minigpt5_relevance if protocol.name == "minigpt5" else mmdialog_relevance
                found.append(how(*sides, text_encoder=clip.texts, photo_encoder=clip.photos))
            return found

        with self._step("MM-Relevance"):
            found = dealt(list(by_dialogue.values()), measure, CHUNK)
        dialogues = [self.pairs[numbers[0]][1].dialogue for numbers in by_dialogue.values()]
        for part in ("f1", "precision", "recall"):
            values = [getattr(one, part) for one in found]
            name = f"relevance.{protocol.name}.{part}"
            self._mean(name, values, dialogues, f"cosine; {_id(clip)}")
        self._count_cut("CLIP", clip)

    def _clip(self, role: str, clip: Any, wanted: str) -> Any:
        if isinstance(clip, str | Path):
            clip = load_clip(clip, wanted=wanted)
        self._use(role, clip, wanted)
        return clip

    def _use(self, role: str, encoder: Any, wanted: str) -> None:
        path = getattr(encoder, "path", None)
        name = _id(encoder)
        if path and Path(path).is_dir():
            name += f" {model_digest(path)}"
        self.used[role] = f"{name} (the protocol names {wanted})"

    def _count_cut(self, kind: str, encoder: Any) -> None:
        if cut := sum(gathered(getattr(encoder, "truncated", 0))):
            self.cut[kind] = cut

    # ----------------------------------------------------------------------------------- others

    def others(self, threshold: float) -> None:
        """Share moment, retrieval and decision, where the records hold them."""

        def held(said: str, wanted: str | None) -> tuple[list[Any], list[Any], list[str] | None]:
            kept = [
                pair
                for pair in self.pairs
                if said in pair[0].numbers and (wanted is None or wanted in pair[1].numbers)
            ]
            groups = _repeated([pair[1].dialogue for pair in kept])
            theirs = [pair[1].numbers[wanted] for pair in kept] if wanted else []
            return [pair[0].numbers[said] for pair in kept], theirs, groups

        chances, shared, groups = held("p_share", "share")
        if chances:
            labels = [float(share) for share in shared]
            self.values |= moment_values(
                labels, chances, threshold=threshold, seed=self.seed, groups_N=groups
            )
        ranks, _, groups = held("rank", None)
        if ranks:
            self.values |= retrieval_values(ranks, seed=self.seed, groups=groups)
        decisions, wanted, _ = held("decision", "decision")
        if decisions:
            self.values |= decision_values(wanted, decisions, seed=self.seed)

    def notes(self) -> list[str]:
        found = list(dict.fromkeys(self.warnings))
        if len(self.pairs) < FEW:
            found.insert(0, f"{len(self.pairs):,} pairs are few (wanted {FEW} or more)")
        found = [f"warning: {note}" for note in found]
        for kind, n in self.cut.items():
            found.append(f"{n:,} texts were longer than the {kind} encoder reads, and were cut")
        return found


def _repeated(dialogues: Sequence[str]) -> Sequence[str] | None:
    """Dialogues to resample; None where each stands alone."""
    return dialogues if len(set(dialogues)) < len(dialogues) else None


def _cosines(encode: Callable, one: Any, encode_other: Callable, other: Any) -> list[float]:
    return cosines(encode(one), encode_other(other)).tolist()


def _squeezed(photo: Path) -> Tensor:
    """3HW, squeezed to the side that GILL's script gives to LPIPS."""
    pixels_13HW = pixels_of(load_photo(photo))[None]
    size = (SIDE, SIDE)
    return torch.nn.functional.interpolate(pixels_13HW, size, mode="bilinear", antialias=True)[0]


def _clip_needs(wanted: str, option: str = "--clip") -> str:
    return f"needs {wanted}: name a folder with {CLIP_FILES} by {option}"


def _marked(path: str | Path | None) -> str:
    """The name of a file or folder of weights and, where it is local, their digest."""
    path = Path(path or "")
    if path.is_dir():
        return f"{path} {model_digest(path)}"
    return f"{path} {digest([path])}" if path.is_file() else str(path)


def _id(encoder: Any) -> str:
    return str(getattr(encoder, "id", None) or getattr(encoder, "__name__", type(encoder).__name__))
