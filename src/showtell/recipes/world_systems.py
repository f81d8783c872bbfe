"""MiniGPT-5, GILL and their baselines on the world's dialogues, from the base of every other run.

world_vokens, world_vokens_prefix   generative vokens (2310.02239) with LoRA or a prefix
world_gill                          GILL (2305.17216), and an album beside the model
world_retrieval                     the same without a painter: every photo comes from the album
world_text                          words only: a photo is what the agent says of it

Dialogues, their order, steps, batch and decoding are those of ``WorldDialogue``; what moves, the
losses and their weights are each paper's, with the weight of ``moment`` that the others have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from photoworld.drawing import draw
from photoworld.scenes import ATTRIBUTES, TRAIN_SEEDS
from photoworld.talk import world_dialogue
from showtell.album.index import Album, AlbumPhoto, empty_album
from showtell.album.ingest import PHOTOS, embed_with
from showtell.data.photos import save_photo
from showtell.dialogue import Dialogue, Photo
from showtell.errors import ConfigError
from showtell.models.adapters import (
    LoraConfig,
    PrefixConfig,
    add_lora,
    add_prefix,
    require_peft,
)
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.papers import GillConfig, PipelineConfig, VokensConfig
from showtell.papers.gill import FROZEN, WEIGHTS, gill_stages
from showtell.papers.minigpt5 import (
    MLS,
    UAS,
    alignment_dialogue,
    undescribed,
)
from showtell.prompt import Renderer
from showtell.recipes.bridged import adapted
from showtell.recipes.small import IMAGE_SIZE
from showtell.recipes.tasks import DialogueTask, world_pixels
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_decision import world_head
from showtell.recipes.world_dialogue import (
    WorldDialogue,
    dialogue_task,
    finish_model,
    start_model,
)
from showtell.training.features import captioned_scene
from showtell.training.stage import Stage

_WORLD = WorldDialogue().stage
MOMENT = _WORLD.weights["moment"]


def _at_world_size(stage: Stage) -> Stage:
    """A published stage with the steps, batch and schedule that all systems have here."""
    return replace(
        stage,
        steps=_WORLD.steps,
        batch_size=_WORLD.batch_size,
        learning_rate=1e-3,
        warmup=_WORLD.warmup,
        decay=_WORLD.decay,
        final_rate=_WORLD.final_rate,
        betas=_WORLD.betas,
        clip=_WORLD.clip,
        ema=_WORLD.ema,
    )


# --------------------------------------------------------------------------------------- vokens


@dataclass(frozen=True, kw_only=True)
class WorldVokens(WorldDialogue):
    """MiniGPT-5: ``alignment`` (UAS) on captioned photos, then ``stage`` (MLS) on dialogues whose
    photos have no captions. ``adapter`` joins the LLM after UAS; the LLM itself stands still.

    ``described``: against the paper they keep their captions, for L_cap, which then wants a weight
    (``stage.weights.cap``).

    ``stage.steps=0`` ends with UAS, without an adapter. Such a model is a ``base`` for several runs
    of MLS, with ``alignment.steps=0``: its vokens are kept.
    """

    bridge: VokensConfig = VokensConfig()
    # no dropout: it would draw from a die that a resumed run does not know
    adapter: LoraConfig | PrefixConfig = LoraConfig(dropout=0.0)
    num_pairs: int = 90_000
    described: bool = False
    alignment: Stage = field(
        default=replace(
            _at_world_size(UAS),
            steps=1000,
            learning_rate=3e-3,
            learning_rates={**UAS.learning_rates, "bridge": 1.0},
        )
    )
    stage: Stage = field(
        default=replace(_at_world_size(MLS), weights={**MLS.weights, "moment": MOMENT})
    )


PREFIX = WorldVokens(adapter=PrefixConfig())


def run_world_vokens(
    config: WorldVokens,
    *,
    out: Path,
    resume: bool,
    name: str,
    dialogue: Callable[[int], Dialogue] = world_dialogue,
) -> Path:
    """Train both stages and write ``out/model``. ``dialogue``: that of MLS of a seed."""
    require_peft()  # now, and not after the first stage
    model = start_model(config, name=name)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    pairs = DialogueTask(
        model,
        dialogue=lambda index: alignment_example(index, num_pairs=config.num_pairs),
        length=config.num_pairs + len(range(0, config.num_pairs, INSTRUCTION_EVERY)),
        pixels_of=world_pixels,
    )
    run.run(config.alignment, pairs)
    if config.stage.steps:
        torch.manual_seed(config.seed)  # the adapter's first values, also when the run is resumed
        if isinstance(config.adapter, PrefixConfig):
            add_prefix(model.language, config.adapter)
        else:
            add_lora(model.language, config.adapter)
        read = dialogue if config.described else lambda seed: undescribed(dialogue(seed))
        run.run(adapted(config.stage, model.language), dialogue_task(model, config, dialogue=read))
    return finish_model(model, config, out=out, dialogue=dialogue)


INSTRUCTION_EVERY = 100  # pairs (release)


def alignment_example(index: int, *, num_pairs: int) -> Dialogue:
    """The example of UAS: a drawn photo and its caption, after ``num_pairs`` every hundredth once
    more, asked for."""
    asked = index >= num_pairs
    seed = (index - num_pairs) * INSTRUCTION_EVERY if asked else index
    scene, caption, _ = captioned_scene(seed)
    photo = Photo(id=f"photo-{seed}", labels={"scene": scene.as_dict()})
    if asked:
        return alignment_dialogue(caption, photo, seed=seed)
    return alignment_dialogue(caption, photo)


# ----------------------------------------------------------------------------------------- GILL

_GILL = replace(
    _at_world_size(gill_stages()[0]),
    learning_rate=2e-3,
    weights={**WEIGHTS, "moment": MOMENT, "v": 1.0},  # v: where bridge.painter_loss asks for it
)


@dataclass(frozen=True, kw_only=True)
class WorldGill(WorldDialogue):
    """GILL: the LLM is frozen. Without ``paints`` the model is left without its painter, and every
    photo is one of the ``album_photos`` in ``out/album``. A model that has both decides by a head
    that is trained on the world's labels in ``decision_dialogues`` (0: no head)."""

    # the paper's 512 and 256 stand beside an LLM of width 4,096
    bridge: GillConfig = GillConfig(width=128, album_width=64)
    stage: Stage = field(default=_GILL)
    paints: bool = True
    album_photos: int = 2000
    decision_dialogues: int = 1000


RETRIEVAL = WorldGill(
    paints=False,
    stage=replace(
        _GILL,
        name="retrieval",
        weights={**_GILL.weights, "g": 0.0},
        learning_rates={**FROZEN, "bridge.mapper": 0.0},
    ),
)


def run_world_gill(
    config: WorldGill,
    *,
    out: Path,
    resume: bool,
    name: str,
    dialogue: Callable[[int], Dialogue] = world_dialogue,
) -> Path:
    """Train and write ``out/model`` and ``out/album``. ``dialogue``: the one of a seed."""
    if not config.paints and config.album_photos < 1:
        raise ConfigError(
            f"album_photos is {config.album_photos} and the model does not paint, so it has no "
            "photo to share; set album_photos=2000"
        )
    model = start_model(config, name=name)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    # in one part: the negatives of l_r are all photos of the batch
    run.run(config.stage, dialogue_task(model, config, dialogue=dialogue, parts=1))
    if not config.paints:
        model.painter = None
    if config.album_photos:
        album = world_album(model, TRAIN_SEEDS[: config.album_photos], folder=out / "album")
        if config.paints and config.decision_dialogues:
            # the last of the training seeds, which the dialogues of the stage do not reach
            seeds = TRAIN_SEEDS[-config.decision_dialogues :]
            model.bridge.decision = world_head(model, album, seeds)
    return finish_model(model, config, out=out)


@torch.no_grad()
def world_album(
    model: PhotoDialogueModel, seeds: Sequence[int], *, folder: Path, batch_size: int = 64
) -> Album:
    """Drawn photos with a GILL model's keys, written to ``folder``; "photo-7" shows
    ``photo_scene(7)``."""
    embed = embed_with(model.bridge.photo_keys, size=IMAGE_SIZE)
    album = empty_album(width=model.album_width, made_by=model.name)
    for start in range(0, len(seeds), batch_size):
        photos, images = [], []
        for seed in seeds[start : start + batch_size]:
            scene, caption, _ = captioned_scene(seed, always=ATTRIBUTES)
            photo = AlbumPhoto(id=f"photo-{seed}", path=f"{PHOTOS}/{seed}.png", caption=caption)
            images.append(draw(scene))
            save_photo(images[-1], folder / f"{PHOTOS}/{seed}.png")
            photos.append(photo)
        album = album.with_photos(photos, embed(images))
    album.save(folder)
    return album


# ----------------------------------------------------------------------------------------- text

TEXT = replace(
    WorldDialogue(),
    bridge=PipelineConfig(),
    stage=replace(_WORLD, name="text", weights={"t": 1.0, "moment": MOMENT, "caption": 0.5}),
)


def run_world_text(config: WorldDialogue, *, out: Path, resume: bool, name: str) -> Path:
    """Train on the same dialogues and write a model that paints nothing: ``out/model``.

    It reads the user's photos, decides when to share one and says its caption; of its own photos
    it knows no more than that.
    """
    model = start_model(config, name=name)
    model.painter = None
    settings = replace(model.renderer.config, own_pixels=False)
    model.renderer = Renderer(model.language.tokenizer, settings)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    run.run(config.stage, dialogue_task(model, config))
    return finish_model(model, config, out=out)
