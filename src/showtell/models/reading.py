"""Reading: what the LLM reads, B dialogues at once, each with its own photos.

Rows are of several lengths, and wait for each other: a row that has nothing to read meanwhile reads
padding, which a mask hides from then on. So a row stands where it would stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import stacked, to_pixels
from showtell.dialogue import Photo, Turn
from showtell.models.cross_attention import AttendedPhotos, seen_on
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.writing import Cache, Writing, joined
from showtell.prompt import Rendered, Renderer

Images = Mapping[str, Image.Image]  # of a dialogue's photos, by their ids


class Reading:
    """A model with the settings it writes by; its own, unless others are given."""

    def __init__(
        self,
        model: PhotoDialogueModel,
        *,
        decoding: Decoding | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self.model = model
        self.language = model.language
        self.decoding = decoding or model.decoding
        self.renderer = renderer or model.renderer

    @torch.no_grad()
    def read_all(
        self, contexts: Sequence[Sequence[Turn]], images: Sequence[Images]
    ) -> tuple[Writing, list[int]]:
        """The LLM's state after each context, and how many of its oldest turns did not fit."""
        if self.model.photo_encoder is None:
            images = [{} for _ in contexts]
        rows = [
            self.renderer.render_turns(turns, has_pixels=partial(_is_there, own))
            for turns, own in zip(contexts, images, strict=True)
        ]
        for row in rows:
            row.put(self.renderer.form.between, label=False)
        groups = _alike([len(row.ids) for row in rows])
        parts = [
            (group, self._read_rows([rows[n] for n in group], [images[n] for n in group]))
            for group in groups
        ]
        writing = joined(parts) if len(parts) > 1 else parts[0][1]
        return writing, [row.dropped_turns for row in rows]

    def _read_rows(self, rows: Sequence[Rendered], images: Sequence[Images]) -> Writing:
        """Dialogues of about the same length, padded on the left to the longest."""
        num_rows, length = len(rows), max(len(row.ids) for row in rows)
        pads = [length - len(row.ids) for row in rows]
        pad_id = self.language.tokenizer.pad_token_id
        column = self.language.column
        ids_BT = column([[pad_id] * pad + row.ids for pad, row in zip(pads, rows, strict=True)])
        seen = [(b, place) for b, row in enumerate(rows) for place in row.seen]
        embeds_BTD, photos = self.language.embed(ids_BT), None
        if seen:
            embeds_BTD, photos = self.model.put_photos(
                embeds_BTD,
                self._perceive([images[b][place.photo.id] for b, place in seen]),
                row_P=column([b for b, _ in seen]),
                start_P=column([pads[b] + place.start for b, place in seen]),
            )
        cache: Cache = self.language.new_cache(num_rows)
        if not self.language.hides_padding:
            cache = [self.language.new_cache() for _ in rows]
        writing = Writing(
            cache=cache,
            mask_BT=ids_BT.new_zeros((num_rows, 0), dtype=torch.bool),
            hidden_BD=embeds_BTD[:, -1],
            logits_BV=embeds_BTD.new_empty((num_rows, 0), dtype=torch.float32),
        )
        mask_BT = torch.arange(length, device=ids_BT.device) >= column(pads)[:, None]
        self._push_embeds(writing, embeds_BTD, mask_BT=mask_BT, photos=photos)
        return writing

    @torch.no_grad()
    def push_photos(self, writing: Writing, shown: Sequence[Image.Image], rows_B: Tensor) -> None:
        """The photos that ``rows_B`` have shared, one each, as they see them from now on."""
        num_tokens = self.renderer.config.num_photo_tokens
        ids_BQ = self.language.column([[self.renderer.photo] * num_tokens] * len(rows_B))
        embeds_BQD = self.language.embed(ids_BQ)
        row_P = rows_B.nonzero()[:, 0]
        embeds_BQD, photos = self.model.put_photos(
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
        if isinstance(writing.cache, list):
            states_BTD = torch.zeros_like(embeds_BTD)
            for b, cache in enumerate(writing.cache):
                real_T = mask_BT[b]
                if bool(real_T.any()):
                    row_1TD = embeds_BTD[b : b + 1, real_T]
                    states_BTD[b, real_T] = self.language.hidden(row_1TD, None, cache=cache)
        else:
            padded = not bool(writing.mask_BT.all())
            positions_BT = (read_B[:, None] + mask_BT.cumsum(1) - 1).clamp_min(0)
            states_BTD = self.language.hidden(
                embeds_BTD,
                writing.mask_BT if padded else None,
                positions_BT if padded else None,
                photos=photos,
                cache=writing.cache,
            )
        real_B = mask_BT[:, -1:]
        writing.hidden_BD = states_BTD[:, -1].where(real_B, writing.hidden_BD)
        writing.logits_BV = self.language.head(writing.hidden_BD).float()
        return states_BTD

    def _perceive(self, shown: Sequence[Image.Image]) -> Tensor:
        """Photos of any size, as the photo encoder looks at them."""
        encoder = self.model.photo_encoder
        assert encoder is not None
        return encoder(stacked([to_pixels(encoder.look(each)) for each in shown]))


def _is_there(images: Images, photo: Photo) -> bool:
    return photo.id in images


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of dialogues to read together: little of what is read is padding. Each group keeps
    the order of the dialogues."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if not groups or lengths[number] < 0.7 * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(number)
    return [sorted(group) for group in groups]
