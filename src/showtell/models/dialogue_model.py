"""PhotoDialogueModel: the parts composed. ``forward`` is the papers' figure (2408.08650, Fig. 2);
a Responder (``respond.py``) walks the same line word by word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from showtell.batch import Batch, collate
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import ConfigError
from showtell.models.cross_attention import AttendedPhotos, attended_photos, has_cross_attention
from showtell.models.language import LanguageModel
from showtell.models.parts import (
    Bridge,
    Painter,
    PartSizes,
    PhotoEncoder,
    PhotoSpans,
    PhotoTargets,
)
from showtell.prompt import IGNORED, Renderer


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How an answer is written and painted. ``share_threshold`` is set on held-out dialogues.
    A text turn has at least ``min_new_tokens``.

    With an album: its nearest photo is shared where the bridge's decision, if it has one, is at
    least ``retrieve_threshold`` and the cosine at least ``album_cut_off``; else one is painted.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    caption_temperature: float = 0.0
    max_new_tokens: int = 60
    min_new_tokens: int = 1
    max_turns: int = 3
    share_threshold: float = 0.5
    num_steps: int = 20
    guidance: float = 3.0
    retrieve_threshold: float = 0.5
    album_cut_off: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LanguageStates:
    """What one run of the LLM leaves behind, from one pass over the batch."""

    embeds_BTD: Tensor
    hidden_BTD: Tensor


class PhotoDialogueModel(nn.Module):
    """Perceive, splice, run the LLM once, gather spans, bridge, losses.

    ``decoding`` is what it answers by unless another is given; ``captioner`` the pipeline's third
    model, which tells in words what a photo shows.
    """

    def __init__(
        self,
        *,
        language: LanguageModel,
        photo_encoder: PhotoEncoder | None,
        bridge: Bridge,
        painter: Painter | None,
        renderer: Renderer,
        name: str = "",
        card: Mapping[str, Any] | None = None,
        decoding: Decoding | None = None,
        captioner: PhotoDialogueModel | None = None,
    ) -> None:
        super().__init__()
        self.language = language
        self.photo_encoder = photo_encoder
        self.bridge = bridge
        self.painter = painter
        self.renderer = renderer
        self.name = name
        self.card = dict(card or {})
        self.decoding = decoding or Decoding()
        self.captioner = captioner
        if (seer := self.seer) is not None:
            bridge.see_by(seer)
        for key in ("span_tokens", "span_trained"):
            wanted, said = getattr(bridge, key), getattr(renderer.config, key)
            if wanted != said:
                raise ConfigError(
                    f"the renderer has {key} {said} and the bridge {type(bridge).__name__} "
                    f"{wanted}; give RendererConfig the span_tokens and span_trained of the bridge"
                )
        whole = self.sizes.tower is not None and self.seer is not None
        if whole and (fitted := bridge.config.fitted(self.sizes)) != bridge.config:
            raise ConfigError(
                f"the bridge is made for other parts, as {bridge.config}; wanted {fitted}; "
                "these are parts of two models: train the bridge with its own"
            )
        attended = photo_encoder is not None and photo_encoder.attended
        if attended and not has_cross_attention(language):
            raise ConfigError(
                f"the LLM has no cross-attention layers, which "
                f"{type(photo_encoder).__name__} needs; "
                "give it some with models.cross_attention.with_cross_attention"
            )

    def train(self, mode: bool = True) -> Self:
        """As the library's; what stands still runs as in answering, without dropout."""
        super().train(mode)
        if mode:
            rest(self)
        return self

    @property
    def device(self) -> torch.device:
        return self.language.device

    @property
    def seer(self) -> PhotoEncoder | None:
        """What sees photos: the photo encoder, or the captioner's where captions are read."""
        captioner = self.captioner
        return self.photo_encoder or (None if captioner is None else captioner.photo_encoder)

    @property
    def seen_side(self) -> int | None:
        """Pixels a side of a photo, as what sees it was made for; None where nothing sees."""
        return None if self.seer is None else self.seer.image_size

    def look(self, image: Image.Image) -> Image.Image:
        """A photo as what sees it looks at it. Raises ConfigError where nothing sees."""
        if self.seer is None:
            raise ConfigError(f'"{self.name}" sees no photos; give a model with a photo encoder')
        return self.seer.look(image)

    @property
    def sizes(self) -> PartSizes:
        """What a bridge between these parts must fit."""
        paints = self.painter is not None and self.painter.denoises
        return PartSizes(
            model=self.name,
            language_width=self.language.width,
            photo_width=None if self.seer is None else self.seer.feature_width,
            tower=self.painter.text if self.painter is not None and paints else None,
        )

    @property
    def album_width(self) -> int:
        """E, of what the bridge asks an album with. Raises ConfigError where it asks nothing."""
        if self.bridge.query_width is None:
            raise ConfigError(
                f'the bridge of "{self.name}", {type(self.bridge).__name__}, makes no query for an '
                'album; wanted Gill; use a model that "showtell train world_gill" wrote'
            )
        return self.bridge.query_width

    def forward(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses by the papers' names: ``t`` (Eq. 2), ``v`` (Eq. 12); ``moment``, ``caption``.

        ``t`` is the mean over trained tokens of the negative log-likelihood, ``caption`` the same
        over the captions of photos to make alone (they are part of ``t`` too; the papers give it
        no weight of its own), and ``moment`` is that of "[IMG] or not" at every share moment.
        ``v`` (or what the bridge has in its place) and ``caption`` are absent from a batch without
        photos to make, ``caption`` also where a bridge has its own tokens.
        """
        batch = batch.to(self.device)
        states = self.states(batch)
        logits_GV, gold_G, places = self.gold_logits(states.hidden_BTD, batch.labels_BT)
        nll_G = F.cross_entropy(logits_GV, gold_G, reduction="none")
        losses = {"t": nll_G.mean()}  # Eq. 2
        if len(batch.captions) and not self.renderer.span_ids:
            losses["caption"] = nll_G[_inside_spans(batch)[places]].mean()
        if len(batch.moment_row_M):
            losses["moment"] = F.binary_cross_entropy_with_logits(
                self.share_logits(states, batch), batch.moment_shared_M.float()
            )
        if self.painter is not None and batch.span_pixels_N3HW is not None:
            spans = self.gather_spans(states, batch)
            conditioning = self.bridge(spans, self.painter, generator=generator)
            gold = PhotoTargets(pixels_N3HW=batch.span_pixels_N3HW, captions=batch.captions)
            losses |= self.bridge.losses(conditioning, gold, self.painter, generator=generator)
        return losses

    def loss_counts(self, batch: Batch) -> dict[str, int]:
        """How many terms each loss of ``forward`` is the mean of: what joins parts of a batch."""
        return {
            "t": int((batch.labels_BT[:, 1:] != IGNORED).sum()),
            "moment": len(batch.moment_row_M),
            "caption": int(_inside_spans(batch).sum()),
            **dict.fromkeys(self.bridge.loss_names, len(batch.captions)),
        }

    def states(self, batch: Batch) -> LanguageStates:
        """Perceive the photos, put them in their places, run the LLM once."""
        batch = batch.to(self.device)
        embeds_BTD, photos = self.language.embed(batch.ids_BT), None
        if batch.seen_pixels_P3HW is not None and self.photo_encoder is not None:
            embeds_BTD, photos = self.put_photos(
                embeds_BTD,
                self.photo_encoder(batch.seen_pixels_P3HW),
                row_P=batch.seen_row_P,
                start_P=batch.seen_start_P,
            )
        # Rows are padded on the right, where a causal LM does not look: no mask is needed, and
        # without one its attention is faster.
        return LanguageStates(
            embeds_BTD=embeds_BTD,
            hidden_BTD=self.language.hidden(embeds_BTD, None, photos=photos),
        )

    def gold_logits(
        self, hidden_BTD: Tensor, labels_BT: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Logits (G, V) that predict the G tokens that are trained on, these, and their places
        (rows, columns)."""
        # State k-1 predicts token k; only the trained positions ever meet the vocabulary.
        rows_G, before_G = (labels_BT[:, 1:] != IGNORED).nonzero(as_tuple=True)
        places = (rows_G, before_G + 1)
        logits_GV = self.language.head(hidden_BTD[rows_G, before_G]).float()
        return logits_GV, labels_BT[places], places

    def put_photos(
        self, embeds_BTD: Tensor, seen_PQD: Tensor, *, row_P: Tensor, start_P: Tensor
    ) -> tuple[Tensor, AttendedPhotos | None]:
        """Photos where the LLM sees them: in their places, or beside the text for its
        cross-attention layers."""
        seen_PQD = seen_PQD.to(embeds_BTD.dtype)
        if self.photo_encoder is not None and self.photo_encoder.attended:
            shape = (embeds_BTD.shape[0], embeds_BTD.shape[1])
            latest = not getattr(self.photo_encoder, "sees_all", True)
            where: dict[str, Any] = {"row_P": row_P, "start_P": start_P, "shape": shape}
            return embeds_BTD, attended_photos(seen_PQD, latest=latest, **where)
        offsets_Q = torch.arange(seen_PQD.shape[1], device=seen_PQD.device)
        places = (row_P[:, None], start_P[:, None] + offsets_Q)
        return embeds_BTD.index_put(places, seen_PQD), None

    def share_logits(self, states: LanguageStates, batch: Batch) -> Tensor:
        """log P([IMG]) - log P(anything else) at each share moment, (M,)."""
        batch = batch.to(self.device)
        hidden_MD = states.hidden_BTD[batch.moment_row_M, batch.moment_index_M]
        return share_logit(self.language.head(hidden_MD).float(), self.renderer.img)

    def gather_spans(self, states: LanguageStates, batch: Batch) -> PhotoSpans:
        """The N photo spans of a batch, padded to the longest (see PhotoSpans)."""
        batch = batch.to(self.device)
        lengths_N = batch.span_stop_N - batch.span_start_N
        offsets_K = torch.arange(int(lengths_N.max()), device=lengths_N.device)
        mask_NK = offsets_K < lengths_N[:, None]
        rows_N1 = batch.span_row_N[:, None]
        at_NK = torch.where(mask_NK, batch.span_start_N[:, None] + offsets_K, 1)
        before_NKD = states.hidden_BTD[rows_N1, at_NK - 1]
        return PhotoSpans(
            ids_NK=batch.ids_BT[rows_N1, at_NK],
            mask_NK=mask_NK,
            embeds_NKD=states.embeds_BTD[rows_N1, at_NK],
            before_NKD=before_NKD,
            after_NKD=states.hidden_BTD[rows_N1, at_NK],
            logits_NKV=self.language.head(before_NKD).float(),
            captions=batch.captions,
        )

    def spoken_spans(self, captions: Sequence[str]) -> PhotoSpans:
        """Spans for captions that have been said: one-hot logits, for the bridge's one path.

        A bridge with its own tokens gets what the LLM says when it is told the caption and shares
        a photo next, as in 2310.02239's unimodal alignment.
        """
        if self.renderer.span_ids:
            photo = Photo(id="spoken", origin="painted")
            shared = Turn(speaker=AGENT, elements=(photo,))
            told = [
                self.renderer.render_turns(
                    (Turn(speaker=USER, elements=(caption,)), shared),
                    has_pixels=lambda photo: False,
                )
                for caption in captions
            ]
            pad_id = self.language.tokenizer.pad_token_id
            batch = collate(told, pad_id=pad_id, pixels_of=None, paint=False)
            return replace(self.gather_spans(self.states(batch), batch), captions=captions)
        ids_NK, mask_NK = self.language.rows(map(self.renderer.words, captions))
        embeds_NKD = self.language.embed(ids_NK)
        one_hot_NKV = F.one_hot(ids_NK, len(self.language.tokenizer)).float()
        return PhotoSpans(
            ids_NK=ids_NK,
            mask_NK=mask_NK,
            embeds_NKD=embeds_NKD,
            before_NKD=torch.zeros_like(embeds_NKD),
            after_NKD=torch.zeros_like(embeds_NKD),
            logits_NKV=one_hot_NKV * 100,
            captions=captions,
        )


def _inside_spans(batch: Batch) -> Tensor:
    """(B, T) bool: the tokens of the captions of photos to make, their [/IMG] included."""
    inside_BT = torch.zeros_like(batch.mask_BT)
    places = (batch.span_row_N, batch.span_start_N, batch.span_stop_N)
    for row, start, stop in zip(*(place.tolist() for place in places), strict=True):
        inside_BT[row, start : stop + 1] = True
    return inside_BT


def rest(module: nn.Module) -> None:
    """Put every part of a module whose weights do not move into evaluation mode."""
    for child in module.children():
        weights = list(child.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            child.eval()
        else:
            rest(child)


def share_logit(logits_MV: Tensor, img: int) -> Tensor:
    """log P([IMG]) - log(1 - P([IMG])) for each row of logits."""
    others = torch.cat([logits_MV[:, :img], logits_MV[:, img + 1 :]], dim=1)
    return logits_MV[:, img] - others.logsumexp(-1)
