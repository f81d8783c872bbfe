"""What the LLM writes, B dialogues at once: texts, captions, the bridge's own tokens.

Rows end at different words, and wait for the others; a row's words are what it would say alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from showtell.dialogue import Turn
from showtell.errors import GenerationError
from showtell.models.parts import PhotoSpans
from showtell.models.reading import Reader, Writing

if TYPE_CHECKING:
    from showtell.models.respond import Decoding

ToldRow = Callable[[int, str], None]


class Writer(Reader):
    """The part of ``PhotoDialogueModel`` that writes."""

    decoding: Decoding
    name: str

    def write_text(
        self,
        writing: Writing,
        *,
        generator: torch.Generator,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """Sample a text turn until <|end|>; the state ends after it."""
        on_row = (lambda row, piece: on_text(piece)) if on_text else None
        return self.write_texts(writing, generators=[generator], on_text=on_row)[0]

    @torch.no_grad()
    def write_texts(
        self,
        writing: Writing,
        *,
        generators: Sequence[torch.Generator],
        rows_B: Tensor | None = None,
        on_text: ToldRow | None = None,
    ) -> list[str]:
        """The same for each row, or for those of ``rows_B`` (bool; "" for the others)."""
        settings = self.decoding
        return self._write(
            writing,
            stop=self.renderer.end,
            temperature=settings.temperature,
            top_p=settings.top_p,
            generators=generators,
            rows_B=rows_B,
            on_text=on_text,
        )

    def write_caption(self, writing: Writing) -> str:
        """The words between [IMG] and [/IMG]; the state ends after [/IMG].

        Raises GenerationError where the bridge has its own tokens: there are no words then.
        """
        return self.write_captions(writing)[0]

    @torch.no_grad()
    def write_captions(self, writing: Writing, *, rows_B: Tensor | None = None) -> list[str]:
        """The same for each row, or for those of ``rows_B`` (bool; "" for the others)."""
        if self.renderer.span_ids:
            raise GenerationError(
                f'"{self.name}" announces photos by tokens without words, so it has no caption to '
                "write; use a model whose bridge reads captions"
            )
        self._push(writing, [self.renderer.img], rows_B)
        return self._write(
            writing,
            stop=self.renderer.close,
            temperature=self.decoding.caption_temperature,
            top_p=1.0,
            generators=[torch.Generator().manual_seed(0) for _ in writing.hidden_BD],
            rows_B=rows_B,
        )

    @torch.no_grad()
    def write_span(self, writing: Writing, *, rows_B: Tensor | None = None) -> PhotoSpans:
        """The bridge's own tokens, said one after the other: the first forces the rest.

        One span for each row, or for those of ``rows_B`` (bool); the state ends after the last
        token.
        """
        rows_B = writing.all_rows_B if rows_B is None else rows_B
        before_BD = writing.hidden_BD
        # they are known beforehand, so the LLM reads them in one go
        embeds_BKD, after_BKD = self._push(writing, list(self.renderer.span_ids), rows_B)
        before_BKD = torch.cat([before_BD[:, None], after_BKD[:, :-1]], dim=1)
        ids_NK = self._column([list(self.renderer.span_ids)] * int(rows_B.sum()))
        return PhotoSpans(
            ids_NK=ids_NK,
            mask_NK=torch.ones_like(ids_NK).bool(),
            embeds_NKD=embeds_BKD[rows_B],
            before_NKD=before_BKD[rows_B],
            after_NKD=after_BKD[rows_B],
            logits_NKV=self.language.head(before_BKD[rows_B]).float(),
            captions=("",) * len(ids_NK),
        )

    @torch.no_grad()
    def _write(
        self,
        writing: Writing,
        *,
        stop: int,
        temperature: float,
        top_p: float,
        generators: Sequence[torch.Generator],
        rows_B: Tensor | None = None,
        on_text: ToldRow | None = None,
    ) -> list[str]:
        """Words, one at least, until ``stop``, in each row; the state ends after it.

        Rows that are done wait in ``parts``, so that the LLM runs for those which go on.
        """
        rows_B = writing.all_rows_B if rows_B is None else rows_B
        banned = list(self.renderer.special - {stop})
        decode, pad_id = self.language.tokenizer.decode, self.language.tokenizer.pad_token_id
        ids: list[list[int]] = [[] for _ in generators]
        said = [""] * len(ids)
        parts: list[tuple[list[int], Writing]] = []
        now, going_B = writing, rows_B.clone()
        numbers = list(range(len(ids)))  # of the rows in ``now``
        for count in range(self.decoding.max_new_tokens):
            logits_BV = now.logits_BV.clone()
            logits_BV[:, banned] = -torch.inf
            if count == 0:
                logits_BV[:, stop] = -torch.inf
            chosen_B = self._choose(
                logits_BV,
                going_B,
                temperature=temperature,
                top_p=top_p,
                generators=[generators[number] for number in numbers],
            )
            going_B = going_B & (chosen_B != stop)
            if not bool(going_B.any()):
                break
            if 2 * int(going_B.sum()) <= len(numbers):
                rest_N, going_N = ((~going_B).nonzero()[:, 0], going_B.nonzero()[:, 0])
                parts.append(([numbers[n] for n in rest_N], now.take(rest_N)))
                now, numbers = now.take(going_N), [numbers[n] for n in going_N]
                chosen_B, going_B = chosen_B[going_N], going_B[going_N]
            for n in going_B.nonzero()[:, 0].tolist():
                b = numbers[n]
                ids[b].append(int(chosen_B[n]))
                text = decode(ids[b]) if on_text else "\ufffd"
                if on_text and not text.endswith("\ufffd"):  # its last bytes are not all here yet
                    piece, said[b] = text[len(said[b]) :], text
                    on_text(b, piece if len(ids[b]) > 1 else piece.lstrip())
            tokens_B = chosen_B.masked_fill(~going_B, pad_id)
            self._push_ids(now, tokens_B[:, None], going_B)
        if parts:
            writing.become([*parts, (numbers, now)])
        self._push(writing, [stop], rows_B)
        return [decode(row).strip() for row in ids]

    def _choose(
        self,
        logits_BV: Tensor,
        rows_B: Tensor,
        *,
        temperature: float,
        top_p: float,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """A token for each of ``rows_B``, each by its own generator; anything for the others."""
        chosen_B = logits_BV.argmax(-1)
        if temperature == 0:
            return chosen_B
        p_BV, order_BV = (logits_BV / temperature).softmax(-1).sort(descending=True)
        p_BV = p_BV.masked_fill(p_BV.cumsum(-1) - p_BV > top_p, 0).cpu()  # where the dice are
        for b in rows_B.nonzero()[:, 0].tolist():
            if not bool(torch.isfinite(p_BV[b]).all()):
                raise GenerationError(
                    f'"{self.name}" gave logits that are not numbers; its weights are damaged; '
                    "copy or train it again"
                )
            place = torch.multinomial(p_BV[b], 1, generator=generators[b])
            chosen_B[b] = order_BV[b, int(place)]
        return chosen_B


def write_texts(
    model: Writer,
    contexts: Sequence[tuple[Turn, ...]],
    images: Sequence[Mapping[str, Image.Image]],
    seeds: Sequence[int],
) -> list[str]:
    """The agent's next text turn in each dialogue, whether or not it would rather share a photo.

    What ``read``, ``open_turn`` and ``write_text`` write one by one with a generator of each seed.
    """
    writing, _ = model.read_all(contexts, images)
    model.open_turn(writing)
    return model.write_texts(
        writing, generators=[torch.Generator().manual_seed(seed) for seed in seeds]
    )
