"""What the LLM writes, B dialogues at once: texts, captions, the bridge's own tokens.

A row that has nothing to say while others do reads padding, which a mask hides from then on, and so
is what makes up for several lengths. So a row's words are what it would say alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from showtell.dialogue import AGENT, Turn
from showtell.errors import GenerationError
from showtell.models.cache_rows import joined, taken
from showtell.models.cross_attention import AttendedPhotos, attended_photos, seen_on
from showtell.models.language_model import LanguageModel
from showtell.models.parts import Perceptron, PhotoSpans
from showtell.models.pixels import to_pixels
from showtell.prompt import Rendered, Renderer

if TYPE_CHECKING:
    from showtell.models.answering import Decoding

ToldRow = Callable[[int, str], None]


@dataclass(kw_only=True)
class Writing:
    """B responses under way: the cache, each row's last state and its logits."""

    cache: Any
    mask_BT: Tensor  # bool: the real tokens of those read
    hidden_BD: Tensor
    logits_BV: Tensor
    slots_BS: Tensor | None = None  # bool: the photos' slots in cross-attention layers, if any

    @property
    def hidden_D(self) -> Tensor:
        """Of the first row."""
        return self.hidden_BD[0]

    @property
    def logits_V(self) -> Tensor:
        """Of the first row."""
        return self.logits_BV[0]

    @property
    def all_rows_B(self) -> Tensor:
        return self.hidden_BD.new_ones(len(self.hidden_BD), dtype=torch.bool)

    def take(self, rows_N: Tensor) -> Writing:
        """Some of the rows, by number."""
        return Writing(
            cache=taken(self.cache, rows_N),
            mask_BT=self.mask_BT[rows_N],
            hidden_BD=self.hidden_BD[rows_N],
            logits_BV=self.logits_BV[rows_N],
            slots_BS=None if self.slots_BS is None else self.slots_BS[rows_N],
        )

    def become(self, parts: Sequence[tuple[Sequence[int], Writing]]) -> None:
        """Put the rows of parts together; each comes with the numbers that its rows have here."""
        writings = [part for _, part in parts]
        counts = [len(numbers) for numbers, _ in parts]
        order = [number for numbers, _ in parts for number in numbers]
        order_B = torch.tensor(order, device=self.hidden_BD.device).argsort()
        slots = [part.slots_BS for part in writings]
        if any(each is not None for each in slots):
            none = [self.mask_BT.new_zeros((count, 0)) for count in counts]
            slots_BS = _stacked(
                [a if a is not None else b for a, b in zip(slots, none, strict=True)]
            )
            self.slots_BS = slots_BS[order_B]
        self.cache = taken(joined([part.cache for part in writings], counts), order_B)
        self.mask_BT = _stacked([part.mask_BT for part in writings])[order_B]
        self.hidden_BD = torch.cat([part.hidden_BD for part in writings])[order_B]
        self.logits_BV = torch.cat([part.logits_BV for part in writings])[order_B]


class Writer(nn.Module):
    """The part of ``PhotoDialogueModel`` that reads and writes."""

    language: LanguageModel
    perceptron: Perceptron | None
    renderer: Renderer
    decoding: Decoding
    name: str

    @property
    def device(self) -> torch.device:
        return self.language.device

    def _column(self, values: Sequence[int] | Sequence[list[int]]) -> Tensor:
        """Numbers where the LLM is."""
        return torch.tensor(values, dtype=torch.long, device=self.device)

    # -------------------------------------------------------------------------------- reading

    def read(
        self, turns: tuple[Turn, ...], images: Mapping[str, Image.Image]
    ) -> tuple[Writing, int]:
        """The LLM's state after the turns, and how many of the oldest did not fit."""
        writing, dropped = self.read_all([turns], [images])
        return writing, dropped[0]

    @torch.no_grad()
    def read_all(
        self,
        contexts: Sequence[tuple[Turn, ...]],
        images: Sequence[Mapping[str, Image.Image]],
    ) -> tuple[Writing, list[int]]:
        """The same for B dialogues, each with the images of its own photos by id."""
        rows = [
            self.renderer.render_turns(
                turns,
                has_pixels=lambda photo, own=own: photo.id in own and self.perceptron is not None,  # type: ignore[misc]
            )
            for turns, own in zip(contexts, images, strict=True)
        ]
        groups = _alike([len(row.ids) for row in rows])
        parts = [
            (group, self._read_rows([rows[n] for n in group], [images[n] for n in group]))
            for group in groups
        ]
        writing = parts[0][1]
        if len(parts) > 1:
            writing.become(parts)
        return writing, [row.dropped_turns for row in rows]

    def _read_rows(
        self, rows: Sequence[Rendered], images: Sequence[Mapping[str, Image.Image]]
    ) -> Writing:
        """Dialogues of about the same length, padded on the left to the longest."""
        num_rows, length = len(rows), max(len(row.ids) for row in rows)
        pads = [length - len(row.ids) for row in rows]
        pad_id = self.language.tokenizer.pad_token_id
        ids_BT = self._column(
            [[pad_id] * pad + row.ids for pad, row in zip(pads, rows, strict=True)]
        )
        seen = [(b, place) for b, row in enumerate(rows) for place in row.seen]
        embeds_BTD, photos = self.language.embed(ids_BT), None
        if seen:
            embeds_BTD, photos = self.put_photos(
                embeds_BTD,
                self._perceive([images[b][place.photo.id] for b, place in seen]),
                row_P=self._column([b for b, _ in seen]),
                start_P=self._column([pads[b] + place.start for b, place in seen]),
            )
        writing = Writing(
            cache=self.language.new_cache(num_rows),
            mask_BT=ids_BT.new_zeros((num_rows, 0), dtype=torch.bool),
            hidden_BD=embeds_BTD[:, -1],
            logits_BV=embeds_BTD.new_empty((num_rows, 0), dtype=torch.float32),
        )
        mask_BT = torch.arange(length, device=ids_BT.device) >= self._column(pads)[:, None]
        self._push_embeds(writing, embeds_BTD, mask_BT=mask_BT, photos=photos)
        return writing

    def put_photos(
        self, embeds_BTD: Tensor, seen_PQD: Tensor, *, row_P: Tensor, start_P: Tensor
    ) -> tuple[Tensor, AttendedPhotos | None]:
        """Photos where the LLM sees them: in their places, or beside the text for its
        cross-attention layers."""
        seen_PQD = seen_PQD.to(embeds_BTD.dtype)
        if self.perceptron is not None and self.perceptron.attended:
            shape = (embeds_BTD.shape[0], embeds_BTD.shape[1])
            return embeds_BTD, attended_photos(seen_PQD, row_P=row_P, start_P=start_P, shape=shape)
        offsets_Q = torch.arange(seen_PQD.shape[1], device=seen_PQD.device)
        places = (row_P[:, None], start_P[:, None] + offsets_Q)
        return embeds_BTD.index_put(places, seen_PQD), None

    def open_turn(self, writing: Writing, rows_B: Tensor | None = None) -> None:
        """It is the agent's turn; the next logits say [IMG] or a word."""
        self._push(writing, [self.renderer.roles[AGENT]], rows_B)

    def p_share(self, writing: Writing) -> Tensor:
        """P([IMG]) in each row, (B,)."""
        return share_logit(writing.logits_BV, self.renderer.img).sigmoid()

    # -------------------------------------------------------------------------------- writing

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

    # ------------------------------------------------------------------------- below the words

    def _push(
        self, writing: Writing, ids: Sequence[int], rows_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read the same tokens in each of ``rows_B``; the tokens' embeddings and states."""
        rows_B = writing.all_rows_B if rows_B is None else rows_B
        return self._push_ids(writing, self._column([list(ids)] * len(rows_B)), rows_B)

    def _push_ids(self, writing: Writing, ids_BT: Tensor, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        embeds_BTD = self.language.embed(ids_BT)
        mask_BT = rows_B[:, None].expand(ids_BT.shape)
        return embeds_BTD, self._push_embeds(writing, embeds_BTD, mask_BT=mask_BT)

    def _push_photos(self, writing: Writing, shown: Sequence[Image.Image], rows_B: Tensor) -> None:
        """The photos that ``rows_B`` have shared, one each, as they see them from now on."""
        num_tokens = self.renderer.config.num_photo_tokens
        ids_BQ = self._column([[self.renderer.photo] * num_tokens] * len(rows_B))
        embeds_BQD = self.language.embed(ids_BQ)
        row_P = rows_B.nonzero()[:, 0]
        embeds_BQD, photos = self.put_photos(
            embeds_BQD, self._perceive(shown), row_P=row_P, start_P=torch.zeros_like(row_P)
        )
        mask_BQ = rows_B[:, None].expand(ids_BQ.shape)
        self._push_embeds(writing, embeds_BQD, mask_BT=mask_BQ, photos=photos)

    @torch.no_grad()
    def _push_embeds(
        self,
        writing: Writing,
        embeds_BTD: Tensor,
        *,
        mask_BT: Tensor,
        photos: AttendedPhotos | None = None,
    ) -> Tensor:
        """Read on; the states (B, T, D). A row whose mask ends with False keeps its own."""
        read_B = writing.mask_BT.sum(1)
        writing.mask_BT = torch.cat([writing.mask_BT, mask_BT], dim=1)
        if writing.slots_BS is not None or photos is not None:
            photos, writing.slots_BS = seen_on(writing.slots_BS, photos, length=mask_BT.shape[1])
        padded = not bool(writing.mask_BT.all())
        states_BTD = self.language.read(
            embeds_BTD,
            writing.cache,
            mask_BT=writing.mask_BT if padded else None,
            positions_BT=(read_B[:, None] + mask_BT.cumsum(1) - 1).clamp_min(0) if padded else None,
            photos=photos,
        )
        real_B = mask_BT[:, -1:]
        writing.hidden_BD = states_BTD[:, -1].where(real_B, writing.hidden_BD)
        writing.logits_BV = self.language.head(writing.hidden_BD).float()
        return states_BTD

    def _perceive(self, shown: Sequence[Image.Image]) -> Tensor:
        assert self.perceptron is not None
        pixels = [to_pixels(image) for image in shown]
        if len({each.shape for each in pixels}) == 1:
            return self.perceptron(torch.stack(pixels))
        return torch.cat([self.perceptron(each[None]) for each in pixels])


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """Boolean rows of several lengths, one below the other; False on the right."""
    length = max(each.shape[1] for each in rows)
    return torch.cat([F.pad(each, (0, length - each.shape[1])) for each in rows])


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of dialogues to read together: little of what is read is padding."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if not groups or lengths[number] < 0.7 * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(number)
    return groups


def share_logit(logits_MV: Tensor, img: int) -> Tensor:
    """log P([IMG]) - log(1 - P([IMG])) for each row of logits."""
    others = torch.cat([logits_MV[:, :img], logits_MV[:, img + 1 :]], dim=1)
    return logits_MV[:, img] - others.logsumexp(-1)


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
