"""GILL (arXiv 2305.17216): a frozen LLM says [IMG1]...[IMGr]; its states at these tokens become
the painter's conditioning (GILLMapper) and, from the same run of the LLM, a query for an album.

    l_c   captioning: the LLM reads a photo as k visual tokens and says its caption
    l_p   the LLM says [IMG1] where a photo belongs; it forces the other r - 1
    l_g   GILLMapper(states + input embeddings, queries) is what the painter's own text encoder
          makes of the caption: the painter is not needed in training
    l_r   the query finds its photo among the batch's, and the photo its query (InfoNCE)

l_c and l_p are the LLM's: both are in the text loss of ``models/dialogue_model.py``. The k visual
tokens are ``LinearPhotoEncoder`` of ``models/photo_encoder.py``, the rows of the r tokens are
stored and trained alone (``models/vocabulary.py``). Here are l_g and l_r, and the decision module.

The full text was not at hand: equations are numbered in the order of the paper's losses. Where
paper and released code differ, ``PRESETS`` has both; the paper's is the default.

Letters as in ``models/parts.py``, and E album width, F width of a photo's feature, W GILLMapper's.
K = r: a span is the r tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.errors import ConfigError, DataError
from showtell.models.mappers import EncoderDecoder, RidgePath, standardize
from showtell.models.parts import (
    Bridge,
    BridgeConfig,
    Conditioning,
    Dice,
    Die,
    Painter,
    PartSizes,
    PhotoEncoder,
    PhotoSpans,
    PhotoTargets,
    Tokenizer,
)
from showtell.training.stage import Stage


def mean_norm(cond_NSC: Tensor, target_NSC: Tensor) -> Tensor:
    """The l2 norm of each row's difference, not squared, averaged (the released code)."""
    norm_NS: Tensor = torch.linalg.vector_norm(cond_NSC - target_NSC, dim=-1)
    return norm_NS.mean()


GENERATION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,  # the paper's squared l2 distance, as a mean over all numbers
    "norm": mean_norm,
}
QUERY_TOKENS: dict[str, Callable[[Tensor], Tensor]] = {
    "all": lambda rows_NKE: rows_NKE.mean(1),  # the paper
    "first": lambda rows_NKE: rows_NKE[:, 0],  # the released code computes all r, keeps [IMG1]
}


@dataclass(frozen=True, kw_only=True)
class GillConfig(BridgeConfig):
    """Sizes (the paper's: OPT-6.7B, CLIP ViT-L/14, Stable Diffusion 1.5) and choices.

    ``num_tokens`` is r. ``mapper``: "transformer" (GILLMapper, of ``width``) or "linear".
    ``input_embeddings``: whether the mapper reads states + embeddings, or states alone.
    ``generation_loss``: "mse" (paper) or "norm" (released). ``query_tokens``: "all" (paper; read
    here as the mean, which keeps the paper's number of parameters) or "first" (released).
    ``painter_loss`` adds ``v``, the painter's own loss on the gold photo, for a painter that is
    trained as well (none of the paper's losses).

    language_width: of the LLM's states
    photo_width: of the frozen encoder's features of a photo
    painter_width: of what the denoiser attends to
    painter_length: how many of these it attends to
    album_width: of queries, and of the album's vectors
    width: of the mapper inside
    num_layers: of the mapper's encoder, and of its decoder
    num_heads: of their attention
    temperature_start: of the contrastive loss, which learns it
    ridge_rank: of a linear path beside the transformer, which is started in closed form; none: no
        path
    ridge_damping: its least penalty, a share of the mean power of a direction of the states: with
        more, less of the condition is foretold, and an LLM that moves makes less noise of it
    """

    num_tokens: int = 8
    language_width: int = 4096
    photo_width: int = 1024
    painter_width: int = 768
    painter_length: int = 77
    album_width: int = 256
    mapper: str = "transformer"
    width: int = 512
    num_layers: int = 4
    num_heads: int = 4
    input_embeddings: bool = True
    generation_loss: str = "mse"
    query_tokens: str = "all"
    temperature_start: float = 0.07
    painter_loss: bool = False
    ridge_rank: int | None = None
    ridge_damping: float = 0.0

    def __post_init__(self) -> None:
        self.require(
            mapper=MAPPERS,
            generation_loss=GENERATION_LOSSES,
            query_tokens=QUERY_TOKENS,
            shares=("ridge_damping",),
        )
        if self.ridge_rank is not None and self.mapper == "linear":
            raise ConfigError(
                f"ridge_rank is {self.ridge_rank} beside a linear mapper: two linear maps are one; "
                "set mapper=transformer, or leave ridge_rank out"
            )

    @property
    def tokens(self) -> tuple[str, ...]:
        """[IMG1] ... [IMGr]: what the LLM's vocabulary must gain (as released, from [IMG0] on)."""
        return tuple(f"[IMG{number}]" for number in range(1, self.num_tokens + 1))

    def fitted(self, sizes: PartSizes) -> GillConfig:
        width, length = sizes.conditioning
        if sizes.photo_width is None:
            raise ConfigError(
                f'"{sizes.model}" has no vision encoder, and GILL compares its query with what one '
                "sees; give a base model with a photo encoder"
            )
        return replace(
            self,
            language_width=sizes.language_width,
            photo_width=sizes.photo_width,
            painter_width=width,
            painter_length=length,
        )


class GillMapper(nn.Module):
    """f_w(h_1 ... h_r, q_1 ... q_S): r states -> S rows for the painter's cross-attention.

    An encoder-decoder transformer as the library has it: pre-norm, ReLU, no dropout, no masks and
    no positions; the S learned queries are what the decoder reads.
    """

    def __init__(self, config: GillConfig) -> None:
        super().__init__()
        width, heads, layers = config.width, config.num_heads, config.num_layers
        self.project = nn.Linear(config.language_width, width)
        self.transformer = EncoderDecoder(width, num_heads=heads, num_layers=layers)
        self.queries_SW = nn.Parameter(torch.randn(config.painter_length, width))
        self.out = nn.Linear(width, config.painter_width)
        self.path = None
        if config.ridge_rank is not None:
            states = (config.num_tokens, config.language_width)
            cond = (config.painter_length, config.painter_width)
            self.path = RidgePath(
                states, cond, rank=config.ridge_rank, damping=config.ridge_damping
            )

    @torch.no_grad()
    def start(self, states_NKD: Tensor, cond_NSC: Tensor) -> None:
        """Most of a state is the same whatever the caption: the first map is started so that what
        differs is not small beside it, and the queries where the last map makes the mean condition
        of them. With a path that foretells the condition the transformer starts at nothing."""
        standardize(self.project, states_NKD)
        nn.init.orthogonal_(self.out.weight)
        self.out.bias.zero_()
        self.queries_SW.copy_(cond_NSC.mean(0) @ self.out.weight)
        if self.path is not None:
            self.path.start(states_NKD, cond_NSC)
            self.out.weight.zero_()

    def forward(self, states_NKD: Tensor) -> Tensor:
        """(N, S, C)"""
        queries_NSW = self.queries_SW.expand(len(states_NKD), -1, -1)
        rows_NSC: Tensor = self.out(self.transformer(self.project(states_NKD), queries_NSW))
        return rows_NSC if self.path is None else rows_NSC + self.path(states_NKD)


class LinearMapper(nn.Module):
    """The ablation: each of the S rows is a learned mixture of the r states, mapped to C.

    Linear in the states, and small: a full matrix from r D to S C numbers would be 1.9 billion.
    """

    def __init__(self, config: GillConfig) -> None:
        super().__init__()
        self.project = nn.Linear(config.language_width, config.painter_width)
        shape = (config.painter_length, config.num_tokens)
        self.mix_SK = nn.Parameter(torch.randn(shape) / math.sqrt(config.num_tokens))

    def start(self, states_NKD: Tensor, cond_NSC: Tensor) -> None:
        standardize(self.project, states_NKD)

    def forward(self, states_NKD: Tensor) -> Tensor:
        """(N, S, C)"""
        rows_NKC: Tensor = self.project(states_NKD)
        return self.mix_SK @ rows_NKC


MAPPERS: dict[str, type[GillMapper] | type[LinearMapper]] = {
    "transformer": GillMapper,
    "linear": LinearMapper,
}


def info_nce(query_NE: Tensor, photo_NE: Tensor, *, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit vectors: row n belongs to row n, all others are negatives.

    The mean of text -> photo and photo -> text; ``scale`` is 1 / temperature.
    """
    with torch.autocast(query_NE.device.type, enabled=False):
        # cosines times 14: bfloat16's three digits would be noise of the size of the loss
        logits_NN = scale * query_NE.float() @ photo_NE.float().mT
    own_N = torch.arange(len(query_NE), device=query_NE.device)
    return (F.cross_entropy(logits_NN, own_N) + F.cross_entropy(logits_NN.mT, own_N)) / 2


# --------------------------------------------------------------- retrieve a photo, or generate one

GENERATE, RETRIEVE = 0, 1  # columns of the logits, in the released order


@dataclass(frozen=True, kw_only=True)
class DecisionTraining:
    """How the head is trained; the defaults are the released ones."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    steps: int = 2000
    dropout: float = 0.5
    seed: int = 0


class DecisionHead(nn.Module):
    """State -> (generate, retrieve)."""

    def __init__(self, width: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, 2)

    def forward(self, states_ND: Tensor) -> Tensor:
        """Logits (N, 2), where the head is; with dropout while training."""
        logits_N2: Tensor = self.linear(self.dropout(states_ND.to(self.linear.weight.device)))
        return logits_N2

    def p_retrieve(self, states_ND: Tensor) -> Tensor:
        """The probability that retrieving beats generating, (N,); never with dropout."""
        logits_N2: Tensor = self.linear(states_ND.to(self.linear.weight.device))
        return logits_N2.softmax(-1)[:, RETRIEVE]


def train_decision(
    states_ND: Tensor, retrieve_N: Tensor, config: DecisionTraining | None = None
) -> DecisionHead:
    """A head from states and whether people retrieved (bool). The same seed gives the same head.

    Raises DataError for examples of one kind only, or states that are not numbers.
    """
    config = config or DecisionTraining()
    retrieve_N = retrieve_N.bool()
    if not (retrieve_N.any() and (~retrieve_N).any()):
        raise DataError(
            f"all {len(retrieve_N)} examples say the same; wanted some to retrieve and some to "
            "generate. Train on more prompts."
        )
    if not bool(torch.isfinite(states_ND).all()):
        raise DataError(
            "some states hold NaN or infinity; the model they come from is damaged: use another"
        )
    with torch.random.fork_rng(devices=[]):  # dropout knows no generator of its own
        torch.manual_seed(config.seed)
        head = DecisionHead(states_ND.shape[1], dropout=config.dropout).train()
        optimizer = torch.optim.AdamW(
            head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        for _ in range(config.steps):
            loss = F.cross_entropy(head(states_ND), retrieve_N.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval().requires_grad_(False)


# -------------------------------------------------------------------------------- the bridge


class Gill(Bridge):
    """Photo spans -> conditioning, album query and decision, from one run of the LLM.

    ``features``: pixels (N, 3, H, W) -> the frozen vision encoder's (N, F); the photo encoder's own
    function (``see_by``), so that its weights stay in one place. ``decision``: from the state at
    [IMG1], whether retrieving beats painting; None until it is trained (``train_decision``).
    """

    settings = GillConfig
    config: GillConfig
    span_trained = (0,)  # [IMG1] alone is learnt as text, and the rest follow it

    def __init__(self, config: GillConfig, *, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer=tokenizer)
        self.features: Callable[[Tensor], Tensor] | None = None
        self.decision: DecisionHead | None = None
        self.loss_names = ("g", "r", "v") if config.painter_loss else ("g", "r")
        self.query_width = config.album_width
        self.mapper = MAPPERS[config.mapper](config)
        self.query_head = nn.Linear(config.language_width, config.album_width)
        self.photo_head = nn.Linear(config.photo_width, config.album_width)
        # log(1 / tau), as in CLIP; not clamped
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature_start)))

    def see_by(self, encoder: PhotoEncoder) -> None:
        self.features = encoder.features

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        if "decision.linear.weight" in state_dict and self.decision is None:
            self.decision = DecisionHead(self.config.language_width).eval().requires_grad_(False)
        return super().load_state_dict(state_dict, strict, assign)

    def start(self, spans: PhotoSpans, cond_NSC: Tensor, *, empty_SC: Tensor) -> None:
        self.mapper.start(self._read(spans), cond_NSC)

    def forward(self, spans: PhotoSpans, painter: Painter, *, generator: Die) -> Conditioning:
        """Conditioning, query and decision."""
        # l_c and l_p are the LLM's text loss, of which the words and [IMG1] are labels:
        # Eq. 1: l_c = -sum log P(s_t | the photo's k tokens, s_1 ... s_(t-1))
        # Eq. 2: l_p = -log P([IMG1] | s_1 ... s_T)
        first_ND = spans.after_NKD[:, 0].to(self.log_scale.dtype)
        return Conditioning(
            cond_NSC=self.mapper(self._read(spans)),
            query_NE=self.query(spans),
            retrieve_N=None if self.decision is None else self.decision.p_retrieve(first_ND),
        )

    def losses(
        self, conditioning: Conditioning, gold: PhotoTargets, painter: Painter, *, generator: Dice
    ) -> dict[str, Tensor]:
        """{"g": l_g, "r": l_r}, and "v" with ``painter_loss``.

        Raises DataError for a photo without a caption, which leaves l_g nothing to imitate.
        """
        if missing := sum(not caption for caption in gold.captions):
            raise DataError(
                f"{missing} of {len(gold.captions)} photos have no caption; GILL's generation "
                "loss imitates the painter's text encoder on it. Caption the photos, or leave out "
                "those without"
            )
        with torch.no_grad():
            target_NSC = painter.text.encode(gold.captions)
        distance = GENERATION_LOSSES[self.config.generation_loss]
        generation = distance(conditioning.cond_NSC, target_NSC)  # Eq. 3
        assert conditioning.query_NE is not None
        photo_NE = self.photo_keys(gold.pixels_N3HW)
        scale = self.log_scale.exp()
        retrieval = info_nce(conditioning.query_NE, photo_NE, scale=scale)  # Eq. 4
        losses = {"g": generation, "r": retrieval}
        if self.config.painter_loss:
            losses |= super().losses(conditioning, gold, painter, generator=generator)
        return losses

    def query(self, spans: PhotoSpans) -> Tensor:
        """Unit vectors (N, E) from the states at the r tokens."""
        rows_NKE = self.query_head(spans.after_NKD.to(self.log_scale.dtype))
        return F.normalize(QUERY_TOKENS[self.config.query_tokens](rows_NKE), dim=-1)

    def photo_keys(self, pixels_N3HW: Tensor) -> Tensor:
        """Unit vectors (N, E) from the vision encoder's features."""
        if self.features is None:
            raise ConfigError(
                "GILL's retrieval loss compares with photos, and this bridge was given no vision "
                "encoder; tell it which one by see_by(photo_encoder)"
            )
        return F.normalize(self.photo_head(self.features(pixels_N3HW)), dim=-1)

    def _read(self, spans: PhotoSpans) -> Tensor:
        """What the mapper reads of the r tokens: states that have read them, and embeddings."""
        states_NKD = spans.after_NKD.to(self.log_scale.dtype)
        return states_NKD + spans.embeds_NKD if self.config.input_embeddings else states_NKD


PRESETS: Mapping[str, GillConfig] = {
    "paper": GillConfig(),
    "release": GillConfig(generation_loss="norm", query_tokens="first"),
}

# ---------------------------------------------------------------------- stages and ablations

# The stages are the published ones, for image-caption pairs on two GPUs. What moves: the photo
# encoder's last linear map, the rows of the new tokens, the bridge; all else has the rate 0.
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
# Five epochs at 1e-3 and five at a tenth of it: the release's steps.
STAGE = Stage(
    name="gill",
    steps=10 * EPOCH,
    batch_size=200,
    accumulate=1,  # the negatives of l_r are all photos of the batch
    learning_rate=1e-3,
    learning_rates=FROZEN,
    weight_decay=0.01,
    betas=(0.9, 0.95),
    warmup=1000,  # as readers remember the paper, not verified; the release has 2,000
    decay="step",
    decay_at=(5 * EPOCH,),
    clip=1.0,
    weights=WEIGHTS,
)


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
