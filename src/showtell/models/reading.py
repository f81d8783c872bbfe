"""What the LLM reads, B dialogues at once, each with its photos; and where it then stands.

A row that has nothing to read while others do reads padding, which a mask hides from then on, and
so is what makes up for several lengths. So a row stands where it would stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from showtell.dialogue import AGENT, Turn
from showtell.models.cache_rows import joined, taken
from showtell.models.cross_attention import AttendedPhotos, attended_photos, seen_on
from showtell.models.language import LanguageModel
from showtell.models.parts import PhotoEncoder
from showtell.models.pixels import to_pixels
from showtell.prompt import Rendered, Renderer


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


class Reader(nn.Module):
    """The part of ``PhotoDialogueModel`` that reads."""

    language: LanguageModel
    photo_encoder: PhotoEncoder | None
    renderer: Renderer

    @property
    def device(self) -> torch.device:
        return self.language.device

    def _column(self, values: Sequence[int] | Sequence[list[int]]) -> Tensor:
        """Numbers where the LLM is."""
        return torch.tensor(values, dtype=torch.long, device=self.device)

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
                has_pixels=lambda photo, own=own: (
                    photo.id in own and self.photo_encoder is not None
                ),  # type: ignore[misc]
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
        if self.photo_encoder is not None and self.photo_encoder.attended:
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

    # ------------------------------------------------------------------------- below the turns

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
        assert self.photo_encoder is not None
        pixels = [to_pixels(image) for image in shown]
        if len({each.shape for each in pixels}) == 1:
            return self.photo_encoder(torch.stack(pixels))
        return torch.cat([self.photo_encoder(each[None]) for each in pixels])


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """Boolean rows of several lengths, one below the other; False on the right."""
    length = max(each.shape[1] for each in rows)
    return torch.cat([F.pad(each, (0, length - each.shape[1])) for each in rows])


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of dialogues to read together: little of what is read is padding. Each group keeps
    the order of the dialogues."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if not groups or lengths[number] < 0.7 * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(number)
    return [sorted(group) for group in groups]


def share_logit(logits_MV: Tensor, img: int) -> Tensor:
    """log P([IMG]) - log(1 - P([IMG])) for each row of logits."""
    others = torch.cat([logits_MV[:, :img], logits_MV[:, img + 1 :]], dim=1)
    return logits_MV[:, img] - others.logsumexp(-1)
