"""MiniGPT-5 (arXiv 2310.02239): "generative vokens" as the bridge, Eq. 1-5 in the paper's order.

The LLM says n new tokens where a photo belongs, [IMG1] ... [IMGn]; its hidden states at them,
through a small mapper, stand where the painter's text encoder would:

    h_voken (n x D) -> MLP -> encoder \
                            q -> decoder -> h^ (S x C)         L = l1 L_text + l2 L_LDM + l3 L_cap

A photo's span is these tokens and no words: ``span_tokens`` tells the Renderer (``prompt.py``) and
the vocabulary (``models/vocabulary.py``) so. The first is the decision to share a photo; it forces
the others, in training, measuring and answering. So photos need no captions: with none, there is
no L_cap, and nothing else changes ("description-free").

L_text is the model's own ``t`` (``models/dialogue_model.py``), the mean of the vokens' negative
log-likelihoods with that of the words. The mapper works at the painter's width C, as released, so
that its output needs no projection.

What it is trained on is data (section 2.3), two stages and three tasks:

UAS, unimodal alignment: a caption is read, a photo is made.      0.01 L_text + L_LDM + 0.1 L_cap
MLS, multimodal learning: one step of a story is asked for, after the steps before it.
                                                                  0.01 L_text + L_LDM
    text_only     the photo of the step is read, its text is written
    image_only    the text of the step is read, its photo is made
    multimodal    nothing of the step is read; its text is written, then its photo made

A task is a dialogue of one user turn (what is read) and the agent's (what is learnt). MLS learns
without descriptions: a caption never reaches a batch of it. The task sentences are in several
wordings, as many as released, and are this project's own.

Letters as in ``models/parts.py``; K = n: a span is the n vokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn, with_photos
from showtell.errors import ConfigError, DataError, did_you_mean
from showtell.models.mappers import EncoderDecoder, RidgePath, standardize
from showtell.models.parts import (
    Bridge,
    BridgeConfig,
    Conditioning,
    Dice,
    Painter,
    PartSizes,
    PhotoSpans,
    PhotoTargets,
    TextTower,
    Tokenizer,
    drawn,
)
from showtell.training.stage import Stage

STATES: dict[str, Callable[[PhotoSpans], Tensor]] = {
    "after": lambda spans: spans.after_NKD,  # the states that have read each voken
    "before": lambda spans: spans.before_NKD,  # those that predict it, one place earlier (release)
}


def every_voken(count: int) -> tuple[int, ...]:
    """All vokens are text to be learnt, t_i in V and V_img; the sum is the model's ``t``."""
    return tuple(range(count))  # Eq. 1


def first_and_last(count: int) -> tuple[int, ...]:
    """The released code's mask, one place off: those between are never learnt as text."""
    return tuple(sorted({0, count - 1}))


SUPERVISED: dict[str, Callable[[int], tuple[int, ...]]] = {
    "all": every_voken,
    "ends": first_and_last,
}
NEGATIVES = ("zero", "empty")


@dataclass(frozen=True, kw_only=True)
class VokensConfig(BridgeConfig):
    """Sizes (the paper's: Vicuna-7B and Stable Diffusion 2.1) and choices.

    ``states``: "after" or "before" (release). ``supervised``: the vokens that L_text learns, "all"
    or "ends" (release). ``drop``: how often training puts zeros for a photo's states.
    ``negative``: what guidance leads away from, the mapped zero feature ("zero") or the painter's
    own empty caption ("empty"); without CFG is ``drop=0.0, negative="empty"``. ``snr_gamma``
    weighs L_LDM by min(SNR, gamma)/SNR (5 in the release; None: not).

    num_vokens: how many a photo has
    language_width: of the LLM's states
    painter_width: of what the denoiser attends to
    painter_length: how many of these it attends to
    num_layers: of the mapper's encoder, and of its decoder
    num_heads: of their attention
    ridge_rank: of a linear path beside the mapper, which is started in closed form; none: no path
    ridge_damping: its least penalty, a share of the mean power of a direction of the states: with
        more, less of the condition is foretold, and an LLM that moves makes less noise of it
    """

    num_vokens: int = 8
    language_width: int = 4096
    painter_width: int = 1024
    painter_length: int = 77
    num_layers: int = 4
    num_heads: int = 8
    states: str = "after"
    supervised: str = "all"
    drop: float = 0.1
    negative: str = "zero"
    snr_gamma: float | None = None
    ridge_rank: int | None = None
    ridge_damping: float = 0.0

    def __post_init__(self) -> None:
        self.require(
            states=STATES,
            supervised=SUPERVISED,
            negative=NEGATIVES,
            shares=("drop", "ridge_damping"),
        )

    @property
    def tokens(self) -> tuple[str, ...]:
        """V_img: what the LLM's vocabulary must gain."""
        return tuple(f"[IMG{number}]" for number in range(1, self.num_vokens + 1))

    def fitted(self, sizes: PartSizes) -> VokensConfig:
        width, length = sizes.conditioning
        return replace(
            self, language_width=sizes.language_width, painter_width=width, painter_length=length
        )


PAPER = VokensConfig()
RELEASE = replace(PAPER, states="before", supervised="ends", snr_gamma=5.0)
PRESETS: dict[str, VokensConfig] = {"paper": PAPER, "release": RELEASE}


@dataclass(frozen=True, kw_only=True)
class VokenConditioning(Conditioning):
    """The mapped features, and which photos' states were zeros in their place."""

    dropped_N: Tensor


class FeatureMapper(nn.Module):
    """theta_MLP, theta_enc-dec and q: n states of the LLM -> S rows for the painter.

    An encoder-decoder transformer as the library has it, with the release's settings: pre-norm,
    ReLU, no dropout, no masks and no positions; a two-layer MLP with GELU before it.
    """

    def __init__(self, config: VokensConfig) -> None:
        super().__init__()
        width, heads, layers = config.painter_width, config.num_heads, config.num_layers
        self.mlp = nn.Sequential(
            nn.Linear(config.language_width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.transformer = EncoderDecoder(width, num_heads=heads, num_layers=layers)
        self.queries_SC = nn.Parameter(torch.randn(config.painter_length, width))
        self.path = None
        if config.ridge_rank is not None:
            states, cond = (
                (config.num_vokens, config.language_width),
                (config.painter_length, width),
            )
            self.path = RidgePath(
                states, cond, rank=config.ridge_rank, damping=config.ridge_damping
            )

    @torch.no_grad()
    def start(self, states_NKD: Tensor, cond_NSC: Tensor, *, empty_SC: Tensor, drop: float) -> None:
        """Most of a state is the same whatever the caption: the MLP is started so that what differs
        is not small beside it, and the queries at the mean condition. With a path that foretells
        the condition, of zeros (for a share ``drop`` of all) that of no words, the transformer
        starts at nothing."""
        first, between, second = self.mlp
        standardize(second, between(standardize(first, states_NKD)))  # type: ignore[arg-type]
        self.queries_SC.copy_(cond_NSC.mean(0))
        if self.path is not None:
            dropped = round(len(states_NKD) * drop / (1 - drop))
            zeros = states_NKD.new_zeros((dropped, *states_NKD.shape[1:]))
            empty = empty_SC.expand(dropped, -1, -1)
            self.path.start(torch.cat([states_NKD, zeros]), torch.cat([cond_NSC, empty]))
            nn.init.zeros_(self.transformer.decoder.norm.weight)
            nn.init.zeros_(self.transformer.decoder.norm.bias)

    def forward(self, states_NKD: Tensor) -> Tensor:
        """(N, S, C)"""
        states_NKD = states_NKD.to(self.queries_SC.dtype)
        features_NKC = self.mlp(states_NKD)
        queries_NSC = self.queries_SC.expand(len(features_NKC), -1, -1)
        mapped_NSC: Tensor = self.transformer(features_NKC, queries_NSC)  # Eq. 2
        return mapped_NSC if self.path is None else mapped_NSC + self.path(states_NKD)


class Vokens(Bridge):
    """Photo spans -> conditioning through the states at the vokens."""

    settings = VokensConfig
    config: VokensConfig
    loss_names = ("ldm", "cap")

    def __init__(self, config: VokensConfig, *, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer=tokenizer)
        self.span_trained = SUPERVISED[config.supervised](config.num_vokens)
        self.mapper = FeatureMapper(config)

    def start(self, spans: PhotoSpans, cond_NSC: Tensor, *, empty_SC: Tensor) -> None:
        states_NKD = STATES[self.config.states](spans).to(self.mapper.queries_SC.dtype)
        self.mapper.start(states_NKD, cond_NSC, empty_SC=empty_SC, drop=self.config.drop)

    def forward(self, spans: PhotoSpans, painter: Painter, *, generator: Dice) -> VokenConditioning:
        """h^_voken for each photo, and h^_0 to be led away from.

        In training a photo's states are zeros now and then, before the MLP, so that the mapper
        learns what to make of nothing.
        """
        states_NKD = STATES[self.config.states](spans)
        count = len(states_NKD)
        dropped_N = self._dropped(count, generator=generator).to(states_NKD.device)
        states_NKD = states_NKD.masked_fill(dropped_N[:, None, None], 0.0)
        zero_1KD = torch.zeros_like(states_NKD[:1])  # h_0
        mapped_NSC, mapped_1SC = self.mapper(torch.cat([states_NKD, zero_1KD])).split((count, 1))
        uncond_NSC = None
        if self.config.negative == "zero":
            # the painter's guidance is the rest: e(h^_0) + gamma (e(h^_voken) - e(h^_0))
            uncond_NSC = mapped_1SC.expand(count, -1, -1)  # Eq. 4
        return VokenConditioning(cond_NSC=mapped_NSC, uncond_NSC=uncond_NSC, dropped_N=dropped_N)

    def losses(
        self, conditioning: Conditioning, gold: PhotoTargets, painter: Painter, *, generator: Dice
    ) -> dict[str, Tensor]:
        """``ldm``, unless it has no weight, and ``cap`` where the photos have captions. L_text is
        the model's ``t``.

        Raises DataError if some photos have captions and some have none.
        """
        assert isinstance(conditioning, VokenConditioning)
        losses = {}
        if "ldm" not in self.unweighted:
            losses["ldm"] = painter.loss(  # Eq. 3
                conditioning.cond_NSC,
                gold.pixels_N3HW,
                generator=generator,
                snr_gamma=self.config.snr_gamma,
            )
        if any(gold.captions):
            if not all(gold.captions):
                raise DataError(
                    f"{sum(map(bool, gold.captions))} of {len(gold.captions)} photos have a "
                    "caption; L_cap wants one for every photo of a batch, and learning without "
                    "descriptions none; give all or none"
                )
            losses["cap"] = self._caption_loss(conditioning, gold.captions, painter.text)
        return losses

    def _caption_loss(
        self, conditioning: VokenConditioning, captions: Sequence[str], tower: TextTower
    ) -> Tensor:
        """MSE to what the painter's own text encoder makes of the caption.

        Where the states were dropped it is the empty caption (release; the paper says nothing):
        so h^_0 learns to be what the painter knows as no condition.
        """
        pairs = zip(captions, conditioning.dropped_N.tolist(), strict=True)
        with torch.no_grad():
            target_NSC = tower.encode(["" if dropped else caption for caption, dropped in pairs])
        return F.mse_loss(
            conditioning.cond_NSC, target_NSC.to(conditioning.cond_NSC.dtype)
        )  # Eq. 5

    def _dropped(self, count: int, *, generator: Dice) -> Tensor:
        """Which photos are trained without a condition, (N,) bool."""
        if not self.training or self.config.drop == 0:
            return torch.zeros(count, dtype=torch.bool)
        return drawn(torch.rand, count, generator) < self.config.drop


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
    decay="linear",  # release
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
    decay="linear",  # release
    final_rate=0.0,
    clip=None,
    weights={**_TEXT, "ldm": 1.0},
)


# Table 6, the last row of Table 1 and the release, as settings of a recipe that has ``bridge``,
# ``alignment`` (UAS) and ``stage`` (MLS). Guidance scales are the decoding's (``guidance``).
ABLATIONS: dict[str, tuple[str, ...]] = {
    "full": (),
    "without_cfg": ("bridge.drop=0", "bridge.negative=empty"),
    "without_cap": ("alignment.weights.cap=0",),
    "without_ldm": ("alignment.weights.ldm=0", "stage.weights.ldm=0"),
    "without_uas": ("alignment.steps=0",),
    # against the paper, whose second stage is description-free: what that costs
    "described": ("stage.form=dialogue", "stage.weights.cap=1"),
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


def alignment_dialogue(caption: str, photo: Photo, *, seed: int | None = None) -> Dialogue:
    """UAS: the caption is read, or with ``seed`` one of seven wordings that ask for it, and the
    photo made, which keeps its caption, for L_cap. Raises DataError for one without a caption."""
    if not caption.strip():
        raise DataError(
            f'photo "{photo.id}" has no caption; unimodal alignment reads it; leave the photo '
            "out, or give it one"
        )
    made = replace(photo, caption=caption)
    if seed is None:
        return asked_and_answered(f"align-{photo.id}", [caption], [made], task="alignment")
    asked = random.Random(f"{seed}-{photo.id}").choice(INSTRUCTIONS).format(caption=caption)
    return asked_and_answered(f"ask-{photo.id}", [asked], [made], task="instruction")


def undescribed(dialogue: Dialogue) -> Dialogue:
    """MLS on dialogues: the agent's photos carry no caption, so no word about them is learnt."""
    photos = (
        _undescribed(photo) if turn.speaker == AGENT else photo
        for turn in dialogue.turns
        for photo in turn.photos
    )
    return replace(dialogue, turns=with_photos(dialogue.turns, photos))


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
    return asked_and_answered(f"{name}-{len(story)}-{kind}", read, made[kind], task=kind)


def _undescribed(photo: Photo) -> Photo:
    """Description-free learning: the photo, and no word about it."""
    return replace(photo, caption="")


def asked_and_answered(
    name: str, read: Sequence[Element], made: Sequence[Element], *, task: str = ""
) -> Dialogue:
    """A user's turn and the agent's answers, each a turn of its own as everywhere."""
    answers = tuple(Turn(speaker=AGENT, elements=(element,)) for element in made)
    turns = (Turn(speaker=USER, elements=tuple(read)), *answers)
    return Dialogue(id=name, turns=turns, labels={"task": task} if task else {})
