"""The protocols of the model's parts and the types that pass between them. Read this file first.

     Dialogue -> Renderer -> Batch -> PhotoEncoder --+
                                                   +-> LanguageModel -> PhotoSpans -> BRIDGE
                                  text embeddings -+                                    |
                              Photo <- Painter <- Conditioning <-----------------------+

Letters, once for the whole package; tensor names wear them (``hidden_BTD``):

    B dialogues, T tokens, D LLM width, V LLM vocabulary
    P photos seen, Q tokens per photo seen
    N photos to make, K tokens in a span
    S conditioning length, C its width, U painter vocabulary
    3HW pixels in [0, 1]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from PIL import Image
from torch import Tensor, nn

from showtell.errors import CheckpointError, ConfigError, did_you_mean

Die = torch.Generator
Dice = Die | list[Die]  # for all photos, or one for each


def drawn(draw: Callable[..., Tensor], count: int, dice: Dice) -> Tensor:
    """A number for each of ``count`` photos, by the die for all or by its own."""
    dice = dice if isinstance(dice, list) else [dice]
    each = count // len(dice)
    return torch.cat([draw((each,), generator=die, device=die.device) for die in dice])


# is told a step of painting, and what the photo should become, where that is known
OnStep = Callable[[int, Tensor | None], None]


@dataclass(frozen=True, kw_only=True)
class PhotoSpans:
    """What the LLM said where a photo belongs: one row per photo to make.

    The tokens of a span are those *inside* [IMG]...[/IMG]; padding has mask False.
    ``before`` is the state that predicts a token, ``after`` the state that has read it.
    ``logits`` = head(before), teacher forced in training.
    """

    ids_NK: Tensor
    mask_NK: Tensor
    embeds_NKD: Tensor
    before_NKD: Tensor
    after_NKD: Tensor
    logits_NKV: Tensor
    captions: Sequence[str]  # the gold words of each span


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the denoiser attends to, where a text encoder's output would stand. What else of words
    it reads (a pooled vector, as Stable Diffusion 3 does) is a row among the S."""

    cond_NSC: Tensor
    uncond_NSC: Tensor | None = None  # for classifier-free guidance; None: the empty caption's
    query_NE: Tensor | None = None  # unit vectors to search an album with; None: cannot retrieve
    retrieve_N: Tensor | None = None  # P(retrieving beats painting); None: nothing decides
    captions: Sequence[str] | None = None  # the words that cond is of; None: no words made it

    def some(self, numbers: Sequence[int]) -> Conditioning:
        """That of some of the N photos."""
        values = {key: value for key, value in vars(self).items() if isinstance(value, Tensor)}
        chosen: dict[str, Any] = {key: value[list(numbers)] for key, value in values.items()}
        return replace(self, **chosen)


@dataclass(frozen=True, kw_only=True)
class PhotoTargets:
    """The gold photos, in the order of the spans' rows."""

    pixels_N3HW: Tensor
    captions: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class PainterTokens:
    """Captions in the painter's own vocabulary, padded. ``captions``: their words, for a tower that
    has a second vocabulary."""

    captions: Sequence[str]
    ids_NS: Tensor
    content_NS: Tensor  # bool: True where a real word piece stands (not BOS, EOS, padding)
    # char range [start, end) of each piece in its caption; (0, 0) where content is False
    offsets_NS2: Tensor


class Tokenizer(Protocol):
    """The part of ``transformers.PreTrainedTokenizerFast`` that bridges use."""

    def __call__(self, text: str | Sequence[str], **kwargs: object) -> dict[str, Any]: ...
    def decode(self, ids: Sequence[int], **kwargs: object) -> str: ...
    def get_vocab(self) -> dict[str, int]: ...
    @property
    def all_special_ids(self) -> list[int]: ...
    @property
    def added_tokens_decoder(self) -> dict[int, Any]: ...


class TextTower(Protocol):
    """The painter's text encoder; it accepts soft tokens. ``encode``: captions -> (N, S, C).

    ``__call__`` gives the conditioning states; with ``embeds_NSC`` these stand in for the rows of
    the token table (positions are still added by the tower), with ids alone the ordinary way.
    ``onehot @ token_table`` as ``embeds_NSC`` gives the library's own forward on ids. ``length``
    tokens are read of a caption; ``sizes``: (C, S) of what is given, which may be others.
    """

    length: int

    @property
    def sizes(self) -> tuple[int, int]: ...
    @property
    def token_table_UC(self) -> Tensor: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    def tokenize(self, captions: Sequence[str]) -> PainterTokens: ...
    def encode(self, captions: Sequence[str]) -> Tensor: ...
    def __call__(self, tokens: PainterTokens, embeds_NSC: Tensor | None = None) -> Tensor: ...


def caption_conditioning(captions: Sequence[str], tower: TextTower) -> Conditioning:
    """What the painter's own text encoder makes of words: nothing of the LLM is in it."""
    return Conditioning(cond_NSC=tower.encode(captions), captions=captions)


class Painter(Protocol):
    """Conditioning -> photo. ``denoises``: by latent diffusion, whose conditioning a bridge may
    make of anything; else it reads the caption's own words."""

    denoises: bool

    @property
    def text(self) -> TextTower: ...
    @property
    def image_size(self) -> int: ...
    def loss(
        self,
        cond_NSC: Tensor,
        pixels_N3HW: Tensor,
        *,
        generator: Dice,
        snr_gamma: float | None = None,
    ) -> Tensor: ...
    def paint(
        self,
        conditioning: Conditioning,
        *,
        num_steps: int,
        guidance: float,
        seeds: Sequence[int],
        callback: OnStep | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class PartSizes:
    """What a bridge that has weights must fit: the sizes of the other parts of ``model``."""

    model: str
    language_width: int
    photo_width: int | None  # F, of what sees photos; None: nothing does
    tower: TextTower | None  # of a painter that denoises; None: there is none

    @property
    def conditioning(self) -> tuple[int, int]:
        """(C, S) of what the painter's text encoder gives. Raises ConfigError without one."""
        if self.tower is None:
            raise ConfigError(
                f'"{self.model}" has no latent diffusion painter, whose conditioning this bridge '
                "makes; give a base model that paints"
            )
        return self.tower.sizes


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """What the settings of every bridge answer; here for one that has no tokens and no weights."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """What the LLM's vocabulary must gain."""
        return ()

    def fitted(self, sizes: PartSizes) -> Self:
        """The same choices at the sizes of these parts. Raises ConfigError if one is missing."""
        return self

    def require(self, *, shares: Collection[str] = (), **choices: Collection[str]) -> None:
        """Raises ConfigError for a name that is not among its choices, or a number not above 0;
        of ``shares``: not from 0 to below 1."""
        for key, known in choices.items():
            if (name := getattr(self, key)) not in known:
                raise ConfigError(f'unknown {key} "{name}"{did_you_mean(name, known)}')
        for key, value in vars(self).items():
            if key in shares and not 0 <= value < 1:
                raise ConfigError(
                    f"{key} is {value}; it is a share, from 0 to below 1: choose 0.1, or 0"
                )
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and key not in shares and not value > 0:
                default = getattr(type(self), key)
                example = "" if default is None else f": choose for example {default}"
                raise ConfigError(f"{key} is {value}; it must be above 0{example}")


class Bridge(nn.Module, ABC):
    """Photo spans -> conditioning. One paper, one file; loss weights belong to the Stage."""

    settings: type[BridgeConfig]  # the class of ``config``, whose name a saved model keeps
    config: BridgeConfig
    # The tokens of this bridge that announce a photo; None: its caption between [IMG] and [/IMG].
    # The first is the decision to share; it forces the others.
    span_tokens: tuple[str, ...] | None
    span_trained: tuple[int, ...] | None = None  # which of them are learnt as text; None: all
    loss_names: tuple[str, ...] = ("v",)  # of ``losses``; each is a mean over the N photos
    query_width: int | None = None  # E of ``query``, which searches an album; None: it cannot
    unweighted: Collection[str] = ()  # losses that the stage gives no weight: not worth computing

    def __init__(self, config: Any, *, tokenizer: Tokenizer) -> None:
        """``tokenizer`` is the LLM's; raises CheckpointError if it lacks the bridge's tokens."""
        super().__init__()
        self.config = config
        self.span_tokens = tuple(config.tokens) or None
        ids_of(config.tokens, tokenizer)

    @abstractmethod
    def forward(self, spans: PhotoSpans, painter: Painter, *, generator: Die) -> Conditioning:
        """Conditioning for the N spans."""

    def losses(
        self, conditioning: Conditioning, gold: PhotoTargets, painter: Painter, *, generator: Dice
    ) -> dict[str, Tensor]:
        """The paper's losses on the gold photos, by the paper's names, unweighted; ``v``: the
        painter's own."""
        return {"v": painter.loss(conditioning.cond_NSC, gold.pixels_N3HW, generator=generator)}

    def start(  # noqa: B027 (most start as built)
        self, spans: PhotoSpans, cond_NSC: Tensor, *, empty_SC: Tensor
    ) -> None:
        """Choose first weights of a new bridge by an example: the spans of N captions, what the
        painter's text encoder makes of them, and what of no words."""

    def advance(self, epoch: float, *, of: float) -> None:  # noqa: B027 (few have a schedule)
        """Told before each step how many epochs have passed, of how many that the stage lasts;
        annealing schedules listen."""

    def see_by(self, encoder: PhotoEncoder) -> None:  # noqa: B027 (most look at no photo)
        """Told which encoder sees the photos of this model."""

    def query(self, spans: PhotoSpans) -> Tensor:
        """What to search an album for: unit vectors (N, E). Only where ``query_width`` is set."""
        raise ConfigError(f"the bridge {type(self).__name__} makes no query for an album")

    def photo_keys(self, pixels_N3HW: Tensor) -> Tensor:
        """What an album keeps of photos: unit vectors (N, E). Only where ``query_width`` is set."""
        raise ConfigError(f"the bridge {type(self).__name__} makes no query for an album")


class PhotoEncoder(Protocol):
    """Photos -> Q embeddings each, of LLM width.

    In the text a photo takes ``num_tokens`` places. The embeddings stand in these (Q of them), or,
    where they are ``attended``, beside the text for the LLM's cross-attention layers.
    ``look``: a photo of any size as it looks at it; ``image_size``: pixels a side of the photos
    that it was made for. ``features``: one vector a photo, (P, F), without a gradient; F is
    ``feature_width``.
    """

    attended: bool
    num_tokens: int
    language_width: int

    @property
    def image_size(self) -> int: ...
    @property
    def feature_width(self) -> int: ...
    def look(self, image: Image.Image) -> Image.Image: ...
    def features(self, pixels_P3HW: Tensor) -> Tensor: ...
    def __call__(self, pixels_P3HW: Tensor) -> Tensor: ...


def ids_of(tokens: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """The ids of a bridge's tokens. Raises CheckpointError if the LLM's vocabulary lacks one."""
    vocabulary = tokenizer.get_vocab()
    if missing := [token for token in tokens if token not in vocabulary]:
        raise CheckpointError(
            f"the language model's vocabulary has no {', '.join(missing)}; its bridge needs "
            f"{', '.join(tokens)}; take a checkpoint that was trained with this bridge, or "
            "give a base model the tokens with grow_vocabulary"
        )
    return [vocabulary[token] for token in tokens]
