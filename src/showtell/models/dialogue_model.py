"""PhotoDialogueModel: the parts composed. ``forward`` is the papers' figure, ``respond`` walks the
same line word by word (2408.08650, Fig. 2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from showtell.batch import Batch, collate
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import ConfigError, GenerationError
from showtell.models.language_model import LanguageModel
from showtell.models.parts import Bridge, Painter, Perceptron, PhotoSpans, PhotoTargets
from showtell.prompt import IGNORED, Renderer


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How an answer is written and painted. ``share_threshold`` is set on held-out dialogues."""

    temperature: float = 0.7
    top_p: float = 0.9
    caption_temperature: float = 0.0
    max_new_tokens: int = 60
    max_turns: int = 3
    share_threshold: float = 0.5
    num_steps: int = 20
    guidance: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer of the agent: its turns in order, P(share) at the start of each, its photos."""

    turns: tuple[Turn, ...]
    p_share: tuple[float, ...]
    images: Mapping[str, Image.Image]
    seconds_to_first_word: float | None
    seconds_to_photo: float | None
    dropped_turns: int = 0


@dataclass(frozen=True, kw_only=True)
class LanguageStates:
    """What one run of the LLM leaves behind, from one pass over the batch."""

    embeds_BTD: Tensor
    hidden_BTD: Tensor


@dataclass
class _Writing:
    """A response under way: the cache, the last state and its logits, and what has been read."""

    cache: Any
    hidden_D: Tensor
    logits_V: Tensor
    photos_seen: dict[str, Tensor] = field(default_factory=dict)


class PhotoDialogueModel(nn.Module):
    """Perceive, splice, run the LLM once, gather spans, bridge, losses."""

    def __init__(
        self,
        *,
        language: LanguageModel,
        perceptron: Perceptron | None,
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
        self.perceptron = perceptron
        self.bridge = bridge
        self.painter = painter
        self.renderer = renderer
        self.name = name
        self.card = dict(card or {})
        self.decoding = decoding or Decoding()
        self.captioner = captioner  # the pipeline's third model: tells in words what a photo shows
        for key in ("span_tokens", "span_trained"):
            wanted, said = getattr(bridge, key), getattr(renderer.config, key)
            if wanted != said:
                raise ConfigError(
                    f"the renderer has {key} {said} and the bridge {type(bridge).__name__} "
                    f"{wanted}; give RendererConfig the span_tokens and span_trained of the bridge"
                )

    @property
    def can_paint(self) -> bool:
        return self.painter is not None

    # ------------------------------------------------------------------------------- training

    def forward(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses by the papers' names: ``t`` (Eq. 2), ``v`` (Eq. 12); ``moment``, ``caption``.

        ``t`` is the mean over trained tokens of the negative log-likelihood, ``caption`` the same
        over the captions of photos to make alone (they are part of ``t`` too; the papers give it
        no weight of its own), and ``moment`` is that of "[IMG] or not" at every share moment.
        ``v`` (or what the bridge has in its place) and ``caption`` are absent from a batch without
        photos to make, ``caption`` also where a bridge has its own tokens.
        """
        states = self.states(batch)
        # State k-1 predicts token k; only the trained positions ever meet the vocabulary.
        rows, columns = (batch.labels_BT[:, 1:] != IGNORED).nonzero(as_tuple=True)
        logits_MV = self.language.head(states.hidden_BTD[rows, columns]).float()
        gold_M = batch.labels_BT[rows, columns + 1]
        nll_M = F.cross_entropy(logits_MV, gold_M, reduction="none")
        losses = {"t": nll_M.mean()}  # Eq. 2
        if len(batch.captions) and not self.renderer.span_ids:
            losses["caption"] = nll_M[_inside_spans(batch)[rows, columns + 1]].mean()
        if len(batch.moment_row_M):
            losses["moment"] = F.binary_cross_entropy_with_logits(
                self.share_logits(states, batch), batch.moment_shared_M.float()
            )
        if self.painter is not None and batch.span_pixels_N3HW is not None:
            spans = self.gather_spans(states, batch)
            conditioning = self.bridge(spans, self.painter, generator=generator)
            targets = PhotoTargets(pixels_N3HW=batch.span_pixels_N3HW, captions=batch.captions)
            losses |= self.bridge.losses(
                spans, conditioning, targets, self.painter, generator=generator
            )
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
        embeds_BTD = self.language.embed(batch.ids_BT)
        if batch.seen_pixels_P3HW is not None and self.perceptron is not None:
            seen_PQD = self.perceptron(batch.seen_pixels_P3HW).to(embeds_BTD.dtype)
            offsets_Q = torch.arange(seen_PQD.shape[1], device=seen_PQD.device)
            embeds_BTD = embeds_BTD.index_put(
                (batch.seen_row_P[:, None], batch.seen_start_P[:, None] + offsets_Q), seen_PQD
            )
        # Rows are padded on the right, where a causal LM does not look: no mask is needed, and
        # without one its attention is faster.
        return LanguageStates(
            embeds_BTD=embeds_BTD, hidden_BTD=self.language.hidden(embeds_BTD, None)
        )

    def share_logits(self, states: LanguageStates, batch: Batch) -> Tensor:
        """log P([IMG]) - log P(anything else) at each share moment, (M,)."""
        hidden_MD = states.hidden_BTD[batch.moment_row_M, batch.moment_index_M]
        return share_logit(self.language.head(hidden_MD).float(), self.renderer.img)

    def gather_spans(self, states: LanguageStates, batch: Batch) -> PhotoSpans:
        """The N photo spans of a batch, padded to the longest (see PhotoSpans)."""
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

    # ------------------------------------------------------------------------------ answering

    @torch.no_grad()
    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image.Image],
        seed: int,
        on_text: Callable[[str], None] | None = None,
        on_photo_step: Callable[[int, int], None] | None = None,
    ) -> Reply:
        """Answer the dialogue so far: texts and photos until the agent gives the turn away.

        ``images`` holds the pixels of the photos in ``turns`` by id. ``on_text`` receives each
        piece of text as it is written. Raises GenerationError if the logits are not numbers.
        """
        began = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        settings, renderer = self.decoding, self.renderer
        writing, dropped = self.read(self.describe(turns, images), images)
        out: list[Turn] = []
        chances: list[float] = []
        painted: dict[str, Image.Image] = {}
        first_word: float | None = None
        photo_time: float | None = None
        while len(out) < settings.max_turns:
            self.open_turn(writing)
            p_share = float(share_logit(writing.logits_V[None], renderer.img).sigmoid())
            chances.append(p_share)
            if p_share >= settings.share_threshold and not painted:
                photo, image = self._share(
                    writing, seed=seed, number=len(turns) + len(out), on_step=on_photo_step
                )
                if image is not None:
                    painted[photo.id] = image
                photo_time = time.perf_counter() - began
                out.append(Turn(speaker=AGENT, elements=(photo,)))
            else:

                def told(piece: str) -> None:
                    nonlocal first_word
                    if first_word is None:
                        first_word = time.perf_counter() - began
                    if on_text:
                        on_text(piece)

                text = self.write_text(writing, generator=generator, on_text=told)
                if on_text:
                    on_text("\n")
                out.append(Turn(speaker=AGENT, elements=(text,)))
            again, over = (float(writing.logits_V[renderer.roles[r]]) for r in ("agent", "user"))
            if over >= again:
                break
        return Reply(
            turns=tuple(out),
            p_share=tuple(chances),
            images=painted,
            seconds_to_first_word=first_word,
            seconds_to_photo=photo_time,
            dropped_turns=dropped,
        )

    @torch.no_grad()
    def describe(
        self, turns: tuple[Turn, ...], images: Mapping[str, Image.Image]
    ) -> tuple[Turn, ...]:
        """The turns with the user's photos captioned, for a model that reads captions only."""
        if self.captioner is None:
            return turns

        def told(element: str | Photo) -> str | Photo:
            if isinstance(element, str) or element.origin != "user":
                return element
            return replace(element, caption=self.captioner.caption(element, images[element.id]))  # type: ignore[union-attr]

        return tuple(
            replace(turn, elements=tuple(told(element) for element in turn.elements))
            for turn in turns
        )

    @torch.no_grad()
    def caption(self, photo: Photo, image: Image.Image) -> str:
        """What this model sees in a photo, in words."""
        shown = Turn(speaker=USER, elements=(photo,))
        writing, _ = self.read((shown,), {photo.id: image})
        self.open_turn(writing)
        return self.write_caption(writing)

    def open_turn(self, writing: _Writing) -> None:
        """It is the agent's turn; the next logits say [IMG] or a word."""
        self._push(writing, [self.renderer.roles[AGENT]])

    @torch.no_grad()
    def read(
        self, turns: tuple[Turn, ...], images: Mapping[str, Image.Image]
    ) -> tuple[_Writing, int]:
        """The LLM's state after the turns, and how many of the oldest did not fit."""
        rendered = self.renderer.render_turns(
            turns, has_pixels=lambda photo: photo.id in images and self.perceptron is not None
        )
        embeds_1TD = self.language.embed(torch.tensor([rendered.ids]))
        for place in rendered.seen:
            seen_QD = self._perceive(images[place.photo.id])
            embeds_1TD[0, place.start : place.start + len(seen_QD)] = seen_QD
        cache = self.language.new_cache()
        hidden_D, logits_V = self.language.step(embeds_1TD, cache)
        writing = _Writing(cache=cache, hidden_D=hidden_D, logits_V=logits_V)
        return writing, rendered.dropped_turns

    @torch.no_grad()
    def write_caption(self, writing: _Writing) -> str:
        """The words between [IMG] and [/IMG]; the state ends after [/IMG].

        Raises GenerationError where the bridge has its own tokens: there are no words then.
        """
        if self.renderer.span_ids:
            raise GenerationError(
                f'"{self.name}" announces photos by tokens without words, so it has no caption to '
                "write; use a model whose bridge reads captions"
            )
        self._push(writing, [self.renderer.img])
        ids: list[int] = []
        banned = self.renderer.special - {self.renderer.close}
        generator = torch.Generator().manual_seed(0)
        while len(ids) < self.decoding.max_new_tokens:
            logits_V = writing.logits_V.clone()
            logits_V[list(banned)] = -torch.inf
            if not ids:
                logits_V[self.renderer.close] = -torch.inf
            token = self._choose(
                logits_V, temperature=self.decoding.caption_temperature, generator=generator
            )
            if token == self.renderer.close:
                break
            ids.append(token)
            self._push(writing, [token])
        self._push(writing, [self.renderer.close])
        return self.language.tokenizer.decode(ids).strip()

    @torch.no_grad()
    def write_span(self, writing: _Writing) -> PhotoSpans:
        """The bridge's own tokens, said one after the other: the first forces the rest.

        One row; the state ends after the last token.
        """
        ids_1K = torch.tensor([self.renderer.span_ids])
        embeds_1KD = self.language.embed(ids_1K)
        # they are known beforehand, so the LLM reads them in one go
        after_1KD = self.language.read(embeds_1KD, writing.cache)
        before_1KD = torch.cat([writing.hidden_D[None, None], after_1KD[:, :-1]], dim=1)
        writing.hidden_D = after_1KD[0, -1]
        writing.logits_V = self.language.head(writing.hidden_D).float()
        return PhotoSpans(
            ids_NK=ids_1K,
            mask_NK=torch.ones_like(ids_1K).bool(),
            embeds_NKD=embeds_1KD,
            before_NKD=before_1KD,
            after_NKD=after_1KD,
            logits_NKV=self.language.head(before_1KD).float(),
            captions=("",),
        )

    def paint_caption(
        self,
        caption: str,
        *,
        seed: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Image.Image:
        """A caption -> a photo, through the bridge, as a spoken caption is."""
        pixels = self.paint_captions([caption], seeds=[seed], on_step=on_step)
        return to_image(pixels[0])

    @torch.no_grad()
    def paint_captions(
        self,
        captions: list[str],
        *,
        seeds: list[int],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Captions -> (N, 3, H, W). Each photo has its own seed, so batches do not matter."""
        return self.paint_spans(self.spoken_spans(captions), seeds=seeds, on_step=on_step)

    @torch.no_grad()
    def paint_spans(
        self,
        spans: PhotoSpans,
        *,
        seeds: list[int],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """What was said of N photos -> (N, 3, H, W). Raises GenerationError without a painter."""
        if self.painter is None:
            raise GenerationError(
                f'"{self.name}" has no painter; it can only describe a photo; use a model with one'
            )
        generator = torch.Generator().manual_seed(seeds[0])
        conditioning = self.bridge(spans, self.painter, generator=generator)
        steps = self.decoding.num_steps
        return self.painter.paint(
            conditioning,
            num_steps=steps,
            guidance=self.decoding.guidance,
            seeds=seeds,
            callback=(lambda step, latents: on_step(step, steps)) if on_step else None,
        )

    def spoken_spans(self, captions: list[str]) -> PhotoSpans:
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
        rows = [self.renderer.words(caption) for caption in captions]
        length = max(len(row) for row in rows)
        pad = self.language.tokenizer.pad_token_id
        ids_NK = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
        mask_NK = torch.tensor([[1] * len(r) + [0] * (length - len(r)) for r in rows]).bool()
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

    def _share(
        self,
        writing: _Writing,
        *,
        seed: int,
        number: int,
        on_step: Callable[[int, int], None] | None,
    ) -> tuple[Photo, Image.Image | None]:
        # A bridge with its own tokens has no words for the photo.
        if self.renderer.span_ids:
            caption, spans = "", self.write_span(writing)
        else:
            caption = self.write_caption(writing)
            spans = self.spoken_spans([caption])
        photo = Photo(id=f"painted-{seed}-{number}", caption=caption, origin="painted", seed=seed)
        image = None
        if self.painter is not None:
            image = to_image(self.paint_spans(spans, seeds=[seed], on_step=on_step)[0])
            if self.perceptron is not None and self.renderer.config.own_pixels:
                self._push_embeds(writing, self._perceive(image))
        self._push(writing, [self.renderer.end])
        return photo, image

    @torch.no_grad()
    def write_text(
        self,
        writing: _Writing,
        *,
        generator: torch.Generator,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """Sample a text turn until <|end|>; the state ends after it."""
        renderer, settings = self.renderer, self.decoding
        banned = list(renderer.special - {renderer.end})
        ids: list[int] = []
        said = ""
        while len(ids) < settings.max_new_tokens:
            logits_V = writing.logits_V.clone()
            logits_V[banned] = -torch.inf
            if not ids:
                logits_V[renderer.end] = -torch.inf
            token = self._choose(
                logits_V,
                temperature=settings.temperature,
                top_p=settings.top_p,
                generator=generator,
            )
            if token == renderer.end:
                break
            ids.append(token)
            text = self.language.tokenizer.decode(ids)
            if not text.endswith("\ufffd"):  # a character whose bytes are not all here yet
                piece, said = text[len(said) :], text
                if on_text:
                    on_text(piece if len(ids) > 1 else piece.lstrip())
            self._push(writing, [token])
        self._push(writing, [renderer.end])
        return self.language.tokenizer.decode(ids).strip()

    def _choose(
        self,
        logits_V: Tensor,
        *,
        temperature: float,
        generator: torch.Generator,
        top_p: float = 1.0,
    ) -> int:
        if temperature == 0:
            return int(logits_V.argmax())
        p_V, order_V = (logits_V / temperature).softmax(-1).sort(descending=True)
        p_V[p_V.cumsum(0) - p_V > top_p] = 0
        if not bool(torch.isfinite(p_V).all()):
            raise GenerationError(
                f'"{self.name}" gave logits that are not numbers; its weights are damaged; '
                "copy or train it again"
            )
        return int(order_V[torch.multinomial(p_V, 1, generator=generator)])

    def _push(self, writing: _Writing, ids: list[int]) -> None:
        self._push_embeds(writing, self.language.embed(torch.tensor(ids)))

    def _push_embeds(self, writing: _Writing, embeds_TD: Tensor) -> None:
        writing.hidden_D, writing.logits_V = self.language.step(embeds_TD[None], writing.cache)

    def _perceive(self, image: Image.Image) -> Tensor:
        assert self.perceptron is not None
        return self.perceptron(to_pixels(image)[None])[0]


def share_logit(logits_MV: Tensor, img: int) -> Tensor:
    """log P([IMG]) - log(1 - P([IMG])) for each row of logits."""
    others = torch.cat([logits_MV[:, :img], logits_MV[:, img + 1 :]], dim=1)
    return logits_MV[:, img] - others.logsumexp(-1)


def to_pixels(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) in [0, 1]."""
    width, height = image.size
    flat = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return flat.view(height, width, 3).permute(2, 0, 1).float() / 255


def to_image(pixels_3HW: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB image."""
    array = (pixels_3HW.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
    return Image.frombytes("RGB", (array.shape[1], array.shape[0]), array.numpy().tobytes())


def _inside_spans(batch: Batch) -> Tensor:
    """(B, T) bool: the tokens of the captions of photos to make, their [/IMG] included."""
    inside_BT = torch.zeros_like(batch.mask_BT)
    places = (batch.span_row_N, batch.span_start_N, batch.span_stop_N)
    for row, start, stop in zip(*(place.tolist() for place in places), strict=True):
        inside_BT[row, start : stop + 1] = True
    return inside_BT
