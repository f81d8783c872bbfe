"""Responder: the line of 2408.08650, Fig. 2, walked word by word, for B dialogues at once.

The agent's turn opens; P([IMG]) says whether it is a photo; a photo is announced, then painted or
found in the album, and seen; words are written; the roles' logits say whose turn it is.

    responder = Responder(Decoder(model), album=open_album(model, "album"))
    reply = responder.respond(turns, images={}, seed=0)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.dialogue import AGENT, PAINTED_BY, USER, Photo, Turn
from showtell.errors import GenerationError
from showtell.models.company import Anew, Answer, Company, Paint
from showtell.models.decoder import Decoder, Images
from showtell.models.eyes import Eyes
from showtell.models.open_album import OpenAlbum
from showtell.models.parts import Conditioning, OnStep, PhotoSpans
from showtell.models.reply import (
    ByThreshold,
    Deciding,
    Described,
    Dial,
    PhotoDue,
    PhotoSource,
    Remembering,
    Reply,
    Row,
    Shared,
    Tell,
    Words,
    silence,
)
from showtell.models.speech import Agreeing, Thoughtless, without_thoughts
from showtell.models.steps import Read, See, Seen, Steps

_USUAL = Dial()


class Responder(Eyes):
    """A decoder that answers, the album it may share photos of, ``photos``: where those come from
    that it can tell in words only, ``looks``: what tells photos of the user's in words, ``when`` a
    photo comes: by its threshold, unless told otherwise, and ``memory``: what a wish means in a
    talk with photos."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        album: OpenAlbum | None = None,
        photos: PhotoSource | None = None,
        looks: Callable[[Sequence[Image.Image]], list[str]] | None = None,
        when: Deciding | None = None,
        memory: Remembering | None = None,
    ) -> None:
        super().__init__(decoder, looks=looks)
        self.album = album
        self.photos = photos
        self.when = when or ByThreshold(threshold=decoder.decoding.share_threshold)
        self.memory = memory

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def paints(self) -> bool:
        """Whether words may become a photo that no album has."""
        return self.model.painter is not None or bool(self.photos and self.photos.paints)

    @property
    def card(self) -> dict[str, Any]:
        return self.model.card

    # -------------------------------------------------------------------------------- answers

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Images,
        seed: int,
        tell: Tell = silence,
        dial: Dial = _USUAL,
    ) -> Reply:
        """Answer the dialogue so far: texts and photos until the agent gives the turn away.

        ``images`` holds the pixels of the photos in ``turns`` by id. ``tell`` hears of all that
        happens. Raises GenerationError if the logits are not numbers.
        """
        (reply,) = self.respond_all(
            [turns], images=[images], seeds=[seed], tells=[tell], dials=[dial]
        )
        return reply

    def respond_all(
        self,
        contexts: Sequence[tuple[Turn, ...]],
        *,
        images: Sequence[Images],
        seeds: Sequence[int],
        tells: Sequence[Tell] | None = None,
        dials: Sequence[Dial] | None = None,
    ) -> list[Reply]:
        """Answer B dialogues at once; each gets what ``respond`` would answer it alone."""
        tells = tells or [silence] * len(contexts)
        dials = dials or [_USUAL] * len(contexts)
        given = zip(contexts, images, seeds, tells, dials, strict=True)
        answers = [
            self.answer(turns, images=own, seed=seed, tell=tell, dial=dial)
            for turns, own, seed, tell, dial in given
        ]
        company = self.company()
        company.admit(answers)
        while company.answers:
            for answer in company.step():
                if answer.error is not None:
                    raise answer.error
        return [answer.row.reply for answer in answers]

    def company(self) -> Company:
        """Where answers are given together, that may come and go meanwhile."""
        return Company(self)

    def answer(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Images,
        seed: int,
        tell: Tell = silence,
        dial: Dial = _USUAL,
    ) -> Answer:
        """An answer that ``company`` gives; as ``respond``."""
        wish = replace(self.when.wish(turns), album=dial.album)
        if self.memory is not None:
            wish = self.memory(wish, turns, images, self.look)
            able = self.paints or self.album is not None
            tell = Agreeing(tell, wish=wish, able=able, turns=turns)
        row = Row(context=turns, seed=seed, reply=Reply(), wish=wish, tell=tell, dial=dial)
        return Answer(row, images, self._answering)

    def _answering(self, row: Row) -> Steps[None]:
        """The steps of an answer."""
        if row.wish.instead:
            row.say_wished()
        else:
            yield from self._answered(row)
        if isinstance(row.tell, Agreeing):
            row.tell.end(row.reply)

    def _answered(self, row: Row) -> Steps[None]:
        began, reply = time.perf_counter(), row.reply
        yield from self._turns(row, self.when, began)
        if not reply.turns:  # a photo was due, and there is none: in words, then
            reply.decisions.clear()
            yield Anew()
            yield from self._turns(row, ByThreshold(threshold=math.inf), began)
        offers = [each.offer for each in reply.decisions if each.offer]
        if offers and not reply.images:
            row.say(offers[0], reason="it was offered")

    def _turns(self, row: Row, when: Deciding, began: float) -> Steps[None]:
        """Turns, until the agent gives the turn away."""
        decoder, reply, renderer = self.decoder, row.reply, self.decoder.renderer
        die = torch.Generator().manual_seed(row.seed)

        def told(piece: str) -> None:
            if piece and reply.seconds_to_first_word is None:
                reply.seconds_to_first_word = time.perf_counter() - began
            if piece:
                row.tell(Words(text=piece))

        heard: list[Thoughtless] = []
        while True:
            seen = yield from decoder.opening()
            p_share = float(decoder.p_share(seen)[0])
            decision = when.decide(p_share, turns=row.turns, wish=row.wish, dial=row.dial)
            reply.decided(decision)
            if decision.share and row.lacks:
                row.tell(PhotoDue(id=row.photo_id, decision=decision))
                shared = yield from self._share(row)
                if shared is None:
                    if row.wish.share:
                        told(reply.turns[-1].text + "\n")
                    else:  # nobody asked: what was said before it, if anything, is the answer
                        reply.decisions.pop()
                    return
                seen = shared
                reply.seconds_to_photo = time.perf_counter() - began
            else:
                heard.append(Thoughtless())
                text, seen = yield from decoder.text(die, lambda piece: told(heard[-1].add(piece)))
                told(heard[-1].end() + "\n")
                text = without_thoughts(text) or "..."
                reply.turns.append(Turn(speaker=AGENT, elements=(text,)))
            again, over = (seen.logits_BV[0, renderer.roles[role]] for role in (AGENT, USER))
            more = row.wish.count > 1 and decision.share and row.lacks
            if row.is_full(decoder.decoding.max_turns) or not (more or over < again):
                return

    # --------------------------------------------------------------------------------- photos

    @torch.no_grad()
    def paint_captions(
        self, captions: Sequence[str], *, seeds: Sequence[int], callback: OnStep | None = None
    ) -> Tensor:
        """Captions -> (N, 3, H, W). Each photo has its own seed, so batches do not matter.
        ``callback``: of ``painter.paint``."""
        return self.paint_spans(self.model.spoken_spans(captions), seeds=seeds, callback=callback)

    @torch.no_grad()
    def paint_spans(
        self, spans: PhotoSpans, *, seeds: Sequence[int], callback: OnStep | None = None
    ) -> Tensor:
        """What was said of N photos -> (N, 3, H, W). Raises GenerationError without a painter."""
        conditioning = self._conditioning(spans, seeds)
        assert self.model.painter is not None
        decoding = self.decoder.decoding
        return self.model.painter.paint(
            conditioning,
            num_steps=decoding.num_steps,
            guidance=decoding.guidance,
            seeds=seeds,
            callback=callback,
        )

    def _conditioning(self, spans: PhotoSpans, seeds: Sequence[int]) -> Conditioning:
        if self.model.painter is None:
            raise GenerationError(
                f'"{self.name}" has no painter; it can only describe a photo; use a model with one'
            )
        dice = torch.Generator().manual_seed(seeds[0])
        return self.model.bridge(spans, self.model.painter, generator=dice)

    def _share(self, row: Row) -> Steps[Seen | None]:
        """A photo turn; None where there is no photo: to whom asked for one, words stand in its
        place. Found by the request's own words, nothing has to be written before it."""
        renderer, wish = self.decoder.renderer, row.wish
        came, edits = wish.same, self.paints and (wish.start is not None or wish.seed is not None)
        if came is None and not edits:
            came = self._looked_up(wish.caption or wish.words, row)
        if came and came.photo and not renderer.span_ids:
            yield Read([renderer.img, *renderer.words(came.photo.caption), renderer.close])
            yield from self._see(came.image)
            seen = yield from self.decoder.closing()
            row.show(came.photo, came.image, came.hits)
            return seen
        if wish.beyond and self.album is None and not (came and came.photo):
            row.say_instead(Shared(instead=wish.beyond))
            return None
        if came and not came.photo and not self.paints:
            row.say_instead(self._from_elsewhere(wish.words, row, came))  # no word of it is written
            return None
        spans = yield from self.decoder.announcement(wish.caption)
        if wish.amend is not None and not wish.caption:
            words = wish.amend(spans.captions[0])
            if words != spans.captions[0]:  # as if it had never been said
                yield Anew()
                yield from self.decoder.opening()
                spans = yield from self.decoder.announcement(words)
        photo = Photo(
            id=row.photo_id,
            caption=spans.captions[0],
            origin="painted",
            seed=row.photo_seed,
            labels={PAINTED_BY: self.name},
        )
        image, conditioning = None, None
        if self.model.painter is not None:
            conditioning = self._conditioning(spans, [row.photo_seed])
        if not edits and wish.same is None:
            came = came or self._looked_up(photo.caption, row)
            if self.album is not None:
                came = self._nearest(spans, conditioning, row)
        if came is not None and came.photo is not None:
            photo, image = came.photo, came.image
        if conditioning is not None and image is None:
            row.tell(Described(id=photo.id, words=photo.caption))
            image = yield Paint(conditioning, row)
        elif image is None and self.photos is not None:
            row.tell(Described(id=photo.id, words=photo.caption))
            came = self._from_elsewhere(photo.caption, row, came)
            if came.photo is None:
                row.say_instead(came)
                return None
            photo, image = came.photo, came.image
        row.show(photo, image, () if came is None else came.hits)
        yield from self._see(image)
        return (yield from self.decoder.closing())

    def _from_elsewhere(self, words: str, row: Row, looked: Shared | None) -> Shared:
        """What becomes of a photo of these words that the model does not paint itself."""
        assert self.photos is not None
        return self.photos.share(
            words,
            wish=row.wish,
            photo_id=row.photo_id,
            seed=row.photo_seed,
            shown=row.shown,
            notes=row.reply.notes,
            looked=looked,
            on_step=row.stepped,
        )

    def _looked_up(self, words: str, row: Row) -> Shared | None:
        """What an album that is asked in words says to these."""
        if self.photos is None or not words:
            return None
        return self.photos.look_up(words, wish=row.wish, shown=row.shown)

    def _see(self, image: Image.Image | None) -> Steps[None]:
        """A model that sees looks at the photo that it shares."""
        if image and self.model.photo_encoder and self.decoder.renderer.config.own_pixels:
            yield See(image)

    def _nearest(
        self, spans: PhotoSpans, conditioning: Conditioning | None, row: Row
    ) -> Shared | None:
        """What the album, asked in vectors, has instead of a painted photo.

        The decision to retrieve counts where there is a painter, the cut-off where anything else
        may be done or said.
        """
        assert self.album is not None
        decoding, query_NE, chance_N = self.decoder.decoding, None, None
        if conditioning is not None:
            query_NE, chance_N = conditioning.query_NE, conditioning.retrieve_N
        query_NE = self.model.bridge.query(spans) if query_NE is None else query_NE
        cut_off = decoding.album_cut_off if self.model.painter or self.photos else -2.0
        if chance_N is not None and float(chance_N[0]) < decoding.retrieve_threshold:
            return None
        return self.album.nearest(query_NE, cut_off=cut_off, without=row.unwanted)
