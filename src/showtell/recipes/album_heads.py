"""album_heads: an album's search, trained on captioned photos of one's own.

    showtell train album_heads --set data=folder:photos/captions.jsonl --out runs/heads
    showtell album add ~/Pictures --into album --encoder runs/heads/model

The classifier and the sentence encoder of ``home`` stand still: what they say of photos and
captions is kept in the run's folder, and heads learn from it in minutes: which photo and caption go
together, and which terms a photo's captions have (album/shown.py). In the classifier's place a
model's own photo encoder may look (``eyes=mini``). The search's cut-off comes from photos that are
held out: at most ``wrong`` of their captions find a photo once their own is taken away.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from showtell.album.find import Finder, conformal
from showtell.album.index import Album, AlbumPhoto
from showtell.album.ingest import told_vectors
from showtell.album.shown import Terms, names_something, terms_of
from showtell.batch import stacked, to_pixels
from showtell.config import to_plain
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.errors import ConfigError
from showtell.metrics.encoders import SentenceEncoder, load_sentence_encoder
from showtell.metrics.retrieval import CUTS, ranks, recall_at
from showtell.models.classifier import load_classifier
from showtell.models.hub import check_needs, index_part, index_parts
from showtell.models.two_heads import PHOTOS, TEXTS, AlbumHeads, HeadsConfig
from showtell.progress import terminal_progress
from showtell.recipes.photo_sets import cached_array, captions_of, choose_photos, digest_of
from showtell.recipes.runs import Run, check_counts
from showtell.runtime import the_device
from showtell.training.stage import Stage
from showtell.training.task import Losses, Task

_PHOTOS_AT_ONCE, _TEXTS_AT_ONCE = 16, 256


@dataclass(frozen=True, kw_only=True)
class AlbumHeadsTraining:
    """Two heads on frozen features; the stage says how long.

    data: DATA of captioned photos, of which the split "train" is used where they name splits
    num_photos: at most so many; none: all
    num_held: how many of them tell how far the stage is, and are not trained on
    hidden_width: of a head
    width: of the space, and so of the album
    dropout: between a head's layers
    num_terms: so many terms of captions are read off the photos, the most frequent: for captions
        that say all there is to see, as the drawn world's; real photos are found better without
    eyes: a model whose photo encoder looks in the classifier's place
    wrong: share of requests without a photo that may find one
    seed: starts every die of the run
    stages: the one
    """

    data: str = "folder:photos/captions.jsonl"
    num_photos: int | None = None
    num_held: int = 128
    hidden_width: int = 1024
    width: int = 384
    dropout: float = 0.5
    num_terms: int = 0
    eyes: str = ""
    wrong: float = 0.1
    seed: int = 0
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        check_counts(self)
        if self.hidden_width < 1 or self.width < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"hidden_width is {self.hidden_width}, width {self.width} and dropout "
                f"{self.dropout}; wanted widths of 1 or more and a share below 1; choose 1024, 384 "
                "and 0.5"
            )

    def train(self, *, name: str, out: Path, resume: bool) -> Path:
        """Write ``out/model``. Raises DataError, and what the parts raise."""
        source = open_data(self.data)
        chosen = choose_photos(source, num_photos=self.num_photos, held_out=self.num_held)
        train, held = (seen(p, cache=out / "cache", eyes=self.eyes) for p in chosen)
        names = frequent_terms(chosen[0], most=self.num_terms)
        torch.manual_seed(self.seed)
        config = HeadsConfig(
            photo_width=train.photos_PF.shape[1],
            text_width=train.texts_CW.shape[1],
            hidden_width=self.hidden_width,
            width=self.width,
            dropout=self.dropout,
            terms=tuple(names),
            eyes=self.eyes,
        )
        task = HeadsTask(AlbumHeads(config), train, held, rates_of(chosen[0], names))
        if names:
            rates_V = task.rates_PV.float().mean(0)
            task.module.to_terms.bias.data.copy_(rates_V.logit(eps=1e-6))
        Run(out=out, resume=resume, seed=self.seed).train(self.stages[0], task)
        heads = task.module.eval()
        if names:
            heads.top_V.copy_(task.tops())
        best = strangers(chosen[1], held, heads, seed=self.seed)
        cut_off = conformal(best, wrong=self.wrong)
        heads.config = replace(config, cut_off=cut_off if math.isfinite(cut_off) else None)
        folder = heads.save(out / "model")
        report = {"name": name, "recipe": to_plain(self), "measures": task.validate()}
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return folder


@dataclass(frozen=True)
class Captioned:
    """P photos' features and their C captions' vectors; photo p has the captions from first[p] to
    first[p + 1]."""

    photos_PF: np.ndarray
    texts_CW: np.ndarray
    first: Sequence[int]


@torch.no_grad()
def seen(photos: Sequence[Photo], *, cache: Path, eyes: str = "") -> Captioned:
    """What the parts of ``home``, or a model's ``eyes``, say of captioned photos, once; a part that
    has said it is not loaded again. Raises PhotoError."""
    captions = [[text for text in captions_of(photo) if text.strip()] for photo in photos]
    texts = [text for own in captions for text in own]
    place = digest_of(photos) + (f"-{Path(eyes).name}" if eyes else "")
    seen_there, told_there = (
        cache / f"photos-{place}.npy",
        cache / f"texts-{len(texts)}-{place}.npy",
    )
    if not (seen_there.exists() and told_there.exists()):
        check_needs(*(index_parts()[name] for name in (PHOTOS, TEXTS)))

    def of_photos() -> Iterator[np.ndarray]:
        if eyes:
            look = eyes_of(eyes)
        else:
            own = load_classifier(index_part(PHOTOS, told=terminal_progress)).to(the_device())

            def look(images: Sequence[Image.Image]) -> Tensor:
                return own(images).features_PF

        for start in range(0, len(photos), _PHOTOS_AT_ONCE):
            terminal_progress("photos", start, len(photos))
            part = [photo_image(photo) for photo in photos[start : start + _PHOTOS_AT_ONCE]]
            yield from look(part).float().cpu().numpy()
        terminal_progress("photos", len(photos), len(photos))

    def of_texts() -> Iterator[np.ndarray]:
        encode = sentence_encoder()
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            terminal_progress("captions", start, len(texts))
            yield from encode(texts[start : start + _TEXTS_AT_ONCE]).float().numpy()
        terminal_progress("captions", len(texts), len(texts))

    return Captioned(
        cached_array(seen_there, len(photos), of_photos),
        cached_array(told_there, len(texts), of_texts),
        np.cumsum([0, *map(len, captions)]).tolist(),
    )


def eyes_of(name: str) -> Callable[[Sequence[Image.Image]], Tensor]:
    """What a model's photo encoder says of photos, (P, F). Raises what ``load_model`` raises;
    ConfigError for a model that sees none."""
    from showtell.papers import load_model

    model = load_model(name)
    encoder = model.photo_encoder
    if encoder is None or encoder.attended:
        raise ConfigError(
            f'eyes="{name}": that model has no photo encoder that says so many numbers of each '
            "photo; name one that has, as eyes=mini, or none"
        )

    @torch.no_grad()
    def features(images: Sequence[Image.Image]) -> Tensor:
        pixels_P3HW = stacked([to_pixels(encoder.look(image)) for image in images])
        return encoder(pixels_P3HW.to(the_device())).flatten(1)

    return features


def sentence_encoder() -> SentenceEncoder:
    return load_sentence_encoder(index_part(TEXTS, told=terminal_progress))


@torch.no_grad()
def strangers(
    photos: Sequence[Photo], held: Captioned, heads: AlbumHeads, *, seed: int
) -> list[float]:
    """The best scores of requests without a photo: an album of these photos, half of them with a
    caption; a caption of each asks, and the photo itself does not count."""
    rng, encode, names = random.Random(seed), sentence_encoder(), heads.config.terms
    known, asks = [], []
    for p, photo in enumerate(photos):
        captions = sorted((text for text in captions_of(photo) if text.strip()), key=len)
        told = captions.pop(0) if len(captions) > 1 and rng.random() < 0.5 else ""
        known.append(AlbumPhoto(id=str(p), caption=told))
        asks.append(rng.choice(captions))

    def texts(given: Sequence[str]) -> Tensor:
        return heads.texts(encode(given)).cpu()

    vectors_PE = heads.photos(_rows(held.photos_PF, range(len(photos)))).cpu()
    told_PE = told_vectors(known, texts, width=heads.config.width)
    album = Album(known, vectors_PE, texts_ME=told_PE)
    terms = Terms(names=names, **heads.terms(), texts=encode) if names else None
    finder = Finder(album, texts, terms=terms)
    scores_PP = finder.evidence(asks).score_NM.fill_diagonal_(-math.inf)
    return scores_PP.amax(1).tolist()


def frequent_terms(photos: Sequence[Photo], *, most: int) -> list[str]:
    """The terms that name something, of as many photos' captions as there may be, and of four
    captions at least."""
    counts = Counter(
        term
        for photo in photos
        for text in captions_of(photo)
        for term in set(terms_of(text))
        if names_something(term.rpartition(" ")[2])
    )
    return [term for term, count in counts.most_common(most) if count >= 4]


def rates_of(photos: Sequence[Photo], names: Sequence[str]) -> Tensor:
    """(P, V): in what share of a photo's captions a term is."""
    numbers = {name: v for v, name in enumerate(names)}
    rates_PV = torch.zeros(len(photos), len(names), dtype=torch.half)
    for rates_V, photo in zip(rates_PV, photos, strict=True):
        captions = [text for text in captions_of(photo) if text.strip()]
        for text in captions:
            known = [numbers[term] for term in set(terms_of(text)) if term in numbers]
            rates_V[known] += 1 / len(captions)
    return rates_PV


@dataclass
class HeadsTask(Task):
    """Photos and a caption of each: each picks out the other among those of its batch, and a photo
    tells the terms of its captions (``rates_PV``)."""

    module: AlbumHeads
    train: Captioned
    held: Captioned
    rates_PV: Tensor

    def __len__(self) -> int:
        return len(self.train.photos_PF)

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        first = self.train.first
        share = torch.rand(len(indices), generator=generator).tolist()
        told = [
            first[p] + int(s * (first[p + 1] - first[p]))
            for p, s in zip(indices, share, strict=True)
        ]
        photos_PE = self.module.photos(_rows(self.train.photos_PF, indices))
        texts_PE = self.module.texts(_rows(self.train.texts_CW, told))
        logits_PP = self.module.log_scale.exp().clamp(max=100) * texts_PE @ photos_PE.mT
        gold_P = torch.arange(len(indices), device=logits_PP.device)
        both = F.cross_entropy(logits_PP, gold_P) + F.cross_entropy(logits_PP.mT, gold_P)
        losses = {"contrastive": both / 2}
        if self.module.config.terms:
            rates_PV = self.rates_PV[list(indices)].to(photos_PE)
            each_PV = F.binary_cross_entropy_with_logits(
                self.module.shows(photos_PE), rates_PV, reduction="none"
            )
            losses["terms"] = each_PV.sum(1).mean()
        return losses

    @torch.no_grad()
    def tops(self) -> Tensor:
        """(V,): the logarithm of each term's chance, on average over the photos that have it."""
        total_V, count_V = torch.zeros(2, self.rates_PV.shape[1])
        for start in range(0, len(self), 512):
            part = range(start, min(start + 512, len(self)))
            logits_PV = self.module.shows(self.module.photos(_rows(self.train.photos_PF, part)))
            rates_PV = self.rates_PV[start : part.stop].float()
            total_V += (rates_PV * F.logsigmoid(logits_PV).cpu()).sum(0)
            count_V += rates_PV.sum(0)
        return total_V / count_V.clamp(min=1e-6)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """R@k of all captions among the held-out photos."""
        count = len(self.held.photos_PF)
        photos_PE = self.module.photos(_rows(self.held.photos_PF, range(count)))
        texts_CE = self.module.texts(_rows(self.held.texts_CW, range(len(self.held.texts_CW))))
        gold_C = np.repeat(np.arange(count), np.diff(self.held.first))
        found = ranks((texts_CE @ photos_PE.mT).float().cpu().numpy(), gold_C)
        return {f"held_out_r{k}": recall_at(found, k) for k in CUTS}


def _rows(array: np.ndarray, indices: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.array(array[list(indices)])).to(the_device())


ALBUM_HEADS = AlbumHeadsTraining(
    stages=(
        Stage(
            name="heads",
            steps=1500,
            batch_size=512,
            learning_rate=1e-3,
            warmup=100,
            decay="cosine",
            weight_decay=0.1,
            weights={"contrastive": 1.0, "terms": 0.1},
            evaluate_every=300,
        ),
    ),
)
