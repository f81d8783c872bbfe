"""album_heads: an album's search, trained on captioned photos of one's own.

    showtell train album_heads --set data=folder:photos/captions.jsonl --out runs/heads
    showtell album add ~/Pictures --into album --encoder runs/heads/model

The classifier and the sentence encoder of ``home`` stand still: what they say of photos and
captions is kept in the run's folder, and two heads learn from it in minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.config import to_plain
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.errors import ConfigError
from showtell.metrics.encoders import load_sentence_encoder
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
    seed: starts every die of the run
    stages: the one
    """

    data: str = "folder:photos/captions.jsonl"
    num_photos: int | None = None
    num_held: int = 128
    hidden_width: int = 1024
    width: int = 384
    dropout: float = 0.5
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
        train, held = (seen(photos, cache=out / "cache") for photos in chosen)
        torch.manual_seed(self.seed)
        config = HeadsConfig(
            photo_width=train.photos_PF.shape[1],
            text_width=train.texts_CW.shape[1],
            hidden_width=self.hidden_width,
            width=self.width,
            dropout=self.dropout,
        )
        task = HeadsTask(AlbumHeads(config), train, held)
        Run(out=out, resume=resume, seed=self.seed).train(self.stages[0], task)
        folder = task.module.eval().save(out / "model")
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
def seen(photos: Sequence[Photo], *, cache: Path) -> Captioned:
    """What the parts of ``home`` say of captioned photos, once; a part that has said it is not
    loaded again. Raises PhotoError."""
    captions = [[text for text in captions_of(photo) if text.strip()] for photo in photos]
    texts = [text for own in captions for text in own]
    place = digest_of(photos)
    seen_there, told_there = (
        cache / f"photos-{place}.npy",
        cache / f"texts-{len(texts)}-{place}.npy",
    )
    if not (seen_there.exists() and told_there.exists()):
        check_needs(*(index_parts()[name] for name in (PHOTOS, TEXTS)))

    def of_photos() -> Iterator[np.ndarray]:
        classifier = load_classifier(index_part(PHOTOS, told=terminal_progress)).to(the_device())
        for start in range(0, len(photos), _PHOTOS_AT_ONCE):
            terminal_progress("photos", start, len(photos))
            part = [photo_image(photo) for photo in photos[start : start + _PHOTOS_AT_ONCE]]
            yield from classifier(part).features_PF.float().cpu().numpy()
        terminal_progress("photos", len(photos), len(photos))

    def of_texts() -> Iterator[np.ndarray]:
        encode = load_sentence_encoder(index_part(TEXTS, told=terminal_progress))
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            terminal_progress("captions", start, len(texts))
            yield from encode(texts[start : start + _TEXTS_AT_ONCE]).float().numpy()
        terminal_progress("captions", len(texts), len(texts))

    return Captioned(
        cached_array(seen_there, len(photos), of_photos),
        cached_array(told_there, len(texts), of_texts),
        np.cumsum([0, *map(len, captions)]).tolist(),
    )


@dataclass
class HeadsTask(Task):
    """Photos and a caption of each: each picks out the other among those of its batch."""

    module: AlbumHeads
    train: Captioned
    held: Captioned

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
        return {"contrastive": both / 2}

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
            weights={"contrastive": 1.0},
            evaluate_every=300,
        ),
    ),
)
