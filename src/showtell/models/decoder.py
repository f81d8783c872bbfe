"""Decoder: what the LLM reads and writes, B dialogues at once, each with its own photos.

Rows end at different words, and wait for the others: a row that has nothing to read meanwhile reads
padding, which a mask hides from then on, and so is what makes up for several lengths. So a row
stands where it would stand alone, and says what it would say alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import stacked, to_pixels
from showtell.dialogue import AGENT, Photo, Turn
from showtell.errors import GenerationError
from showtell.models.cross_attention import AttendedPhotos, seen_on
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel, share_logit
from showtell.models.parts import PhotoSpans
from showtell.models.writing import Cache, Writing, joined
from showtell.prompt import Rendered, Renderer

ToldRow = Callable[[int, str], None]
Images = Mapping[str, Image.Image]  # of a dialogue's photos, by their ids


class Decoder:
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

    # ---------------------------------------------------------------------------------- reading

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

    def open_turn(
        self,
        writing: Writing,
        rows_B: Tensor | None = None,
        *,
        speakers: Sequence[str] | None = None,
    ) -> None:
        """It is the agent's turn, or that of each row's speaker; the next logits say [IMG] or a
        word."""
        rows_B = writing.all_rows_B if rows_B is None else rows_B
        said = speakers or [AGENT] * len(rows_B)
        opened = {each: self.renderer.opening(each) for each in said}
        if len(set(map(len, opened.values()))) == 1:
            ids_BT = self.language.column([opened[each] for each in said])
            self._push_ids(writing, ids_BT, rows_B)
            return
        for speaker, ids in opened.items():  # each as long as it is
            theirs_B = torch.tensor([each == speaker for each in said], device=rows_B.device)
            self.push(writing, ids, rows_B & theirs_B)

    def close_turn(
        self,
        writing: Writing,
        rows_B: Tensor | None = None,
        *,
        said: Sequence[list[int]] | None = None,
    ) -> None:
        """The agent's turn is over; the next logits say whose turn it is (``renderer.roles``).
        ``said``: the tokens of each row, which may hold the space before the end (Llama 2)."""
        form = self.renderer.form
        rows_B = writing.all_rows_B if rows_B is None else rows_B
        ends = list(form.ends[AGENT])
        lead = ends[: ends.index(form.stop)]
        if lead:
            led = [row[-len(lead) :] == lead for row in said or [[]] * len(rows_B)]
            self.push(writing, lead, rows_B & ~self.language.column(led).bool())
        self.push(writing, [*ends[len(lead) :], *form.between], rows_B)

    def p_share(self, writing: Writing) -> Tensor:
        """P([IMG]) in each row, (B,)."""
        return share_logit(writing.logits_BV, self.renderer.img).sigmoid()

    def push(
        self, writing: Writing, ids: Sequence[int], rows_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read the same tokens in each of ``rows_B``; the tokens' embeddings and states."""
        rows_B = writing.all_rows_B if rows_B is None else rows_B
        return self._push_ids(writing, self.language.column([list(ids)] * len(rows_B)), rows_B)

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

    def _push_ids(self, writing: Writing, ids_BT: Tensor, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        embeds_BTD = self.language.embed(ids_BT)
        mask_BT = rows_B[:, None].expand(ids_BT.shape)
        return embeds_BTD, self._push_embeds(writing, embeds_BTD, mask_BT=mask_BT)

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

    # ---------------------------------------------------------------------------------- writing

    @torch.no_grad()
    def write_texts(
        self,
        writing: Writing,
        *,
        generators: Sequence[torch.Generator],
        rows_B: Tensor | None = None,
        on_text: ToldRow | None = None,
    ) -> list[str]:
        """Sample a text turn until its end in each row, or in those of ``rows_B`` (bool; "" for the
        others); the state is as ``close_turn`` leaves it. ``on_text`` hears a row's number with
        each piece."""
        return self._write(
            writing,
            stop=self.renderer.end,
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            generators=generators,
            rows_B=rows_B,
            on_text=on_text,
        )

    @torch.no_grad()
    def write_captions(self, writing: Writing, *, rows_B: Tensor | None = None) -> list[str]:
        """The words between [IMG] and [/IMG] in each row, or in those of ``rows_B`` (bool; "" for
        the others); the state ends after [/IMG].

        Raises GenerationError where the bridge has its own tokens: there are no words then.
        """
        if self.renderer.span_ids:
            raise GenerationError(
                f'"{self.model.name}" announces photos by tokens without words, so it has no '
                "caption to write; use a model whose bridge reads captions"
            )
        self.push(writing, [self.renderer.img], rows_B)
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
        embeds_BKD, after_BKD = self.push(writing, self.renderer.span_ids, rows_B)
        before_BKD = torch.cat([before_BD[:, None], after_BKD[:, :-1]], dim=1)
        ids_NK = self.language.column([list(self.renderer.span_ids)] * int(rows_B.sum()))
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
    def announce(self, writing: Writing, *, rows_B: Tensor | None = None) -> PhotoSpans:
        """A photo announced in each row, or in those of ``rows_B`` (bool), in the bridge's way:
        by its tokens, whose captions are "", or by a caption of the LLM's own."""
        if self.renderer.span_ids:
            return self.write_span(writing, rows_B=rows_B)
        chosen_B = writing.all_rows_B if rows_B is None else rows_B
        captions = self.write_captions(writing, rows_B=rows_B)
        return self.model.spoken_spans([captions[b] for b in numbers(chosen_B)])

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
        """Words, one at least, until ``stop``, in each row; the state ends after it."""
        least = self.decoding.min_new_tokens if stop == self.renderer.end else 1
        rows_B = writing.all_rows_B if rows_B is None else rows_B
        stops = {stop, *(self.language.end_ids if stop == self.renderer.end else ())}
        banned, stops_S = list(self.renderer.special - stops), self.language.column(list(stops))
        tokenizer = self.language.tokenizer
        decode, pad_id, known = tokenizer.decode, tokenizer.pad_token_id, len(tokenizer)
        ids: list[list[int]] = [[] for _ in generators]
        said, going_B = [""] * len(ids), rows_B
        for count in range(self.decoding.max_new_tokens):
            logits_BV = writing.logits_BV.clone()
            logits_BV[:, banned] = -torch.inf
            logits_BV[:, known:] = -torch.inf  # rows that stand for no token
            if count < max(1, least):
                logits_BV[:, list(stops)] = -torch.inf
            chosen_B = self._choose(
                logits_BV, going_B, temperature=temperature, top_p=top_p, generators=generators
            )
            going_B = going_B & ~torch.isin(chosen_B, stops_S)
            if not bool(going_B.any()):
                break
            for b in numbers(going_B):
                ids[b].append(int(chosen_B[b]))
                text = decode(ids[b]) if on_text else "\ufffd"
                if on_text and not text.endswith("\ufffd"):  # its last bytes are not all here yet
                    piece, said[b] = text[len(said[b]) :], text
                    on_text(b, piece if len(ids[b]) > 1 else piece.lstrip())
            tokens_B = chosen_B.masked_fill(~going_B, pad_id)
            self._push_ids(writing, tokens_B[:, None], going_B)
        if stop == self.renderer.end:
            self.close_turn(writing, rows_B, said=ids)
        else:
            self.push(writing, [stop], rows_B)
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
        for b in numbers(rows_B):
            if not bool(torch.isfinite(p_BV[b]).all()):
                raise GenerationError(
                    f'"{self.model.name}" gave logits that are not numbers; its weights are '
                    "damaged; copy or train it again"
                )
            place = torch.multinomial(p_BV[b], 1, generator=generators[b])
            chosen_B[b] = order_BV[b, int(place)]
        return chosen_B


def numbers(rows_B: Tensor) -> list[int]:
    """The numbers of the rows that are True."""
    return rows_B.nonzero()[:, 0].tolist()


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
