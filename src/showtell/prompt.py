"""Renderer: Dialogue -> token ids, labels, photo positions. The only place that decides what is
trained on.

    <|begin|> <|user|> hi there <|end|> <|user|> <|photo|>*Q <|end|>
              <|agent|> [IMG] a dog at the beach [/IMG] <|photo|>*Q <|end|> <|agent|> ta-da <|end|>

A photo to be made is its caption between [IMG] and [/IMG] (2408.08650, section 2.2), or, for a
bridge that has tokens of its own, just these: <|agent|> [IMG0] ... [IMG7] <|end|> (2310.02239,
section 2.1). A photo that is seen is Q places where the photo encoder's embeddings go (2408.08650,
section 2.3). A photo without pixels, or for a model that reads captions, stands as its caption,
or, for one that is to know only that there was a photo, as [IMG] [/IMG].

What stands around a turn's words is a small model's own marks, as above, or what the LLM's chat
template has (``turns.py``); then of a turn's header only the token that says whose it is is
trained, and of its end what the LLM must say, for the rest follows of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from showtell.dialogue import AGENT, Dialogue, Photo, Speaker, Turn
from showtell.errors import DataError
from showtell.turns import chat_turns, control_tokens, marks

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class PhotoPlace:
    """Where a photo's Q embeddings go: the index of the first of Q tokens."""

    start: int
    photo: Photo


@dataclass(frozen=True, kw_only=True)
class SpanPlace:
    """Where the bridge reads a photo to make: ``[start, stop)``, without [IMG] and [/IMG]."""

    start: int
    stop: int
    photo: Photo


@dataclass(frozen=True, kw_only=True)
class MomentPlace:
    """A share moment: the token whose next token is [IMG] or not, and which turn it opens; what
    says whose turn it is stands from ``opening`` to it."""

    index: int
    opening: int
    turn: int
    shared: bool


@dataclass(kw_only=True)
class Rendered:
    """A dialogue as the LLM reads it; ``labels`` are -100 where nothing is trained."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    seen: list[PhotoPlace] = field(default_factory=list)
    spans: list[SpanPlace] = field(default_factory=list)
    moments: list[MomentPlace] = field(default_factory=list)
    # [start, stop) of what says whose turn it is, of all turns
    openings: list[tuple[int, int, Speaker]] = field(default_factory=list)
    dropped: tuple[int, ...] = ()  # the numbers of the turns that did not fit

    @property
    def dropped_turns(self) -> int:
        return len(self.dropped)

    def put(self, ids: Sequence[int], *, label: bool) -> None:
        self.ids.extend(ids)
        self.labels.extend(ids if label else [IGNORED] * len(ids))


@dataclass(frozen=True, kw_only=True)
class RendererConfig:
    """``perceive``: photos in the context as ``pixels`` (Q tokens), as ``caption`` (words), or as
    ``nothing`` (an empty caption).

    ``own_pixels``: whether the agent also sees the pixels of the photo that it has just shared.
    ``span_tokens``: the bridge's own tokens (``Bridge.span_tokens``), which announce a photo in
    place of its caption; the first is the decision to share, and the rest follow it without
    choice. ``span_trained``: the places of those that are learnt as text; None: all. ``template``:
    turns as our ``marks``, or as the LLM's own ``chat`` template has them. ``photo_token``: what
    stands where a photo is seen; Llama-Vision has one of its own.
    """

    num_photo_tokens: int = 8
    max_tokens: int = 512
    speakers: tuple[Speaker, ...] = (AGENT,)
    perceive: str = "pixels"
    own_pixels: bool = True
    span_tokens: tuple[str, ...] | None = None
    span_trained: tuple[int, ...] | None = None
    template: Literal["marks", "chat"] = "marks"
    photo_token: str = "<|photo|>"


class Renderer:
    """Turns -> tokens, for one tokenizer. ``has_pixels`` says whether a photo can be seen.

    ``img`` is the token that opens a photo to be made: its probability is P(share).
    """

    def __init__(
        self,
        tokenizer: Any,
        config: RendererConfig,
        *,
        has_pixels: Callable[[Photo], bool] = lambda photo: (
            photo.path is not None or "scene" in photo.labels
        ),
    ) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.has_pixels = has_pixels
        token = tokenizer.convert_tokens_to_ids
        self.form = chat_turns(tokenizer) if config.template == "chat" else marks(tokenizer)
        self.start, self.end, self.roles = self.form.start, self.form.stop, self.form.roles
        self.photo = token(config.photo_token)
        self.open, self.close = token("[IMG]"), token("[/IMG]")
        self.span_ids = tuple(map(token, config.span_tokens or ()))
        self.img = self.span_ids[0] if self.span_ids else self.open
        ours = {self.photo, self.open, self.close}
        if self.form.before is None:
            ours |= {*self.start, self.end, *self.roles.values()}
        added = getattr(tokenizer, "added_tokens_decoder", {})
        theirs = {number for number, token in added.items() if token.special}
        if config.template == "chat":
            theirs |= set(control_tokens(tokenizer))
        # no word: what is never said in a text
        self.special = ours | theirs | set(self.span_ids)

    def words(self, text: str) -> list[int]:
        """The ids of a text, as after a space; words that look like our marks stay words."""
        return self.form.words(text)

    def opening(self, speaker: str) -> list[int]:
        """What is read before a speaker's words where ``form.between`` has been read already."""
        return list(self.form.headers[speaker][len(self.form.between) :])

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
        whole, starts = self._together(turns, range(len(turns)), seen)
        excess, dropped = len(whole.ids) - self.config.max_tokens, []
        needed = {len(turns) - 1, _photo_to_answer(turns)}
        for number, (start, stop) in enumerate(pairwise((*starts, len(whole.ids)))):
            if excess > 0 and number not in needed:
                dropped.append(number)
                excess -= stop - start
        if excess > 0:
            raise DataError(
                f"the last turn, with the photo it is about, takes "
                f"{self.config.max_tokens + excess} tokens; wanted at most "
                f"{self.config.max_tokens}; make it shorter"
            )
        if dropped:
            kept = [number for number in range(len(turns)) if number not in dropped]
            whole, _ = self._together(turns, kept, seen)
        whole.dropped = tuple(dropped)
        return whole

    def _together(
        self, turns: Sequence[Turn], numbers: Iterable[int], has_pixels: Callable[[Photo], bool]
    ) -> tuple[Rendered, list[int]]:
        """The turns of these numbers, one after the other, and where each starts."""
        out, starts = Rendered(), []
        out.put(self.start, label=False)
        for number in numbers:
            starts.append(len(out.ids))
            self._put_turn(out, number, turns[number], has_pixels)
        return out, starts

    def _put_turn(
        self, out: Rendered, number: int, turn: Turn, has_pixels: Callable[[Photo], bool]
    ) -> None:
        trained = turn.speaker in self.config.speakers
        opening = len(out.ids)
        header = self.form.header(turn.speaker, first=not out.openings)
        out.openings.append((opening, opening + len(header), turn.speaker))
        if trained:
            shared = isinstance(turn.elements[0] if turn.elements else "", Photo)
            index = opening + len(header) - 1
            moment = MomentPlace(index=index, opening=opening, turn=number, shared=shared)
            out.moments.append(moment)
        # Who speaks next is always trained: it tells the agent whether it is its turn again.
        for place, token in enumerate(header):
            out.put([token], label=number > 0 and place == len(self.form.between))
        for place, element in enumerate(turn.elements):
            if isinstance(element, str):
                first = place == 0
                ids = self.form.content(element, turn.speaker) if first else self.words(element)
                out.put(ids, label=trained)
                continue
            pixels = self.config.perceive == "pixels" and has_pixels(element)
            if trained:
                self._put_span(out, element)
            elif not pixels:
                told = "" if self.config.perceive == "nothing" else element.caption
                out.put([self.open, *self.words(told), self.close], label=False)
            if pixels and (not trained or self.config.own_pixels):
                out.seen.append(PhotoPlace(start=len(out.ids), photo=element))
                out.put([self.photo] * self.config.num_photo_tokens, label=False)
        said = True
        for token in self.form.ends[turn.speaker]:
            out.put([token], label=trained and said)
            said = said and token != self.end  # what follows the end is never said

    def _put_span(self, out: Rendered, photo: Photo) -> None:
        """What the agent says to share a photo: its caption, or the bridge's own tokens."""
        start, learnt = len(out.ids), self.config.span_trained
        if self.span_ids:
            for place, token in enumerate(self.span_ids):
                out.put([token], label=learnt is None or place in learnt)
            out.spans.append(SpanPlace(start=start, stop=len(out.ids), photo=photo))
        else:
            out.put([self.open, *self.words(photo.caption), self.close], label=True)
            out.spans.append(SpanPlace(start=start + 1, stop=len(out.ids) - 1, photo=photo))


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
    rendered, decode = renderer.render(dialogue), renderer.tokenizer.decode
    pairs = zip(rendered.ids, rendered.labels, strict=True)
    return [(decode([token]), label != IGNORED) for token, label in pairs]
