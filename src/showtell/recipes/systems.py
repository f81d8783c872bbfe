"""The systems as experiments, each a variant of another: on any data, and on the photo world's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from showtell.papers.divter import RATES, WEIGHTS, DivterConfig
from showtell.papers.e2e import PAPER, DvtmConfig
from showtell.papers.gill import FROZEN, STAGE, GillConfig
from showtell.papers.minigpt5 import MLS, UAS, VokensConfig
from showtell.papers.pipeline import PipelineConfig
from showtell.recipes.experiment import Experiment
from showtell.training.stage import Stage

# ------------------------------------------------------------------------- dialogues of any data

_STILL = {"painter.text": 0.0, "painter.vae": 0.0, "captioner": 0.0}

DIALOGUES = Experiment(
    stages=(
        Stage(
            name="dialogues",
            steps=1000,
            batch_size=32,
            learning_rates=_STILL,
            warmup=100,
            weights={"t": 1.0, "v": 1.0, "moment": 0.5, "caption": 0.5},
        ),
    )
)
DIALOGUES_END_TO_END = replace(DIALOGUES, bridge=DvtmConfig(), stages=(PAPER,))
DIALOGUES_PIPELINE = replace(
    DIALOGUES_END_TO_END,
    bridge=PipelineConfig(),
    photo_encoder="caption",
    stages=(replace(PAPER, name="pipeline"),),
)
DIALOGUES_DIVTER = replace(
    DIALOGUES_PIPELINE,
    bridge=DivterConfig(),
    codes="runs/photo_codes/model",
    stages=(
        replace(PAPER, name="divter", learning_rates=RATES, weights={**PAPER.weights, **WEIGHTS}),
    ),
)
# what sees photos learns from captions, and nothing else moves: for a base of ``parts``
PHOTO_ENCODER_CAPTIONS = replace(
    DIALOGUES,
    data="cc3m:data/cc3m/GCC-training.tsv",
    stages=(
        Stage(
            name="seeing",
            steps=20_000,
            batch_size=64,
            learning_rate=1e-4,
            learning_rates={"": 0.0, "photo_encoder": 1.0, "photo_encoder.vision": 0.0},
            decay="cosine",
            weights={"t": 1.0, "moment": 0.0, "caption": 0.0},
            form="captions",
            paint=False,
        ),
    ),
)
_ALIGNMENT = replace(UAS, name="alignment", form="alignment")
_LEARNING = replace(MLS, name="learning", form="story")
VOKENS_ALIGNMENT = replace(
    DIALOGUES,
    bridge=VokensConfig(),
    data="cc3m:data/cc3m",
    calibration_dialogues=0,
    stages=(_ALIGNMENT,),
)
VOKENS_LEARNING = replace(
    DIALOGUES,
    base="runs/vokens_alignment/model",
    adapter="lora",
    data="vist:data/vist/train.story-in-sequence.json",
    calibration_dialogues=0,
    stages=(_LEARNING,),
)
GILL_CAPTIONS = replace(
    DIALOGUES,
    bridge=GillConfig(),
    data="cc3m:data/cc3m",
    calibration_dialogues=0,
    # a photo is two examples: its caption after it, and it after its caption
    stages=(replace(STAGE, form="caption_pairs", batch_size=2 * STAGE.batch_size),),
)

# ------------------------------------------------------------------------------- the photo world

_CARD = {
    "limits": (
        "It knows a small drawn world: twenty subjects (dogs, cakes, robots, the friends Mia and "
        "Leo, the pets Biscuit and Luna ...) in eight places, three times of day and four "
        "weathers. Beyond that it will talk nonsense."
    ),
    "words": "world",
    "openings": [
        "hi! can you show me the two red dogs under the bridge at sunset?",
        "hey, please send me a pic of Mia on the bridge in the rain",
        "don't tell me about Luna, just send me a photo of her under the table in the kitchen",
    ],
    "licence": "MIT; the photo world is drawn and written by this project",
}
_MINI = Stage(
    name="end_to_end",
    steps=2200,
    batch_size=32,
    learning_rate=8e-4,
    learning_rates={**_STILL, "painter.unet": 0.1},
    warmup=100,
    decay="cosine",
    betas=(0.9, 0.98),
    weights={"t": 1.0, "moment": 0.5, "caption": 0.5, "v": 1.0},
    ema=0.998,
    excerpts=0.7,
)
WORLD_MINI = Experiment(
    base="runs/world_base/model",
    data="world:train",
    num_dialogues=90_000,
    dev="world:dev",
    calibration_dialogues=1000,
    photos="world:photos:train",
    bridge=DvtmConfig(annealing_epochs=None),
    start_captions=256,
    card=_CARD,
    stages=(_MINI,),
)
_EPOCH = 90_000 // 32  # steps
WORLD_PAPER = replace(  # 2408.08650, section 3.1, on the world instead of PhotoChat
    WORLD_MINI,
    bridge=DvtmConfig(),
    stages=(
        replace(
            PAPER,
            name="paper",
            steps=80 * _EPOCH,  # as released: the paper gives no limit, patience ends it
            evaluate_every=_EPOCH,
            patience_metrics=("bleu2", "-fid"),
        ),
    ),
)
WORLD_PIPELINE = replace(
    WORLD_MINI,
    bridge=PipelineConfig(),
    photo_encoder="caption",
    stages=(replace(_MINI, name="pipeline"),),
)
# Layers and projector are new, so photos are shown and told first, as Llama-Vision's were: the
# Llama stands still. The gates start shut, and while they are, nothing else there learns: they move
# at twenty times the rate.
_NEW_LAYERS = "language.model.model.layers.{attended}."  # each of cross_attention_layers
WORLD_V2 = replace(
    WORLD_MINI,
    photo_encoder="cross_attention",
    stages=(
        Stage(
            name="seeing",
            steps=1500,
            batch_size=48,
            learning_rate=1.2e-3,
            learning_rates={
                "photo_encoder.vision": 0.25,
                "painter": 0.0,
                "bridge": 0.0,
                "language": 0.0,
                _NEW_LAYERS: 1.0,
                _NEW_LAYERS + "cross_attn_attn_gate": 20.0,
                _NEW_LAYERS + "cross_attn_mlp_gate": 20.0,
            },
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weights={"t": 1.0, "moment": 0.2, "caption": 0.5},
            captions="world:photos:train",
            excerpts=0.7,
            paint=False,
        ),
        _MINI,
    ),
)


def _at_world_size(stage: Stage, **changes: Any) -> Stage:
    """A published stage with the steps, batch and schedule that all systems have here."""
    keys = ("steps", "batch_size", "warmup", "decay", "final_rate", "betas", "clip", "ema")
    same = {key: getattr(_MINI, key) for key in keys}
    return replace(stage, **{**same, "learning_rate": 1e-3, **changes})


_MOMENT = _MINI.weights["moment"]  # that of the other systems: the papers have no such loss
WORLD_VOKENS = replace(
    WORLD_MINI,
    bridge=VokensConfig(),
    adapter="lora",
    stages=(
        _at_world_size(
            _ALIGNMENT,
            steps=1000,
            learning_rate=3e-3,
            learning_rates={**UAS.learning_rates, "bridge": 1.0},
            data="world:photos:train",
        ),
        _at_world_size(
            _LEARNING,
            weights={**MLS.weights, "moment": _MOMENT},
            form="undescribed",
            excerpts=0.7,
        ),
    ),
)
WORLD_VOKENS_PREFIX = replace(WORLD_VOKENS, adapter="prefix")
# Before it learns without descriptions, or stands still, the whole LLM learns to gather at the
# bridge's tokens what its photo is to show: the captions of the agent's photos are targets of the
# mapper. The painter rests. P(share) is not learnt of dialogues that end in a photo.
_GATHERING = _at_world_size(
    Stage(
        name="gathering",
        steps=_MINI.steps,
        batch_size=_MINI.batch_size,
        learning_rates={"photo_encoder": 0.0, "painter": 0.0, "captioner": 0.0},
        weights={"t": 1.0, "moment": 0.0, "cap": 3.0, "ldm": 0.0},
        form="shares",
        excerpts=0.7,
    )
)
_RIDGE_RANK = 128  # of 2,048 numbers of the states and 5,120 of the condition
# Of dialogues, too: a map of captions alone makes noise of what else is in a dialogue's states.
_FIT_CAPTIONS, _FIT_DIALOGUES = 2000, 4000
WORLD_VOKENS_GATHERED = replace(
    WORLD_VOKENS,
    bridge=VokensConfig(ridge_rank=_RIDGE_RANK, ridge_damping=0.1),
    start_captions=_FIT_CAPTIONS,
    start_dialogues=_FIT_DIALOGUES,
    stages=(
        replace(WORLD_VOKENS.stages[0], steps=500, learning_rate=1e-3),
        _GATHERING,
        replace(WORLD_VOKENS.stages[1], steps=550, learning_rate=1e-4),
    ),
)
_GILL = GillConfig(width=128, album_width=64)  # the paper's 512 and 256 are for a width of 4,096
WORLD_GILL = replace(
    WORLD_MINI,
    bridge=_GILL,
    album_photos=2000,
    decision_dialogues=1000,
    stages=(
        _at_world_size(
            STAGE,
            learning_rate=2e-3,
            # v: where bridge.painter_loss asks for it
            weights={**STAGE.weights, "moment": _MOMENT, "v": 1.0},
            excerpts=0.7,
        ),
    ),
)
_WORLD_GILL = WORLD_GILL.stages[0]
WORLD_GILL_GATHERED = replace(
    WORLD_GILL,
    bridge=replace(_GILL, ridge_rank=_RIDGE_RANK, ridge_damping=0.1),
    start_captions=_FIT_CAPTIONS,
    start_dialogues=_FIT_DIALOGUES,
    stages=(
        replace(
            _GATHERING,
            accumulate=1,
            weights={"t": 1.0, "moment": 0.0, "g": 3.0, "r": 1.0, "v": 1.0},
        ),
        replace(_WORLD_GILL, steps=550, learning_rate=2e-4),
    ),
)
WORLD_RETRIEVAL = replace(
    WORLD_GILL,
    painter="training",
    stages=(
        replace(
            _WORLD_GILL,
            name="retrieval",
            weights={**_WORLD_GILL.weights, "g": 0.0},
            learning_rates={**FROZEN, "bridge.mapper": 0.0},
        ),
    ),
)
WORLD_TEXT = replace(
    WORLD_MINI,
    bridge=PipelineConfig(),
    painter="none",
    stages=(replace(_MINI, name="text", weights={"t": 1.0, "moment": _MOMENT, "caption": 0.5}),),
)
WORLD_DIVTER = replace(
    WORLD_PIPELINE,
    bridge=DivterConfig(),
    codes="runs/world_codes/model",
    stages=(
        replace(_MINI, name="divter", learning_rates=RATES, weights={**_MINI.weights, **WEIGHTS}),
    ),
)

_ON_STORIES = replace(WORLD_MINI, data="world:stories:train", dev="world:stories:dev")
_STORY = replace(WORLD_VOKENS.stages[-1], form="story", excerpts=0.0)
WORLD_STORIES = replace(
    _ON_STORIES,
    bridge=WORLD_VOKENS.bridge,
    adapter=WORLD_VOKENS.adapter,
    stages=(WORLD_VOKENS.stages[0], _STORY),
)
WORLD_STORIES_PREFIX = replace(WORLD_STORIES, adapter="prefix")
WORLD_STORIES_TEXT = replace(
    _ON_STORIES,
    bridge=PipelineConfig(),
    adapter="lora",
    painter="none",
    stages=(
        replace(_STORY, name="narration", form="narration", weights={"t": 1.0, "moment": 0.0}),
    ),
)
WORLD_STORIES_PAINTER = replace(
    _ON_STORIES,
    bridge=PipelineConfig(),
    stages=(
        replace(
            _MINI,
            name="painting",
            learning_rates={"": 0.0, "painter.unet": 1.0},
            weights={"t": 0.0, "moment": 0.0, "caption": 0.0, "v": 1.0},
            form="painting",
            excerpts=0.0,
        ),
    ),
)
WORLD_GILL_CAPTIONS = replace(
    WORLD_GILL,
    data="world:photos:train",
    album_photos=0,
    decision_dialogues=0,
    stages=(
        replace(
            _WORLD_GILL,
            form="alignment",
            excerpts=0.0,
            weights={**_WORLD_GILL.weights, "moment": 0.0},
        ),
    ),
)
WORLD_LONG = replace(  # read whole: an excerpt would leave out what was told long before
    WORLD_MINI,
    data="world:long:train",
    dev="world:long:dev",
    stages=(replace(_MINI, name="long", batch_size=8, excerpts=0.0),),
)
