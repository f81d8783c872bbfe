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
from collections.abc import Sequence
from dataclasses import dataclass, replace

from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import ConfigError, DataError, did_you_mean
from showtell.models.adapters import adapter_rates
from showtell.models.language import LanguageModel
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


# -------------------------------------------------------------------------------------- stages

_STILL = {"language.model": 0.0, "photo_encoder": 0.0, "painter": 0.0, "captioner": 0.0}
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


def adapted(stage: Stage, language: LanguageModel) -> Stage:
    """The stage for an LLM that has its adapter (LoRA or prefix): the adapter moves as well.

    A rate that the stage names itself counts.
    """
    return replace(stage, learning_rates={**adapter_rates(language), **stage.learning_rates})


# Table 6, the last row of Table 1 and the release, as settings of a recipe that has ``bridge``,
# ``alignment`` (UAS) and ``stage`` (MLS). Guidance scales are the decoding's (``guidance``).
ABLATIONS: dict[str, tuple[str, ...]] = {
    "full": (),
    "without_cfg": ("bridge.drop=0", "bridge.negative=empty"),
    "without_cap": ("alignment.weights.cap=0",),
    "without_ldm": ("alignment.weights.ldm=0", "stage.weights.ldm=0"),
    "without_uas": ("alignment.steps=0",),
    # against the paper, whose second stage is description-free: what that costs
    "described": ("described=true", "stage.weights.cap=1"),
    "vokens_1": ("bridge.num_vokens=1",),
    "vokens_4": ("bridge.num_vokens=4",),
    "vokens_16": ("bridge.num_vokens=16",),
    "release": (
        "bridge.states=before",
        "bridge.supervised=ends",
        "bridge.snr_gamma=5",
        # in the release's second stage these two no longer move
        "stage.learning_rates.bridge.mapper.mlp=0",
        "stage.learning_rates.bridge.mapper.queries_SC=0",
    ),
}


# --------------------------------------------------------------------------------------- tasks


def alignment_dialogue(caption: str, photo: Photo) -> Dialogue:
    """UAS: the caption is read and the photo made. The photo keeps its caption, for L_cap.

    Raises DataError for a pair without a caption.
    """
    made = _captioned(caption, photo)
    return _dialogue(f"align-{photo.id}", [caption], [made], task="alignment")


def instruction_dialogue(caption: str, photo: Photo, *, seed: int) -> Dialogue:
    """The same, asked for in one of seven wordings."""
    made = _captioned(caption, photo)
    asked = random.Random(f"{seed}-{photo.id}").choice(INSTRUCTIONS)
    read = [asked.format(caption=caption)]
    return _dialogue(f"ask-{photo.id}", read, [made], task="instruction")


def alignment_dialogues(
    pairs: Sequence[tuple[str, Photo]], *, seed: int, instruction_every: int | None = 100
) -> list[Dialogue]:
    """UAS: a dialogue for each (caption, photo), and for every ``instruction_every``-th a second
    one that asks for it (release; None: never)."""
    dialogues = []
    for index, (caption, photo) in enumerate(pairs):
        dialogues.append(alignment_dialogue(caption, photo))
        if instruction_every is not None and index % instruction_every == 0:
            dialogues.append(instruction_dialogue(caption, photo, seed=seed))
    return dialogues


def _captioned(caption: str, photo: Photo) -> Photo:
    if not caption.strip():
        raise DataError(
            f'photo "{photo.id}" has no caption; unimodal alignment reads it; leave the photo '
            "out, or give it one"
        )
    return replace(photo, caption=caption)


def undescribed(dialogue: Dialogue) -> Dialogue:
    """MLS on dialogues: the agent's photos carry no caption, so no word about them is learnt."""
    turns = []
    for turn in dialogue.turns:
        elements = tuple(_undescribed(e) if isinstance(e, Photo) else e for e in turn.elements)
        turns.append(replace(turn, elements=elements) if turn.speaker == AGENT else turn)
    return replace(dialogue, turns=tuple(turns))


def story_dialogues(
    name: str, story: Sequence[Step], *, seed: int, described: bool = False
) -> list[Dialogue]:
    """MLS: the tasks of a story. Each step gives ``image_only``; all but the first also
    ``multimodal`` and ``text_only``, as there is nothing to go on from before it (release)."""
    dialogues = []
    for k in range(len(story)):
        kinds = ("image_only",) if k == 0 else ("image_only", "multimodal", "text_only")
        steps = story[: k + 1]
        dialogues += [
            story_task(name, steps, kind, seed=seed, described=described) for kind in kinds
        ]
    return dialogues


def story_task(
    name: str, story: Sequence[Step], kind: str, *, seed: int, described: bool = False
) -> Dialogue:
    """The last step of ``story`` as a task of the given kind, after all steps before it.

    ``described``: against the paper, the photo to be made keeps its caption, for L_cap.
    """
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
    photo = story[-1].photo if described else step.photo
    made: dict[str, list[Element]] = {
        "text_only": [step.text],
        "image_only": [photo],
        "multimodal": [step.text, photo],
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
