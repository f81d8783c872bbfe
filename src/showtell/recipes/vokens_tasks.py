"""What MiniGPT-5 (arXiv 2310.02239, section 2.3) is trained on, as data: two stages, three tasks.

UAS, unimodal alignment: a caption is read, a photo is made.      0.01 L_text + L_LDM + 0.1 L_cap
MLS, multimodal learning: one step of a story is asked for, after the steps before it.
                                                                  0.01 L_text + L_LDM
    text_only     the photo of the step is read, its text is written
    image_only    the text of the step is read, its photo is made
    multimodal    nothing of the step is read; its text is written, then its photo made

A task is a dialogue of one user turn (what is read) and the agent's (what is learnt), so that
Renderer, Batch and PhotoDialogueModel are those of every other recipe. MLS learns without
descriptions: its photos carry no caption, and a caption never reaches a batch of it.

The task sentences are in several wordings, as many as released (7 for the instruction rows of UAS;
2, 3 and 2 for the three tasks), and are this project's own. Nothing here trains.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from showtell.bridges.vokens import PRESETS, Vokens, VokensConfig
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import ConfigError, DataError, did_you_mean
from showtell.models.adapters import adapter_rates
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language_model import LanguageModel
from showtell.prompt import Renderer
from showtell.training.stage import Stage

SYSTEM = (
    "You read a story of texts and photos and tell its next step in words, in a photo, or both."
)

INSTRUCTIONS = (
    "Make a photo of this: {caption}",
    "Paint what these words say: {caption}",
    "{caption} Can you show me that?",
    "Please give me a photo that fits the words: {caption}",
    "I am looking for a photo of this: {caption}",
    "Here is a description. {caption} Turn it into a photo.",
    "Show me, do not tell me: {caption}",
)

TASKS: dict[str, tuple[str, ...]] = {
    "text_only": (
        "Write the text of the next step, which this photo shows:",
        "This photo comes next. Say what happens in it:",
    ),
    "image_only": (
        "Make the photo of the next step, of which the text is: {text}",
        "The story goes on: {text} Show this in a photo.",
        "What could a photo look like with these words beside it? {text}",
    ),
    "multimodal": (
        "Go on with the story: one more step, in words and in a photo.",
        "What happens next? Tell it and show it.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a story: a text and its photo (VIST's stories have five)."""

    text: str
    photo: Photo


# -------------------------------------------------------------------------------- the model


def with_vokens(base: PhotoDialogueModel, config: VokensConfig, *, seed: int) -> PhotoDialogueModel:
    """The parts of ``base`` with vokens for a bridge, at their sizes: where a run starts.

    The vocabulary of ``base.language`` grows in place; ``seed`` starts new rows and mapper. Raises
    ConfigError for a model without a painter.
    """
    if base.painter is None:
        raise ConfigError(
            f'"{base.name}" has no painter, which vokens are for; give a base model that paints'
        )
    language = base.language
    config = config.fitted(language_width=language.width, tower=base.painter.text)
    language.grow_vocabulary(config.tokens, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bridge = Vokens(config, tokenizer=language.tokenizer)
    settings = replace(
        base.renderer.config, span_tokens=bridge.span_tokens, span_trained=bridge.span_trained
    )
    return PhotoDialogueModel(
        language=language,
        perceptron=base.perceptron,
        bridge=bridge,
        painter=base.painter,
        renderer=Renderer(language.tokenizer, settings, has_pixels=base.renderer.has_pixels),
        name=base.name,
        card=base.card,
        decoding=base.decoding,
    )


# -------------------------------------------------------------------------------------- stages

_STILL = {"language.model": 0.0, "perceptron": 0.0, "painter": 0.0}
# The paper has no loss of its own for the share moment, which the model always measures.
_TEXT = {"t": 0.01, "moment": 0.0}

UAS = Stage(
    name="unimodal_alignment",
    steps=100_000,  # two passes over 2.4 million pairs; a recipe that has the pairs sets it
    batch_size=48,
    learning_rate=2e-5,
    # the rows of the vokens at 2e-5, the mapper at 2e-4 (release)
    learning_rates={**_STILL, "bridge": 10.0},
    warmup=1000,
    decay="cosine",
    final_rate=0.0,
    clip=None,
    weights={**_TEXT, "ldm": 1.0, "cap": 0.1},
)
MLS = Stage(
    name="multimodal_learning",
    steps=50_000,  # four passes over 400,000 tasks; a recipe that has the stories sets it
    batch_size=32,
    learning_rate=2e-5,
    learning_rates=_STILL,
    warmup=1000,
    decay="cosine",
    final_rate=0.0,
    clip=None,
    weights={**_TEXT, "ldm": 1.0},
)
# In the release's second stage these two no longer move.
RELEASE_STILL = {"bridge.mapper.mlp": 0.0, "bridge.mapper.queries_SC": 0.0}


def multimodal_stage(language: LanguageModel, *, preset: str = "paper") -> Stage:
    """MLS for an LLM that has its adapter (LoRA or prefix): adapter, new rows and mapper move."""
    if preset not in PRESETS:
        raise ConfigError(f'unknown preset "{preset}"{did_you_mean(preset, PRESETS)}')
    still = RELEASE_STILL if preset == "release" else {}
    return replace(MLS, learning_rates={**MLS.learning_rates, **adapter_rates(language), **still})


@dataclass(frozen=True, kw_only=True)
class VokensExperiment:
    """The bridge and the two stages of one row of the paper's tables; ``uas`` None: skipped."""

    bridge: VokensConfig = field(default=PRESETS["paper"])
    uas: Stage | None = UAS
    mls: Stage = MLS


def _weighing(experiment: VokensExperiment, weights: Mapping[str, float]) -> VokensExperiment:
    def weigh(stage: Stage) -> Stage:
        known = {name: value for name, value in weights.items() if name in stage.weights}
        return replace(stage, weights={**stage.weights, **known})

    uas = None if experiment.uas is None else weigh(experiment.uas)
    return replace(experiment, uas=uas, mls=weigh(experiment.mls))


FULL = VokensExperiment()
# Table 6 and the last row of Table 1; numbers of vokens and guidance scales are settings of the
# bridge (``num_vokens``) and of the decoding (``guidance``).
EXPERIMENTS: dict[str, VokensExperiment] = {
    "full": FULL,
    "release": replace(FULL, bridge=PRESETS["release"]),
    "without_cfg": replace(FULL, bridge=replace(FULL.bridge, drop=0.0, negative="empty")),
    "without_cap": _weighing(FULL, {"cap": 0.0}),
    "without_ldm": _weighing(FULL, {"ldm": 0.0}),
    "without_uas": replace(FULL, uas=None),
}


# --------------------------------------------------------------------------------------- tasks


def alignment_dialogues(
    pairs: Sequence[tuple[str, Photo]], *, seed: int, instruction_every: int | None = 100
) -> list[Dialogue]:
    """UAS: for each (caption, photo) a dialogue that reads the caption and makes the photo.

    Every ``instruction_every``-th pair comes a second time, asked for in one of seven wordings
    (release; None: never). The photo keeps its caption, for L_cap. Raises DataError for a pair
    without a caption.
    """
    dialogues = []
    for index, (caption, photo) in enumerate(pairs):
        if not caption.strip():
            raise DataError(
                f'photo "{photo.id}" has no caption; unimodal alignment reads it; leave the photo '
                "out, or give it one"
            )
        made = replace(photo, caption=caption)
        dialogues.append(_dialogue(f"align-{photo.id}", [caption], [made], task="alignment"))
        if instruction_every is not None and index % instruction_every == 0:
            asked = random.Random(f"{seed}-{photo.id}").choice(INSTRUCTIONS)
            read = [asked.format(caption=caption)]
            dialogues.append(_dialogue(f"ask-{photo.id}", read, [made], task="instruction"))
    return dialogues


def story_dialogues(name: str, story: Sequence[Step], *, seed: int) -> list[Dialogue]:
    """MLS: the tasks of a story. Each step gives ``image_only``; all but the first also
    ``multimodal`` and ``text_only``, as there is nothing to go on from before it (release)."""
    dialogues = []
    for k in range(len(story)):
        kinds = ("image_only",) if k == 0 else ("image_only", "multimodal", "text_only")
        dialogues += [story_task(name, story[: k + 1], kind, seed=seed) for kind in kinds]
    return dialogues


def story_task(name: str, story: Sequence[Step], kind: str, *, seed: int) -> Dialogue:
    """The last step of ``story`` as a task of the given kind, after all steps before it."""
    if kind not in TASKS:
        raise ConfigError(f'unknown task "{kind}"{did_you_mean(kind, TASKS)}')
    if not story:
        raise DataError(f'story "{name}" has no steps; wanted at least one; leave it out')
    *past, step = [replace(step, photo=_undescribed(step.photo)) for step in story]
    rng = random.Random(f"{seed}-{name}-{len(story)}-{kind}")
    read: list[Element] = [SYSTEM]
    for earlier in past:
        read += [earlier.text, earlier.photo]
    read.append(rng.choice(TASKS[kind]).format(text=step.text))
    if kind == "text_only":
        read.append(step.photo)
    made: dict[str, list[Element]] = {
        "text_only": [step.text],
        "image_only": [step.photo],
        "multimodal": [step.text, step.photo],
    }
    return _dialogue(f"{name}-{len(story)}-{kind}", read, made[kind], task=kind)


def _undescribed(photo: Photo) -> Photo:
    """Description-free learning: the photo, and no word about it."""
    return replace(photo, caption="")


def _dialogue(
    name: str, read: Sequence[Element], made: Sequence[Element], *, task: str
) -> Dialogue:
    # a photo is a turn of its own, as everywhere (docs/design.md)
    answers = tuple(Turn(speaker=AGENT, elements=(element,)) for element in made)
    turns = (Turn(speaker=USER, elements=tuple(read)), *answers)
    return Dialogue(id=name, turns=turns, labels={"task": task})
