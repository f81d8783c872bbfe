"""The rows of a score, one after the other: what is measured, with what, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from showtell.errors import ConfigError, DataError, did_you_mean
from showtell.metrics import score_photos, score_text
from showtell.metrics.encoders import (
    CLIP_FILES,
    SENTENCE_FILES,
    WORLD_READERS,
    load_clip,
    load_sentence_encoder,
    load_world_reader,
)
from showtell.metrics.inception import (
    FILE as INCEPTION_FILE,
)
from showtell.metrics.inception import (
    load_inception,
    resize_antialiased,
    resize_tensorflow1,
)
from showtell.metrics.moment import moment_values
from showtell.metrics.perceptual import FILE as LPIPS_FILE
from showtell.metrics.perceptual import load_lpips
from showtell.metrics.protocols import Protocol
from showtell.metrics.records import Matched
from showtell.metrics.report import Value, digest, model_digest
from showtell.metrics.retrieval import decision_values, retrieval_values
from showtell.metrics.text_meteor import open_wordnet
from showtell.runtime import gathered

Told = Callable[[str, int, int], None]
SETS = ("inception_score", "fid", "fid_infinity", "kid")
# lower is better; the rest is the higher the better
LOWER = ("lpips", "fid", "fid_infinity", "kid", "perplexity")
FEW = 100  # fewer pairs than this and the intervals themselves are rough


class Rows:
    """``values``, ``encoders`` and ``warnings`` of one score."""

    def __init__(
        self, protocol: Protocol, matched: Matched, *, only: tuple[str, ...], seed: int, told: Told
    ) -> None:
        self.protocol = protocol
        self.pairs = matched.pairs
        self.only = only
        self.seed = seed
        self.told = told
        self.values: dict[str, Value] = {}
        self.encoders: dict[str, str] = {}
        self.warnings: list[str] = []
        self.cut: dict[str, int] = {}

    def wants(self, *names: str) -> bool:
        return any(
            (not self.only or name in self.only)
            and name in (*self.protocol.text, *self.protocol.photo, "relevance")
            for name in names
        )

    def put(self, name: str, value: Value | None) -> None:
        if value is not None:
            self.values[name] = value

    def absent(self, kind: str, names: Iterable[str], needs: str) -> None:
        """Rows without a value, that say what they need; an error where they were asked for."""
        asked = [name for name in names if name in self.only]
        if asked:
            raise DataError(f"{asked[0]} cannot be measured: {needs}")
        for name in names:
            if self.wants(name):
                self.values[f"{kind}.{self.protocol.name}.{name}"] = Value(
                    value=None,
                    low=None,
                    high=None,
                    n=0,
                    higher_is_better=name not in LOWER,
                    protocol=self.protocol.name,
                    note=f"not measured: {needs}",
                )

    # ------------------------------------------------------------------------------------ texts

    def texts(self, sentence_encoder: Any, wordnet: str | Path | None) -> None:
        if not any(wanted.texts for _, wanted in self.pairs):
            return
        name = self.protocol.name
        if self.wants("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
            self.told("texts", 0, 1)
            whole = name in ("minigpt5", "mmdialog")
            rows = (score_text.answer_values if whole else score_text.corpus_values)(
                self.pairs, self.protocol, seed=self.seed
            )
            for row, value in rows.items():
                if self.wants(row.rpartition(".")[2]):
                    self.values[row] = value
            self.told("texts", 1, 1)
        if self.wants("meteor"):
            self._meteor(wordnet)
        if self.wants("meteor_exact_stem"):
            self.put(
                f"text.{name}.meteor_exact_stem",
                score_text.meteor_value(self.pairs, self.protocol, seed=self.seed, wordnet=None),
            )
        if self.wants("sbert"):
            self._sbert(sentence_encoder)
        if self.wants("perplexity"):
            found = score_text.perplexity_of_records(self.pairs, seed=self.seed)
            if found is None:
                self.absent(
                    "text", ["perplexity"], 'no prediction has "nll" and "tokens" of its reference'
                )
            self.put(f"text.{name}.perplexity", found)
        for order in (1, 2, 3):
            if self.wants(f"distinct{order}"):
                self.put(
                    f"text.{name}.distinct{order}", score_text.distinct_value(self.pairs, order)
                )
        missing = score_text.missing_share(self.pairs)
        if missing:
            self.warnings.append(f"{missing:.1%} of the reference texts have no text beside them")

    def _meteor(self, wordnet: str | Path | None) -> None:
        try:
            reader = open_wordnet(wordnet)
        except DataError as error:
            if wordnet is not None:
                raise
            self.absent("text", ["meteor"], str(error))
            return
        self.encoders["wordnet"] = str(wordnet or "nltk's own")
        self.put(
            f"text.{self.protocol.name}.meteor",
            score_text.meteor_value(self.pairs, self.protocol, seed=self.seed, wordnet=reader),
        )

    def _sbert(self, encoder: Any) -> None:
        if encoder is None:
            self.absent(
                "text",
                ["sbert"],
                f"needs {self.protocol.sentences}: name a folder with {SENTENCE_FILES} by "
                "--sentence-encoder",
            )
            return
        if isinstance(encoder, str | Path):
            encoder = load_sentence_encoder(encoder)
        self._encoder("sentences", encoder, self.protocol.sentences)
        self.told("sentences", 0, 1)
        value = score_text.sbert_value(
            self.pairs, self.protocol, encoder, seed=self.seed, id=_id(encoder)
        )
        self.told("sentences", 1, 1)
        self._count_cut("sentence", encoder)
        self.put(f"text.{self.protocol.name}.sbert", value)

    # ----------------------------------------------------------------------------------- photos

    def photos(
        self, *, clip: Any, inception: Any, features: Any, num_features: int | None, lpips: Any
    ) -> None:
        if not any(said.photos or wanted.photos for said, wanted in self.pairs):
            return
        name, seed = self.protocol.name, self.seed
        if self.wants("clip_i", "clip_t"):
            if clip is None:
                self.absent("photo", ("clip_i", "clip_t"), _clip_needs(self.protocol.clip))
            else:
                clip = self._clip("clip", clip, self.protocol.clip)
                self.told("CLIP", 0, 1)
                if self.wants("clip_i"):
                    self.put(
                        f"photo.{name}.clip_i",
                        score_photos.clip_i_value(
                            self.pairs, self.protocol, clip.photos, seed=seed, id=_id(clip)
                        ),
                    )
                if self.wants("clip_t"):
                    self.put(
                        f"photo.{name}.clip_t",
                        score_photos.clip_t_value(
                            self.pairs,
                            self.protocol,
                            photo_encoder=clip.photos,
                            text_encoder=clip.texts,
                            seed=seed,
                            id=_id(clip),
                        ),
                    )
                self.told("CLIP", 1, 1)
                self._count_cut("CLIP", clip)
        if self.wants("lpips"):
            if lpips is None:
                self.absent("photo", ["lpips"], f"needs {LPIPS_FILE}: name the file by --lpips")
            else:
                network = load_lpips(lpips)
                self.encoders["lpips"] = _marked(lpips)
                self.put(
                    f"photo.{name}.lpips",
                    score_photos.lpips_value(self.pairs, self.protocol, network, seed=seed),
                )
        if self.wants(*SETS):
            self._sets(inception, features, num_features)

    def _sets(self, inception: Any, features: Any, num_features: int | None) -> None:
        needs = (
            f"needs {INCEPTION_FILE}: name the file by --inception (docs/metrics.md says how it is "
            "made), or other features by --features"
        )
        encoder: score_photos.SetFeatures
        if inception is not None:
            tensorflow1 = self.protocol.tensorflow1_resize
            resize = resize_tensorflow1 if tensorflow1 else resize_antialiased
            how = "TensorFlow 1's resize" if tensorflow1 else "antialiased resize"
            encoder = score_photos.inception_features(
                load_inception(inception, resize=resize), f"Inception, {how}"
            )
            self.encoders["inception"] = f"{_marked(inception)} ({how})"
        elif isinstance(features, str):
            kind, _, reader = features.partition(":")
            if kind != "world" or reader not in WORLD_READERS:
                wanted = [f"world:{one}" for one in WORLD_READERS]
                raise ConfigError(f'no features "{features}"{did_you_mean(features, wanted)}')
            encode, count = load_world_reader(reader)
            encoder = score_photos.SetFeatures(
                encode=encode, num_features=count, id=features, side=64
            )
            self.encoders["features"] = features
        elif features is not None:
            if num_features is None:
                raise ConfigError("features without num_features; wanted how many there are")
            encoder = score_photos.SetFeatures(
                encode=features, num_features=num_features, id=_id(features)
            )
            self.encoders["features"] = _id(features)
        else:
            self.absent("photo", [name for name in SETS if self.wants(name)], needs)
            return
        self.told("photos", 0, 1)
        values, warned = score_photos.set_values(self.pairs, self.protocol, encoder, seed=self.seed)
        self.told("photos", 1, 1)
        for name, value in values.items():
            if self.wants(name):
                self.values[f"photo.{self.protocol.name}.{name}"] = value
        self.warnings += warned
        if encoder.inception is None and self.wants("inception_score"):
            self.absent("photo", ["inception_score"], needs)

    def relevance(self, clip: Any) -> None:
        if not self.wants("relevance"):
            return
        if clip is None:
            option = "--clip" if self.protocol.clip == self.protocol.relevance_clip else ""
            self.absent(
                "relevance",
                ["relevance"],
                _clip_needs(self.protocol.relevance_clip, option or "--relevance-clip"),
            )
            return
        clip = self._clip("relevance", clip, self.protocol.relevance_clip)
        self.told("MM-Relevance", 0, 1)
        self.values |= score_photos.relevance_values(
            self.pairs,
            self.protocol,
            text_encoder=clip.texts,
            photo_encoder=clip.photos,
            seed=self.seed,
            id=_id(clip),
        )
        self.told("MM-Relevance", 1, 1)
        self._count_cut("CLIP", clip)

    def _clip(self, role: str, clip: Any, wanted: str) -> Any:
        if isinstance(clip, str | Path):
            clip = load_clip(clip, wanted=wanted)
        self._encoder(role, clip, wanted)
        return clip

    def _encoder(self, role: str, encoder: Any, wanted: str) -> None:
        self.encoders[role] = f"{_marked_id(encoder)} (the protocol names {wanted})"

    def _count_cut(self, kind: str, encoder: Any) -> None:
        cut = sum(gathered(getattr(encoder, "truncated", 0)))
        if cut:
            self.cut[kind] = cut

    # ----------------------------------------------------------------------------------- others

    def others(self, threshold: float) -> None:
        """Share moment, retrieval and decision, where the records hold them."""
        moments = [
            (said, wanted)
            for said, wanted in self.pairs
            if "p_share" in said.numbers and "share" in wanted.numbers
        ]
        if moments:
            self.values |= moment_values(
                [float(wanted.numbers["share"]) for _, wanted in moments],
                [said.numbers["p_share"] for said, _ in moments],
                threshold=threshold,
                seed=self.seed,
                groups_N=score_text.groups_of(moments),
            )
        ranked = [(said, wanted) for said, wanted in self.pairs if "rank" in said.numbers]
        if ranked:
            self.values |= retrieval_values(
                [said.numbers["rank"] for said, _ in ranked],
                seed=self.seed,
                groups=score_text.groups_of(ranked),
            )
        decided = [
            (wanted.numbers["decision"], said.numbers["decision"])
            for said, wanted in self.pairs
            if "decision" in said.numbers and "decision" in wanted.numbers
        ]
        if decided:
            labels, decisions = zip(*decided, strict=True)
            self.values |= decision_values(labels, decisions, seed=self.seed)

    def notes(self) -> list[str]:
        found = list(dict.fromkeys(self.warnings))
        if len(self.pairs) < FEW:
            found.insert(0, f"{len(self.pairs):,} pairs are few (wanted {FEW} or more)")
        found = [f"warning: {note}" for note in found]
        for kind, n in self.cut.items():
            found.append(f"{n:,} texts were longer than the {kind} encoder reads, and were cut")
        return found


def _marked_id(encoder: Any) -> str:
    """The encoder's id and the digest of the folder that it was read from, if it was."""
    path = getattr(encoder, "path", None)
    return f"{_id(encoder)} {model_digest(path)}" if path and Path(path).is_dir() else _id(encoder)


def _clip_needs(wanted: str, option: str = "--clip") -> str:
    return f"needs {wanted}: name a folder with {CLIP_FILES} by {option}"


def _marked(path: str | Path) -> str:
    """The name of a file or folder of weights and, where it is local, their digest."""
    path = Path(path)
    if path.is_dir():
        return f"{path} {model_digest(path)}"
    return f"{path} {digest([path])}" if path.is_file() else str(path)


def _id(encoder: Any) -> str:
    return str(getattr(encoder, "id", None) or getattr(encoder, "__name__", type(encoder).__name__))
