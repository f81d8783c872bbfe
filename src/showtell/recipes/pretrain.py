"""What the papers take as pretrained, trained from scratch: VAE and painter, LM, vision encoder and
photo encoder, photos as codes, a small CLIP.

    showtell train world_base                                   the base of every world recipe
    showtell train photo_codes --set photos=cc3m:FILE --set start=runs/parts/model

Which parts are trained, the stages say by their names:

    vae, vae_whole, painter    latent diffusion: the VAE, then text tower and U-Net on captions
    language                   the LM, on dialogues in which photos stand as captions
    vision, qformer            what sees photos, on labels (LabelTask)
    photo_encoder              with the LM: photos told in captions, and dialogues with photos
    contrastive                a CLIP, which is the finished model, or the ranker of the codes
    vq, translator             Divter's image side (2110.08515): V on latents, F on V's codes
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from showtell.errors import ConfigError
from showtell.recipes.runs import Run, check_counts
from showtell.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Parts from photos and dialogues; the stages say which (see the head of ``pretrain.py``).

    photos: DATA of captioned photos, of which the split "train" is used where they name splits
    num_photos: at most so many; of files those whose ids have the lowest SHA-256; none: all
    held: DATA of photos that tell how far a stage is; none: num_held of the photos
    num_held: how many
    dialogues: DATA that the LM learns from
    num_dialogues: the first so many of these; none: all
    start: a model whose parts are trained on, or, of codes, the painter; none: everything is new
    language_layers: of a new LM
    language_width: of a new LM, a multiple of 64; with neither, the LM is that of start
    translator_width: of what writes the codes
    translator_layers: of what writes the codes
    num_codes: of the codebook
    code_width: of the codebook
    num_samples: photos of which a ranker keeps one
    ranker: a CLIP's folder, which ranks; none: the one of the stage "contrastive", if there is one
    seed: starts every die of the run
    stages: in their order
    """

    photos: str = "world:photos:train"
    num_photos: int | None = None
    held: str | None = None
    num_held: int = 128
    dialogues: str = "world:train"
    num_dialogues: int | None = None
    start: str | None = None
    language_layers: int | None = None
    language_width: int | None = None
    translator_width: int = 192
    translator_layers: int = 4
    num_codes: int = 1024
    code_width: int = 8
    num_samples: int = 8
    ranker: str | None = None
    seed: int = 0
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        check_counts(self)
        layers, width = self.language_layers or 4, self.language_width or 256
        if layers < 1 or width < 64 or width % 64:
            raise ConfigError(
                f"language_layers is {layers} and language_width {width}; wanted one layer or more "
                "and a multiple of 64, which is the width of a head; choose 4 and 256"
            )

    def train(self, *, name: str, out: Path, resume: bool) -> Path:
        """Train what is not yet there under ``out`` and write ``out/model``.

        Raises CheckpointError for a ``start`` that is no model, ConfigError, DataError.
        """
        torch.manual_seed(self.seed)
        run, last = Run(out=out, resume=resume, seed=self.seed), self.stages[-1].name
        from showtell.recipes.pretrain_work import Work

        work = Work(self, run, name=name)
        made = {"photo_encoder": work.model, "translator": work.codes, "contrastive": work.clip}
        return made[last]()


# ---------------------------------------------------------------------------------------- stages

_TELLING = {"t": 1.0, "moment": 0.2, "caption": 0.5}
_cosine = partial(Stage, decay="cosine", betas=(0.9, 0.98))
_VAE = _cosine(
    name="vae",
    steps=4500,
    batch_size=32,
    learning_rate=2e-3,
    warmup=100,
    weight_decay=0.0,
    weights={"pixels": 1.0, "colour": 2.0, "edges": 0.5, "kl": 1e-3},
    ema=0.995,
    evaluate_every=500,
    betas=(0.9, 0.999),
)
_VAE_WHOLE = replace(  # the first one sees squares of half the side, this one whole photos
    _VAE,
    name="vae_whole",
    steps=200,
    batch_size=16,
    learning_rate=4e-4,
    warmup=20,
    ema=0.98,
    evaluate_every=100,
)
_PAINTER = _cosine(
    name="painter",
    steps=6000,
    batch_size=64,
    learning_rate=6e-4,
    learning_rates={"vae": 0.0},
    warmup=300,
    betas=(0.9, 0.99),
    weights={"v": 1.0},
    ema=0.999,
)
_VISION = _cosine(
    name="vision",
    steps=1600,
    batch_size=128,
    learning_rate=1.5e-3,
    warmup=150,
    weight_decay=0.05,
    weights={"labels": 1.0},
    ema=0.995,
    evaluate_every=400,
)
_PHOTO_ENCODER = _cosine(
    name="photo_encoder",
    steps=1500,
    batch_size=48,
    learning_rate=1.2e-3,
    learning_rates={"photo_encoder.vision": 0.25},
    warmup=100,
    weights=_TELLING,
    excerpts=0.6,
)
WORLD_BASE = Pretraining(
    num_photos=90_000,
    held="world:photos:dev",
    num_dialogues=90_000,
    stages=(
        _VAE,
        _VAE_WHOLE,
        _PAINTER,
        _cosine(
            name="language",
            steps=3000,
            batch_size=32,
            learning_rate=2e-3,
            warmup=200,
            weights=_TELLING,
            ema=0.998,
            excerpts=0.6,
        ),
        _VISION,
        replace(
            _VISION,
            name="qformer",
            steps=600,
            learning_rates={"photo_encoder.vision": 0.0},
            warmup=80,
            weight_decay=0.01,
            ema=None,
            evaluate_every=200,
        ),
        _PHOTO_ENCODER,
    ),
)
_CONTRASTIVE = _cosine(
    name="contrastive",
    steps=1500,
    batch_size=128,
    learning_rate=1e-3,
    warmup=100,
    weight_decay=0.05,
    weights={"contrastive": 1.0},
    ema=0.99,
    evaluate_every=500,
)
WORLD_CONTRASTIVE = Pretraining(
    num_photos=30_000, held="world:photos:dev", num_held=512, stages=(_CONTRASTIVE,)
)
_CODES = (
    _cosine(
        name="vq",
        steps=1500,
        batch_size=64,
        learning_rate=2e-3,
        warmup=50,
        weight_decay=0.0,
        weights={"latents": 1.0, "codes": 1.0},
        ema=0.99,
        autocast=False,
        evaluate_every=500,
    ),
    _cosine(
        name="translator",
        steps=2000,
        batch_size=32,
        learning_rate=1e-3,
        learning_rates={"": 0.0, "translator": 1.0},
        warmup=100,
        weights={"v": 1.0},
        ema=0.995,
        evaluate_every=500,
    ),
)
WORLD_CODES = Pretraining(
    num_photos=30_000,
    held="world:photos:dev",
    num_held=512,
    start="runs/world_base/model",
    stages=(replace(_CONTRASTIVE, steps=500), *_CODES),
)
PHOTO_CODES = replace(
    WORLD_CODES,
    photos="cc3m:data/cc3m/GCC-training.tsv",
    num_photos=200_000,
    held=None,
    num_held=256,
    start="runs/parts/model",
    stages=_CODES,  # its ranker is a CLIP that is there
)
