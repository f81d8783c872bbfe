"""Renderer: Dialogue -> token ids, labels, photo positions. The only place that decides what is
trained on.

    <|begin|> <|user|> hi there <|end|> <|user|> <|photo|>*Q <|end|>
              <|agent|> [IMG] a dog at the beach [/IMG] <|photo|>*Q <|end|> <|agent|> ta-da <|end|>

A photo to be made is its caption between [IMG] and [/IMG] (2408.08650, section 2.2), or, for a
bridge that has tokens of its own, just these: <|agent|> [IMG0] ... [IMG7] <|end|> (2310.02239,
section 2.1). A photo that is seen is Q places where the photo encoder's embeddings go (2408.08650,
section 2.3). A photo without pixels, or for a model that reads captions, stands as its caption,
or, for one that is to know only that there was a photo, as [IMG] [/IMG].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from showtell.dialogue import AGENT, Dialogue, Photo, Speaker, Turn
from showtell.errors import ConfigError, DataError

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class PhotoPlace:
    """Where a photo's Q embeddings go: the index of the first of Q tokens."""

    start: int
    photo: Photo


@dataclass(frozen=True, kw_only=True)
class Span:
    """The tokens that announce a photo to be made; ``inside`` is what the bridge reads of them.

    ``trained`` says of each token whether it is learnt as text.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    inside: slice


@dataclass(frozen=True, kw_only=True)
class SpanPlace:
    """Where the bridge reads a photo to make: ``[start, stop)``, without [IMG] and [/IMG]."""

    start: int
    stop: int
    photo: Photo


@dataclass(frozen=True, kw_only=True)
class MomentPlace:
    """A share moment: the token whose next token is [IMG] or not, and which turn it opens."""

    index: int
    turn: int
    shared: bool


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A dialogue as the LLM reads it; ``labels`` are -100 where nothing is trained."""

    ids: list[int]
    labels: list[int]
    seen: list[PhotoPlace]
    spans: list[SpanPlace]
    moments: list[MomentPlace]
    dropped_turns: int


@dataclass(frozen=True, kw_only=True)
class RendererConfig:
    """``perceive``: photos in the context as ``pixels`` (Q tokens), as ``caption`` (words), or as
    ``nothing`` (an empty caption).

    ``own_pixels``: whether the agent also sees the pixels of the photo that it has just shared.
    ``span_tokens``: the bridge's own tokens (``Bridge.span_tokens``), which announce a photo in
    place of its caption; the first is the decision to share, and the rest follow it without
    choice. ``span_trained``: the places of those that are learnt as text; None: all.
    """

    num_photo_tokens: int = 8
    max_tokens: int = 512
    speakers: tuple[Speaker, ...] = (AGENT,)
    perceive: str = "pixels"
    own_pixels: bool = True
    span_tokens: tuple[str, ...] | None = None
    span_trained: tuple[int, ...] | None = None


class Renderer:
    """Turns -> tokens, for one tokenizer. ``has_pixels`` says whether a photo can be seen.

    ``img`` is the token that opens a photo to be made: its probability is P(share).
    """

    def __init__(
        self,
        tokenizer: object,
        config: RendererConfig,
        *,
        has_pixels: Callable[[Photo], bool] = lambda photo: (
            photo.path is not None or "scene" in photo.labels
        ),
    ) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.has_pixels = has_pixels
        token = tokenizer.convert_tokens_to_ids  # type: ignore[attr-defined]
        self.begin, self.end = token("<|begin|>"), token("<|end|>")
        self.roles = {"user": token("<|user|>"), "agent": token("<|agent|>")}
        self.photo = token("<|photo|>")
        self.open, self.close = token("[IMG]"), token("[/IMG]")
        self.span_ids = self._span_ids()
        self.img = self.span_ids[0] if self.span_ids else self.open
        bos = getattr(tokenizer, "bos_token_id", None)
        # an LLM that has always seen its own first token stands on it
        self.start = [self.begin] if bos in (None, self.begin) else [bos, self.begin]
        ours = {self.begin, self.end, self.photo, self.open, self.close, *self.roles.values()}
        added = getattr(tokenizer, "added_tokens_decoder", {})
        theirs = {number for number, token in added.items() if token.special}
        # no word: what is never said in a text
        self.special = ours | theirs | set(self.span_ids)

    def _span_ids(self) -> tuple[int, ...]:
        """The ids of ``span_tokens``; () where a caption announces a photo."""
        names = self.config.span_tokens
        if names is None:
            return ()
        vocabulary = self.tokenizer.get_vocab()  # type: ignore[attr-defined]
        missing = [name for name in names if name not in vocabulary]
        if missing or not names:
            raise ConfigError(
                f"span_tokens is {names}, and the tokenizer has no {', '.join(missing) or 'such'}; "
                "wanted the tokens of the bridge; add them with grow_vocabulary, or use a "
                "checkpoint that was trained with this bridge"
            )
        if (trained := self.config.span_trained) is not None and not set(trained) <= set(
            range(len(names))
        ):
            raise ConfigError(
                f"span_trained is {trained}; wanted places in the {len(names)} span_tokens, from 0 "
                f"to {len(names) - 1}"
            )
        return tuple(vocabulary[name] for name in names)

    def words(self, text: str) -> list[int]:
        """The ids of a text, as after a space; words that look like our marks stay words."""
        return self.tokenizer(  # type: ignore[operator]
            " " + text.strip(), add_special_tokens=False, split_special_tokens=True
        )["input_ids"]

    def caption_span(self, caption: str) -> list[int]:
        """``[IMG] caption [/IMG]``"""
        return [self.open, *self.words(caption), self.close]

    def photo_span(self, photo: Photo) -> Span:
        """What the agent says to share a photo."""
        if self.span_ids:
            count = len(self.span_ids)
            places = self.config.span_trained
            trained = tuple(places is None or place in places for place in range(count))
            return Span(ids=self.span_ids, trained=trained, inside=slice(0, count))
        ids = self.caption_span(photo.caption)
        return Span(ids=tuple(ids), trained=(True,) * len(ids), inside=slice(1, len(ids) - 1))

    def render(self, dialogue: Dialogue) -> Rendered:
        """The whole dialogue; the oldest turns are dropped, and counted, if it is too long.

        Never the last one, nor the photo that is to be answered: the last one shown since the
        agent spoke.
        """
        return self.render_turns(dialogue.turns)

    def render_turns(
        self, turns: Sequence[Turn], *, has_pixels: Callable[[Photo], bool] | None = None
    ) -> Rendered:
        """The same for turns; ``has_pixels`` stands in for the renderer's own rule."""
        seen = has_pixels or self.has_pixels
        pieces = [self._turn(index, turn, seen) for index, turn in enumerate(turns)]
        kept = {len(pieces) - 1, _photo_to_answer(turns)}
        oldest = [number for number in range(len(pieces)) if number not in kept]
        dropped: list[int] = []
        total = len(self.start) + sum(len(piece.ids) for piece in pieces)
        while total > self.config.max_tokens and oldest:
            dropped.append(oldest.pop(0))
            total -= len(pieces[dropped[-1]].ids)
        if total > self.config.max_tokens:
            raise DataError(
                f"the last turn, with the photo it is about, takes {total} tokens; wanted at most "
                f"{self.config.max_tokens}; make it shorter"
            )
        whole = Rendered(
            ids=list(self.start),
            labels=[IGNORED] * len(self.start),
            seen=[],
            spans=[],
            moments=[],
            dropped_turns=len(dropped),
        )
        for piece in (piece for number, piece in enumerate(pieces) if number not in dropped):
            offset = len(whole.ids)
            whole.ids.extend(piece.ids)
            whole.labels.extend(piece.labels)
            whole.seen.extend(PhotoPlace(start=p.start + offset, photo=p.photo) for p in piece.seen)
            whole.spans.extend(
                SpanPlace(start=s.start + offset, stop=s.stop + offset, photo=s.photo)
                for s in piece.spans
            )
            whole.moments.extend(
                MomentPlace(index=m.index + offset, turn=m.turn, shared=m.shared)
                for m in piece.moments
            )
        return whole

    def _turn(self, number: int, turn: Turn, has_pixels: Callable[[Photo], bool]) -> Rendered:
        trained = turn.speaker in self.config.speakers
        out = Rendered(ids=[], labels=[], seen=[], spans=[], moments=[], dropped_turns=0)

        def put(ids: Sequence[int], label: bool) -> None:
            out.ids.extend(ids)
            out.labels.extend(ids if label else [IGNORED] * len(ids))

        # Who speaks next is always trained: it tells the agent whether it is its turn again.
        put([self.roles[turn.speaker]], label=number > 0)
        if trained:
            first = turn.elements[0] if turn.elements else ""
            out.moments.append(MomentPlace(index=0, turn=number, shared=isinstance(first, Photo)))
        for element in turn.elements:
            if isinstance(element, str):
                put(self.words(element), label=trained)
                continue
            pixels = self.config.perceive == "pixels" and has_pixels(element)
            if trained:
                span, start = self.photo_span(element), len(out.ids)
                inside = span.inside
                out.spans.append(
                    SpanPlace(start=start + inside.start, stop=start + inside.stop, photo=element)
                )
                for token, label in zip(span.ids, span.trained, strict=True):
                    put([token], label=label)
            elif not pixels:
                told = "" if self.config.perceive == "nothing" else element.caption
                put(self.caption_span(told), label=False)
            if pixels and (not trained or self.config.own_pixels):
                out.seen.append(PhotoPlace(start=len(out.ids), photo=element))
                put([self.photo] * self.config.num_photo_tokens, label=False)
        put([self.end], label=trained)
        return out


def _photo_to_answer(turns: Sequence[Turn]) -> int | None:
    """Which turn shows the last photo since the agent spoke; None: none does."""
    for number in range(len(turns) - 1, -1, -1):
        if turns[number].speaker == AGENT:
            return None
        if turns[number].photos:
            return number
    return None


def render_for_show(renderer: Renderer, dialogue: Dialogue) -> list[tuple[str, bool]]:
    """(text of a token, whether it is trained) for every token, to print in colour."""
    rendered = renderer.render(dialogue)
    decode = renderer.tokenizer.decode  # type: ignore[attr-defined]
    return [
        (decode([token]), label != IGNORED)
        for token, label in zip(rendered.ids, rendered.labels, strict=True)
    ]
