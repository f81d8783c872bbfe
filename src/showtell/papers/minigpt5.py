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
log-likelihoods with that of the words. The weights l1-l3 are the Stage's
(``recipes/vokens_tasks.py``).

Two points that the paper leaves open. "The hidden state of a voken" may be the state that has
read it (``after``, our reading) or the one that predicts it (``before``, the release). And the
mapper works at the painter's width C, as released, so that its output needs no projection.

Letters as in ``models/parts.py``; K = n: a span is the n vokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.errors import ConfigError, DataError, did_you_mean
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
    encoder_decoder,
    require_tokens,
    standardize,
)
from showtell.runtime import small_attention


def after(spans: PhotoSpans) -> Tensor:
    """The states that have read each voken."""
    return spans.after_NKD


def before(spans: PhotoSpans) -> Tensor:
    """The states that predict each voken, one place earlier (the released code)."""
    return spans.before_NKD


STATES: dict[str, Callable[[PhotoSpans], Tensor]] = {"after": after, "before": before}


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

    def __post_init__(self) -> None:
        for key, known in (
            ("states", STATES),
            ("supervised", SUPERVISED),
            ("negative", NEGATIVES),
        ):
            if (name := getattr(self, key)) not in known:
                raise ConfigError(f'unknown {key} "{name}"{did_you_mean(name, known)}')
        for key in (
            *("num_vokens", "language_width", "painter_width", "painter_length", "num_layers"),
            "num_heads",
        ):
            if (value := getattr(self, key)) < 1:
                raise ConfigError(
                    f"{key} is {value}; it must be at least 1: MiniGPT-5 has "
                    f"{getattr(type(self), key)}"
                )
        if not 0 <= self.drop < 1:
            raise ConfigError(f"drop is {self.drop}; it is a share of the photos: choose 0.1, or 0")
        if self.snr_gamma is not None and not self.snr_gamma > 0:
            raise ConfigError(f"snr_gamma is {self.snr_gamma}; choose 5, or none for plain L_LDM")
        if self.painter_width % self.num_heads:
            raise ConfigError(
                f"painter_width {self.painter_width} is not a multiple of num_heads "
                f"{self.num_heads}; each head takes an equal part: choose another num_heads"
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
        self.transformer = encoder_decoder(width, num_heads=heads, num_layers=layers)
        self.queries_SC = nn.Parameter(torch.randn(config.painter_length, width))

    @torch.no_grad()
    def start(self, states_NKD: Tensor, cond_NSC: Tensor) -> None:
        """Most of a state is the same whatever the caption: the MLP is started so that what differs
        is not small beside it, and the queries at the mean condition."""
        first, between, second = self.mlp
        standardize(second, between(standardize(first, states_NKD)))  # type: ignore[arg-type]
        self.queries_SC.copy_(cond_NSC.mean(0))

    def forward(self, states_NKD: Tensor) -> Tensor:
        """(N, S, C)"""
        features_NKC = self.mlp(states_NKD.to(self.queries_SC.dtype))
        queries_NSC = self.queries_SC.expand(len(features_NKC), -1, -1)
        with small_attention(features_NKC, length=queries_NSC.shape[1]):
            return self.transformer(features_NKC, queries_NSC)  # Eq. 2


class Vokens(Bridge):
    """Photo spans -> conditioning through the states at the vokens.

    ``tokenizer`` is the LLM's, and has the vokens (``LanguageModel.grow_vocabulary``); raises
    CheckpointError if it lacks them.
    """

    loss_names = ("ldm", "cap")

    def __init__(self, config: VokensConfig, *, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.span_tokens: tuple[str, ...] | None = config.tokens
        self.span_trained: tuple[int, ...] | None = SUPERVISED[config.supervised](config.num_vokens)
        require_tokens(tokenizer, config.tokens, bridge="vokens")
        self.mapper = FeatureMapper(config)

    def start(self, spans: PhotoSpans, cond_NSC: Tensor) -> None:
        dtype = self.mapper.queries_SC.dtype
        self.mapper.start(STATES[self.config.states](spans).to(dtype), cond_NSC)

    def forward(self, spans: PhotoSpans, painter: Painter, *, generator: Dice) -> VokenConditioning:
        """h^_voken for each photo, and h^_0 to be led away from.

        In training a photo's states are zeros now and then, before the MLP, so that the mapper
        learns what to make of nothing.
        """
        states_NKD = STATES[self.config.states](spans)
        count, num_vokens, width = states_NKD.shape
        if (num_vokens, width) != (self.config.num_vokens, self.config.language_width):
            raise ConfigError(
                f"the spans have {num_vokens} states of width {width}; the bridge wants "
                f"{self.config.num_vokens} of {self.config.language_width}; give RendererConfig "
                "the bridge's span_tokens, and VokensConfig the sizes of the language model"
            )
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
        self,
        spans: PhotoSpans,
        conditioning: Conditioning,
        targets: PhotoTargets,
        painter: Painter,
        *,
        generator: Dice,
    ) -> dict[str, Tensor]:
        """``ldm``, and ``cap`` where the photos have captions. L_text is the model's ``t``.

        Raises DataError if some photos have captions and some have none.
        """
        assert isinstance(conditioning, VokenConditioning)
        losses = {
            "ldm": painter.loss(  # Eq. 3
                conditioning.cond_NSC,
                targets.pixels_N3HW,
                generator=generator,
                snr_gamma=self.config.snr_gamma,
            )
        }
        if any(targets.captions):
            if not all(targets.captions):
                raise DataError(
                    f"{sum(map(bool, targets.captions))} of {len(targets.captions)} photos have a "
                    "caption; L_cap wants one for every photo of a batch, and learning without "
                    "descriptions none; give all or none"
                )
            losses["cap"] = self._caption_loss(conditioning, targets, painter.text)
        return losses

    def _caption_loss(
        self, conditioning: VokenConditioning, targets: PhotoTargets, tower: TextTower
    ) -> Tensor:
        """MSE to what the painter's own text encoder makes of the caption.

        Where the states were dropped it is the empty caption (release; the paper says nothing):
        so h^_0 learns to be what the painter knows as no condition.
        """
        pairs = zip(targets.captions, conditioning.dropped_N.tolist(), strict=True)
        captions = ["" if dropped else caption for caption, dropped in pairs]
        with torch.no_grad():
            target_NSC = tower(tower.tokenize(captions).ids_NS)
        return F.mse_loss(
            conditioning.cond_NSC, target_NSC.to(conditioning.cond_NSC.dtype)
        )  # Eq. 5

    def _dropped(self, count: int, *, generator: Dice) -> Tensor:
        """Which photos are trained without a condition, (N,) bool."""
        if not self.training or self.config.drop == 0:
            return torch.zeros(count, dtype=torch.bool)
        dice = generator if isinstance(generator, list) else [generator]
        chance = [torch.rand(count // len(dice), generator=die, device=die.device) for die in dice]
        return torch.cat(chance) < self.config.drop
