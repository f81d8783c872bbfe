"""Gold dialogues read by a model, one pass over each: P(share), and -log p of what was said.

Letters: B dialogues, T tokens, M share moments, G gold tokens that are trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from showtell.batch import collate
from showtell.data.photos import has_pixels, photo_image, square
from showtell.dialogue import Dialogue, Photo, Turn
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.prompt import IGNORED, Rendered
from showtell.training.examples import photo_sides, square_pixels


@dataclass(frozen=True, kw_only=True)
class GoldRead:
    """What a model makes of B rendered dialogues; the moments stand in their order, row by row."""

    labels_BT: Tensor
    p_share_M: list[float]
    row_G: Tensor  # the dialogue of each trained token
    at_G: Tensor  # and its place there
    nll_G: Tensor


@torch.no_grad()
def read_gold(
    model: PhotoDialogueModel,
    rows: Sequence[Rendered],
    *,
    pixels_of: Callable[[Photo], Tensor] | None,
) -> GoldRead:
    """One pass over B dialogues; ``pixels_of`` is asked for the photos seen (None: none are)."""
    batch = collate(
        rows, pad_id=model.language.tokenizer.pad_token_id, pixels_of=pixels_of, paint=False
    )
    states = model.states(batch)
    labels_BT = batch.labels_BT.cpu()
    row_G, before_G = (labels_BT[:, 1:] != IGNORED).nonzero(as_tuple=True)
    at_G = before_G + 1
    logits_GV = model.language.head(states.hidden_BTD[row_G, before_G]).float()
    gold_G = labels_BT[row_G, at_G].to(logits_GV.device)
    return GoldRead(
        labels_BT=labels_BT,
        p_share_M=model.share_logits(states, batch).sigmoid().tolist(),
        row_G=row_G,
        at_G=at_G,
        nll_G=cross_entropy(logits_GV, gold_G, reduction="none").cpu(),
    )


# --------------------------------------------------------------------------- dialogues of any data


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a model makes of gold dialogues; keys are (dialogue, turn)."""

    p_share: Mapping[tuple[int, int], float]
    shared: Mapping[tuple[int, int], bool]
    nll: Mapping[tuple[int, int], tuple[float, int]]  # of a text turn: sum of -log p, tokens
    total_nll: float
    total_tokens: int
    dropped_turns: int

    @property
    def perplexity(self) -> float:
        """Of all trained tokens."""
        return math.exp(self.total_nll / max(1, self.total_tokens))

    def moments(self) -> tuple[list[bool], list[float]]:
        """(was it a photo, P(share)) of every turn of the agent after the first."""
        return list(self.shared.values()), list(self.p_share.values())


def read_dialogues(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, batch_size: int = 8
) -> Read:
    """One pass over each dialogue, whole."""
    p_share: dict[tuple[int, int], float] = {}
    shared: dict[tuple[int, int], bool] = {}
    nll: dict[tuple[int, int], tuple[float, int]] = {}
    total, tokens, dropped = 0.0, 0, 0
    for start in range(0, len(dialogues), batch_size):
        part = dialogues[start : start + batch_size]
        contexts = [dialogue.turns for dialogue in part]
        if model.captioner is not None:  # else no photo need be opened for it
            contexts = model.describe_all(contexts, [seen_images(model, c) for c in contexts])
        rows = [model.renderer.render_turns(turns) for turns in contexts]
        read = read_gold(model, rows, pixels_of=_seen_pixels(model))
        chances = iter(read.p_share_M)
        nll_BT = torch.zeros(read.labels_BT.shape).index_put((read.row_G, read.at_G), read.nll_G)
        total += float(read.nll_G.sum())
        tokens += len(read.nll_G)
        for b, row in enumerate(rows):
            dropped += row.dropped_turns
            for place in row.moments:
                key, chance = (start + b, place.turn), next(chances)
                if place.turn == 0:  # nothing was said before
                    continue
                p_share[key], shared[key] = chance, place.shared
                if not place.shared:
                    stop = row.ids.index(model.renderer.end, place.index) + 1
                    words_T = nll_BT[b, place.index + 1 : stop]
                    nll[key] = (float(words_T.sum()), len(words_T))
    return Read(
        p_share=p_share,
        shared=shared,
        nll=nll,
        total_nll=total,
        total_tokens=tokens,
        dropped_turns=dropped,
    )


def _seen_pixels(model: PhotoDialogueModel) -> Callable[[Photo], Tensor] | None:
    if model.photo_encoder is None:
        return None
    side = photo_sides(model)[0]
    return lambda photo: square_pixels(photo, side)


def seen_images(model: PhotoDialogueModel, turns: Sequence[Turn]) -> dict[str, Image.Image]:
    """The photos of a context that can be seen, by id, at the size that the model sees."""
    if model.photo_encoder is None and model.captioner is None:
        return {}
    side = photo_sides(model)[0]
    photos = (photo for turn in turns for photo in turn.photos if has_pixels(photo))
    return {photo.id: square(photo_image(photo), side) for photo in photos}
