"""Decoder: what the LLM reads and writes, B dialogues at once.

Each row's answer is steps of its own (``steps.py``), that are taken together; a row says what it
would say alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from showtell.dialogue import AGENT
from showtell.errors import GenerationError
from showtell.models.dialogue_model import share_logit
from showtell.models.parts import PhotoSpans
from showtell.models.reading import Images, Reading
from showtell.models.speech import without_thoughts
from showtell.models.steps import Made, Read, See, Seen, Steps, Under, Write
from showtell.models.writing import Writing

__all__ = ["Decoder", "Images", "numbers", "together"]
NUCLEUS = 1024  # of the likeliest tokens hold top_p, or else the whole vocabulary is sorted


class Decoder(Reading):
    """What it reads, and what it writes on."""

    def open_turn(
        self,
        writing: Writing,
        rows_B: Tensor | None = None,
        *,
        speakers: Sequence[str] | None = None,
    ) -> None:
        """It is the agent's turn, or that of each row's speaker; the next logits say [IMG] or a
        word."""
        said = speakers or [AGENT] * len(writing.hidden_BD)
        self.run(writing, rows_B, lambda b: self.opening(said[b]))

    def close_turn(
        self,
        writing: Writing,
        rows_B: Tensor | None = None,
        *,
        said: Sequence[list[int]] | None = None,
    ) -> None:
        """The agent's turn is over; the next logits say whose turn it is (``renderer.roles``).
        ``said``: the tokens of each row, which may hold the space before the end (Llama 2)."""
        self.run(writing, rows_B, lambda b: self.closing(said[b] if said else ()))

    def push(self, writing: Writing, ids: Sequence[int], rows_B: Tensor | None = None) -> None:
        """Read the same tokens in each row, or in those of ``rows_B``."""

        def reading(b: int) -> Steps[Seen]:
            return (yield Read(ids))

        self.run(writing, rows_B, reading)

    def p_share(self, writing: Writing | Seen) -> Tensor:
        """P([IMG]) in each row, (B,)."""
        return share_logit(writing.logits_BV, self.renderer.img).sigmoid()

    # --------------------------------------------------------------------------- a row's steps

    def opening(self, speaker: str = AGENT) -> Steps[Seen]:
        """As ``open_turn``."""
        return (yield Read(self.renderer.opening(speaker)))

    def closing(self, said: Sequence[int] = ()) -> Steps[Seen]:
        """As ``close_turn``."""
        form = self.renderer.form
        ends = list(form.ends[AGENT])
        lead = ends[: ends.index(form.stop)]
        if lead and list(said[-len(lead) :]) != lead:
            yield Read(lead)
        return (yield Read([*ends[len(lead) :], *form.between]))

    def text(
        self, die: torch.Generator, on_text: Callable[[str], None] | None = None
    ) -> Steps[tuple[str, Seen]]:
        """A text turn until its end, and the state as ``closing`` leaves it."""
        ids = yield Write(
            stop=self.renderer.end,
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            die=die,
            on_text=on_text,
        )
        seen = yield from self.closing(ids)
        return self.language.tokenizer.decode(ids).strip(), seen

    def caption(self) -> Steps[str]:
        """As ``write_captions``."""
        if self.renderer.span_ids:
            raise GenerationError(
                f'"{self.model.name}" announces photos by tokens without words, so it has no '
                "caption to write; use a model whose bridge reads captions"
            )
        yield Read([self.renderer.img])
        ids = yield Write(
            stop=self.renderer.close,
            temperature=self.decoding.caption_temperature,
            top_p=1.0,
            die=torch.Generator().manual_seed(0),
        )
        yield Read([self.renderer.close])
        return without_thoughts(self.language.tokenizer.decode(ids).strip())

    def span(self) -> Steps[PhotoSpans]:
        """As ``write_span``."""
        # they are known beforehand, so the LLM reads them in one go
        seen = yield Read(self.renderer.span_ids)
        ids_NK = self.language.column([list(self.renderer.span_ids)])
        return PhotoSpans(
            ids_NK=ids_NK,
            mask_NK=torch.ones_like(ids_NK).bool(),
            embeds_NKD=seen.embeds_KD[None],
            before_NKD=seen.before_KD[None],
            after_NKD=seen.after_KD[None],
            logits_NKV=self.language.head(seen.before_KD[None]).float(),
            captions=("",),
        )

    def announcement(self, words: str = "") -> Steps[PhotoSpans]:
        """As ``announce``; ``words``: the caption that is said in the model's stead."""
        renderer = self.renderer
        if not words:
            if renderer.span_ids:
                return (yield from self.span())
            return self.model.spoken_spans([(yield from self.caption())])
        yield Read(renderer.span_ids or [renderer.img, *renderer.words(words), renderer.close])
        return self.model.spoken_spans([words])

    # ---------------------------------------------------------------------------- many at once

    def run(
        self, writing: Writing, rows_B: Tensor | None, steps: Callable[[int], Steps[Made]]
    ) -> dict[int, Made]:
        """The steps of each row, or of ``rows_B`` (bool), to their end; what they made, by row."""
        rows = range(len(writing.hidden_BD)) if rows_B is None else numbers(rows_B)
        under = {b: Under(steps(b)) for b in rows}
        while going := {b: each for b, each in under.items() if not each.done}:
            self.step(writing, going)
        for each in under.values():
            if each.error is not None:
                raise each.error
        return {b: each.made for b, each in under.items()}  # type: ignore[misc]

    @torch.no_grad()
    def step(self, writing: Writing, rows: Mapping[int, Under[Any]]) -> None:
        """One step of the rows, each by its number, that want to read, see, or write: as many
        tokens as all of them have to read. The others wait."""
        self._choose_words(writing, rows)
        shown = {b: each.need.image for b, each in rows.items() if isinstance(each.need, See)}
        if shown:
            self.push_photos(writing, list(shown.values()), self._these(writing, shown))
            for b in shown:
                rows[b].go_on(None)
            return
        reading = {b: each for b, each in rows.items() if each.pending}
        if not reading:
            return
        width = min(len(each.pending) for each in reading.values())
        pad_id = self.language.tokenizer.pad_token_id
        ids_BK = self.language.column(
            [
                reading[b].pending[:width] if b in reading else [pad_id] * width
                for b in range(len(writing.hidden_BD))
            ]
        )
        before_BD = writing.hidden_BD
        embeds_BKD = self.language.embed(ids_BK)
        mask_BK = self._these(writing, reading)[:, None].expand(ids_BK.shape)
        after_BKD = self._push_embeds(writing, embeds_BKD, mask_BT=mask_BK)
        before_BKD = torch.cat([before_BD[:, None], after_BKD[:, :-1]], dim=1)
        for b, each in reading.items():
            logits_1V = writing.logits_BV[b : b + 1]
            each.has_read(embeds_BKD[b], before_BKD[b], after_BKD[b], logits_1V)

    def _these(self, writing: Writing, rows: Iterable[int]) -> Tensor:
        rows_B = ~writing.all_rows_B
        rows_B[list(rows)] = True
        return rows_B

    def _choose_words(self, writing: Writing, rows: Mapping[int, Under[Any]]) -> None:
        """The next token of each text that is being written, or its end."""
        decode, known = self.language.tokenizer.decode, len(self.language.tokenizer)
        alike: dict[tuple[int, float, float], dict[int, Write]] = {}
        for b, each in rows.items():
            if isinstance(write := each.need, Write) and not each.pending:
                if len(write.ids) >= self.decoding.max_new_tokens:
                    each.go_on(write.ids)
                    continue
                alike.setdefault((write.stop, write.temperature, write.top_p), {})[b] = write
        for (stop, temperature, top_p), writes in alike.items():
            ends_turn = stop == self.renderer.end
            least = max(1, self.decoding.min_new_tokens if ends_turn else 1)
            stops = {stop, *(self.language.end_ids if ends_turn else ())}
            logits_BV = writing.logits_BV.clone()
            logits_BV[:, list(self.renderer.special - stops)] = -torch.inf
            logits_BV[:, known:] = -torch.inf  # rows that stand for no token
            early = [b for b, write in writes.items() if len(write.ids) < least]
            logits_BV[torch.tensor(early, dtype=torch.long)[:, None], list(stops)] = -torch.inf
            chosen_B = self._choose(
                logits_BV,
                self._these(writing, writes),
                temperature=temperature,
                top_p=top_p,
                generators={b: write.die for b, write in writes.items()},
            ).tolist()
            for b, write in writes.items():
                if chosen_B[b] in stops:
                    rows[b].go_on(write.ids)
                    continue
                rows[b].writes(chosen_B[b])
                if write.on_text is None:
                    continue
                text = decode(write.ids)
                if not text.endswith("\ufffd"):  # its last bytes are not all here yet
                    piece, write.said = text[len(write.said) :], text
                    try:
                        write.on_text(piece if len(write.ids) > 1 else piece.lstrip())
                    except BaseException as error:  # nobody listens
                        rows[b].fail(error)

    # ---------------------------------------------------------------------------------- writing

    def write_texts(
        self,
        writing: Writing,
        *,
        generators: Sequence[torch.Generator],
        rows_B: Tensor | None = None,
    ) -> list[str]:
        """Sample a text turn until its end in each row, or in those of ``rows_B`` (bool; "" for the
        others); the state is as ``close_turn`` leaves it."""
        said = self.run(writing, rows_B, lambda b: self.text(generators[b]))
        return [said[b][0] if b in said else "" for b in range(len(generators))]

    def write_captions(self, writing: Writing, *, rows_B: Tensor | None = None) -> list[str]:
        """The words between [IMG] and [/IMG] in each row, or in those of ``rows_B`` (bool; "" for
        the others); the state ends after [/IMG].

        Raises GenerationError where the bridge has its own tokens: there are no words then.
        """
        said = self.run(writing, rows_B, lambda b: self.caption())
        return [said.get(b, "") for b in range(len(writing.hidden_BD))]

    def write_span(self, writing: Writing, *, rows_B: Tensor | None = None) -> PhotoSpans:
        """The bridge's own tokens, said one after the other: the first forces the rest.

        One span for each row, or for those of ``rows_B`` (bool); the state ends after the last
        token.
        """
        return together(list(self.run(writing, rows_B, lambda b: self.span()).values()))

    @torch.no_grad()
    def announce(self, writing: Writing, *, rows_B: Tensor | None = None) -> PhotoSpans:
        """A photo announced in each row, or in those of ``rows_B`` (bool), in the bridge's way:
        by its tokens, whose captions are "", or by a caption of the LLM's own."""
        if self.renderer.span_ids:
            return self.write_span(writing, rows_B=rows_B)
        captions = self.run(writing, rows_B, lambda b: self.caption())
        return self.model.spoken_spans(list(captions.values()))

    def _choose(
        self,
        logits_BV: Tensor,
        rows_B: Tensor,
        *,
        temperature: float,
        top_p: float,
        generators: Mapping[int, torch.Generator],
    ) -> Tensor:
        """A token for each of ``rows_B``, each by its own generator; anything for the others."""
        chosen_B = logits_BV.argmax(-1)
        if temperature == 0:
            return chosen_B
        p_BV = (logits_BV / temperature).softmax(-1)
        if not bool(torch.isfinite(p_BV[rows_B]).all()):
            raise GenerationError(
                f'"{self.model.name}" gave logits that are not numbers; its weights are '
                "damaged; copy or train it again"
            )
        p_BT, order_BT = _nucleus(p_BV, rows_B, top_p=top_p)
        for b in numbers(rows_B):
            # torch.multinomial's own draw: with a number for every token, the same whatever T is
            dice_V = torch.empty(p_BV.shape[1], dtype=p_BT.dtype)
            dice_V.exponential_(generator=generators[b])
            chosen_B[b] = order_BT[b, int((p_BT[b] / dice_V[: p_BT.shape[1]]).argmax())]
        return chosen_B


def _nucleus(p_BV: Tensor, rows_B: Tensor, *, top_p: float) -> tuple[Tensor, Tensor]:
    """The likeliest T tokens of each row, those outside of ``top_p`` at 0, and which tokens they
    are: (B, T) on the CPU, where the dice are. T is all of the vocabulary only where it must be."""
    for count in (min(NUCLEUS, p_BV.shape[1]), p_BV.shape[1]):
        p_BT, order_BT = p_BV.topk(count) if count < p_BV.shape[1] else p_BV.sort(descending=True)
        before_BT = p_BT.cumsum(-1) - p_BT
        if bool((before_BT[rows_B, -1] > top_p).all()):
            break
    return p_BT.masked_fill(before_BT > top_p, 0).cpu(), order_BT.cpu()


def numbers(rows_B: Tensor) -> list[int]:
    """The numbers of the rows that are True."""
    return rows_B.nonzero()[:, 0].tolist()


def together(spans: Sequence[PhotoSpans]) -> PhotoSpans:
    """Spans of equally many tokens as one."""
    tensors = [key for key, value in vars(spans[0]).items() if isinstance(value, Tensor)]
    stacked_N = {key: torch.cat([getattr(each, key) for each in spans]) for key in tensors}
    captions = tuple(caption for each in spans for caption in each.captions)
    return PhotoSpans(captions=captions, **stacked_N)
