"""world_mini and its baselines: talking, seeing, sharing, painting, trained together or apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from photoworld.scenes import DEV_SEEDS, TRAIN_SEEDS
from photoworld.talk import OPENINGS, world_dialogue, world_exercise
from showtell.config import to_plain
from showtell.dialogue import Dialogue
from showtell.errors import ConfigError
from showtell.metrics.moment import best_threshold
from showtell.models.checkpoint import save_model
from showtell.models.cross_attention import has_cross_attention
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, read_gold
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.models.vocabulary import part_twins
from showtell.papers import DvtmConfig, PipelineConfig, e2e, load_folder
from showtell.prompt import Renderer
from showtell.recipes.bridged import (
    BridgeConfig,
    attending,
    reading_linearly,
    start_bridge,
    with_bridge,
)
from showtell.recipes.tasks import DialogueTask, world_pixels
from showtell.recipes.world_base import StageRunner
from showtell.runtime import the_device
from showtell.training.features import captioned_scene
from showtell.training.stage import Stage

LIMITS = (
    "It knows a small drawn world: twenty subjects (dogs, cakes, robots, the friends Mia and Leo, "
    "the pets Biscuit and Luna ...) in eight places, three times of day and four weathers. "
    "Beyond that it will talk nonsense."
)

Perceiving = Literal["qformer", "linear", "cross_attention", "caption", "none"]


@dataclass(frozen=True, kw_only=True)
class WorldDialogue:
    """One stage on the world's dialogues from ``base`` (world_base's model).

    ``bridge`` chooses the system: DvtmConfig is the end-to-end model (2408.08650), PipelineConfig
    the pipeline, whose parts get the same steps but no gradient from one another.
    ``photo_encoder``: the base's own where it is of that kind ("qformer"), else a new one over its
    vision encoder ("linear"; "cross_attention": its states are attended to by
    ``cross_attention_layers`` of the LLM, which start shut and say nothing of photos:
    see ``world_v2.py``); or "caption": photos of the context are read as
    captions by the base's own captioner; or "none": the LLM knows only that there was a photo.
    MiniGPT-5 and GILL are in ``world_systems.py``.
    """

    base: str = "runs/world_base/model"
    num_dialogues: int = 90_000
    excerpts: float = 0.7  # of the dialogues (see tasks.excerpt)
    exercises: float = 0.0  # of the visits (see world.talk.world_exercise)
    drop_words: float = 0.0  # of the user's words (see tasks.DialogueTask)
    part_twins: float = 0.0  # noise for near-equal word embeddings (see models/vocabulary.py)
    seed: int = 0
    # the paper anneals over three epochs; these runs see less than one
    bridge: BridgeConfig = field(default=DvtmConfig(annealing_epochs=0.3))
    start_captions: int = 256  # by which a new mapper is started (see Bridge.start); 0: as built
    photo_encoder: Perceiving = "qformer"
    photo_tokens: int | None = None  # of a "linear" one (GILL's k); None: as many as the base's
    cross_attention_layers: tuple[int, ...] = (1, 4)  # their numbers among all, new ones included
    stage: Stage = field(
        default=Stage(
            name="end_to_end",
            steps=2200,
            batch_size=32,
            learning_rate=8e-4,
            learning_rates={
                "painter.unet": 0.1,
                "painter.text": 0.0,
                "painter.vae": 0.0,
                "captioner": 0.0,
            },
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weights={"t": 1.0, "moment": 0.5, "caption": 0.5, "v": 1.0},
            ema=0.998,
        )
    )
    calibration_dialogues: int = 1000
    validation_dialogues: int = 200  # for stage.evaluate_every: dev BLEU-2 and FID


EPOCH = 90_000 // 32  # steps
PAPER = WorldDialogue(  # 2408.08650, section 3.1, on the world instead of PhotoChat
    excerpts=0.0,
    bridge=DvtmConfig(),
    stage=dataclasses.replace(
        e2e.PAPER,
        name="paper",
        steps=80 * EPOCH,
        evaluate_every=EPOCH,
        patience_metrics=("bleu2", "-fid"),
    ),
)


PIPELINE = dataclasses.replace(
    WorldDialogue(),
    bridge=PipelineConfig(),
    photo_encoder="caption",
    stage=dataclasses.replace(WorldDialogue().stage, name="pipeline"),
)


def run_world_dialogue(
    config: WorldDialogue,
    *,
    out: Path,
    resume: bool,
    name: str,
    dialogue: Callable[[int], Dialogue] = world_dialogue,
) -> Path:
    """Train from the base and write ``out/model``. ``dialogue``: the one of a seed."""
    model = start_model(config, name=name)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    run.run(config.stage, dialogue_task(model, config, dialogue=dialogue))
    return finish_model(model, config, out=out, dialogue=dialogue)


def start_model(config: WorldDialogue, *, name: str) -> PhotoDialogueModel:
    """The base's parts with the configured bridge and photo_encoder, before any training.

    Raises ConfigError if there is no base.
    """
    base = Path(config.base)
    if not base.is_dir():
        raise ConfigError(
            f'base is "{base}", and there is no such folder; train it first with '
            '"showtell train world_base", or name one with --set base=PATH'
        )
    if config.photo_tokens is not None and (
        config.photo_encoder != "linear" or config.photo_tokens < 1
    ):
        raise ConfigError(
            f"photo_tokens is {config.photo_tokens} with "
            f'photo_encoder="{config.photo_encoder}"; it says how'
            " many tokens a linear map makes of a photo, one or more; set "
            "photo_encoder=linear, or leave photo_tokens out"
        )
    if config.start_captions < 0 or config.start_captions == 1:
        raise ConfigError(
            f"start_captions is {config.start_captions}; wanted 2 or more, since a mapper is "
            "started by what differs between them, or 0 to leave it as built; leave it out for 256"
        )
    torch.manual_seed(config.seed)
    model = load_folder(base)
    if config.photo_encoder in ("caption", "none"):
        perceive = "caption" if config.photo_encoder == "caption" else "nothing"
        settings = dataclasses.replace(model.renderer.config, perceive=perceive)
        model.renderer = Renderer(model.language.tokenizer, settings)
        model.photo_encoder = None
    if config.photo_encoder == "caption":
        model.captioner = load_folder(base).requires_grad_(False)
        model.captioner.painter = None
    elif config.photo_encoder == "linear":
        num_tokens = config.photo_tokens or model.renderer.config.num_photo_tokens
        known = (
            isinstance(model.photo_encoder, LinearPhotoEncoder) and model.photo_encoder.num_tokens
        )
        if known != num_tokens:
            model = reading_linearly(model, num_tokens=num_tokens)
    elif config.photo_encoder == "cross_attention" and not has_cross_attention(model.language):
        model = attending(model, layers=config.cross_attention_layers)
    elif config.photo_encoder == "qformer" and isinstance(model.photo_encoder, LinearPhotoEncoder):
        raise ConfigError(
            f'photo_encoder is "qformer", and the one in "{base}" is linear; wanted a base with a '
            'Q-Former; set photo_encoder=linear, or train world_base with reader="qformer"'
        )
    before, model = model, with_bridge(model, config.bridge, seed=config.seed)
    if config.part_twins:
        table = model.language.model.get_input_embeddings()
        part_twins(table, noise=config.part_twins, seed=config.seed)
    model.name = name
    model.card = {
        "limits": LIMITS,
        "words": "world",
        "openings": list(OPENINGS[:3]),
        "licence": "MIT; the photo world is drawn and written by this project",
    }
    if model.painter is not None:
        model.painter.unet.to(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    model = model.to(the_device())  # its new parts too
    if config.start_captions and model is not before:  # else its bridge is a trained one
        start_bridge(model, photo_captions(config.start_captions), seed=config.seed)
    return model


def photo_captions(count: int) -> list[str]:
    """The captions of the first training photos."""
    return [captioned_scene(seed)[1] for seed in TRAIN_SEEDS[:count]]


def dialogue_task(
    model: PhotoDialogueModel,
    config: WorldDialogue,
    *,
    dialogue: Callable[[int], Dialogue] = world_dialogue,
    parts: int | None = None,
) -> DialogueTask:
    """The world's dialogues: the same examples in the same order for every system."""
    return DialogueTask(
        model,
        dialogue=dialogue,
        length=config.num_dialogues,
        pixels_of=world_pixels,
        excerpts=config.excerpts,
        exercises=config.exercises,
        exercise=world_exercise if config.exercises else None,
        drop_words=config.drop_words,
        parts=parts,
        validate_with=lambda trained: _dev_measures(trained, config),
    )


def finish_model(
    model: PhotoDialogueModel,
    config: WorldDialogue,
    *,
    out: Path,
    dialogue: Callable[[int], Dialogue] = world_dialogue,
) -> Path:
    """Set the threshold on P(share) on dev dialogues and write ``out/model``."""
    threshold = share_threshold(model, config.calibration_dialogues, dialogue=dialogue)
    model.decoding = dataclasses.replace(model.decoding, share_threshold=threshold)
    recipe = {"name": model.name, "config": to_plain(config)}
    save_model(model, out / "model", recipe=recipe)
    return out / "model"


def _dev_measures(model: PhotoDialogueModel, config: WorldDialogue) -> dict[str, float]:
    from showtell.evaluation.measures import dev_measures

    return dev_measures(model, count=config.validation_dialogues, seed=config.seed)


def share_threshold(
    model: PhotoDialogueModel,
    count: int,
    *,
    dialogue: Callable[[int], Dialogue] = world_dialogue,
) -> float:
    """The threshold on P(share) with the best F1 on dev dialogues."""
    dialogues = [dialogue(seed) for seed in DEV_SEEDS[:count]]
    read = read_gold(model, described(model, dialogues), batch_size=32)
    return best_threshold(read.shared_M, read.p_share_M).threshold
