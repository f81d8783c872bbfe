"""GILL's training and its open checks as settings (2305.17216).

The stages are the published ones, for image-caption pairs on two GPUs; ``world_systems.py`` takes
the first and replaces steps and batch size. What moves: the photo encoder's last linear map, the
rows of the new tokens, the bridge. Everything else has the rate 0.
"""

from __future__ import annotations

from dataclasses import replace

from showtell.errors import ConfigError, did_you_mean
from showtell.training.stage import Stage

EPOCH = 2000  # steps; ten of them in all
FROZEN = {
    "language.model": 0.0,
    "photo_encoder": 0.0,
    "photo_encoder.project": 1.0,
    "painter": 0.0,
    "captioner": 0.0,
}
# t holds l_c and l_p; the house's own losses, moment and caption, are not GILL's
WEIGHTS = {"t": 1.0, "g": 1.0, "r": 1.0, "moment": 0.0, "caption": 0.0}
# the paper's 1,000 is remembered by readers and not verified; the release has 2,000
WARMUP = {"paper": 1000, "release": 2000}


def gill_stages(preset: str = "paper") -> tuple[Stage, Stage]:
    """Five epochs at 1e-3 and five at a tenth of it: the release's steps, as two stages.

    Raises ConfigError for an unknown preset.
    """
    if preset not in WARMUP:
        raise ConfigError(f'unknown preset "{preset}"{did_you_mean(preset, WARMUP)}')
    first = Stage(
        name="gill",
        steps=5 * EPOCH,
        batch_size=200,
        learning_rate=1e-3,
        learning_rates=FROZEN,
        weight_decay=0.01,
        betas=(0.9, 0.95),
        warmup=WARMUP[preset],
        decay="constant",
        clip=1.0,
        weights=WEIGHTS,
    )
    return first, replace(first, name="gill_low", learning_rate=1e-4, warmup=0)


# Settings of a recipe that has ``bridge`` and ``stage``.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "paper": (),
    "release": ("bridge.generation_loss=norm", "bridge.query_tokens=first"),
    "linear": ("bridge.mapper=linear",),
    "width_128": ("bridge.width=128",),
    "width_256": ("bridge.width=256",),
    "width_512": ("bridge.width=512",),
    "r_1": ("bridge.num_tokens=1",),
    "r_2": ("bridge.num_tokens=2",),
    "r_4": ("bridge.num_tokens=4",),
    "without_input_embeddings": ("bridge.input_embeddings=false",),
    "painter_trained": ("bridge.painter_loss=true", "stage.learning_rates.painter.unet=0.1"),
}
