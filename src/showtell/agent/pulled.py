"""How much the loss of a painted photo would ask of each word of its caption: the gradient by which
2408.08650 trains its LLM through the photo, looked at for one photo.

A word that the photo shows already is pulled at little; one that it does not show, more. It is no
proof of what made the photo: it is what one step of training on it would change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from showtell.batch import collate, to_pixels
from showtell.dialogue import Photo, Turn
from showtell.errors import UsageError
from showtell.models.parts import PhotoTargets
from showtell.papers.e2e import token_offsets

if TYPE_CHECKING:
    from PIL.Image import Image

DRAWS = 8  # of noise, and the time that it is of: one alone says little
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def pulled_words(
    agent: Any,
    turns: Sequence[Turn],
    images: Mapping[str, Image],
    *,
    on_step: Callable[[], None] = lambda: None,
) -> list[tuple[str, float]]:
    """(word, its share of the gradient's norm) of the caption of the last photo in ``turns``, which
    the agent has painted; the shares add up to 1. ``on_step`` is called between two draws.

    Raises UsageError for an agent whose photos' loss does not reach its words.
    """
    model = getattr(agent, "model", None)
    painter = getattr(model, "painter", None)
    if model is None or painter is None or model.renderer.span_ids:
        raise UsageError(
            f"{agent.name} is not trained through its photos' words, so they are not pulled at; "
            "name a model of 2408.08650, such as mini"
        )
    size = (painter.image_size, painter.image_size)

    def pixels_of(photo: Photo) -> torch.Tensor:
        return to_pixels(images[photo.id].convert("RGB").resize(size))

    eyes = model.photo_encoder
    row = model.renderer.render_turns(
        turns, has_pixels=lambda photo: eyes is not None and photo.id in images
    )
    last = row.spans[-1]
    row = replace(row, spans=[last])
    batch = collate(
        [row],
        pad_id=model.language.tokenizer.pad_token_id,
        pixels_of=None if eyes is None else lambda p: to_pixels(eyes.look(images[p.id])),
        made_pixels_of=pixels_of,
        paint=True,
    ).to(model.device)
    with torch.no_grad():
        spans = model.gather_spans(model.states(batch), batch)
    pulls_K = torch.zeros(spans.ids_NK.shape[1])
    assert batch.span_pixels_N3HW is not None
    gold = PhotoTargets(pixels_N3HW=batch.span_pixels_N3HW, captions=batch.captions)
    leaf_NKV = spans.logits_NKV.requires_grad_()
    for draw in range(DRAWS):
        die = torch.Generator().manual_seed(draw)
        with torch.enable_grad():
            cond = model.bridge(spans, painter, generator=die)
            losses = model.bridge.losses(cond, gold, painter, generator=die)
        grad_NKV = None
        if "v" in losses and losses["v"].requires_grad:
            (grad_NKV,) = torch.autograd.grad(losses["v"], leaf_NKV, allow_unused=True)
        if grad_NKV is None:
            raise UsageError(
                f"the photos' loss of {agent.name} reaches no words: it only paints what it says; "
                "name a model of 2408.08650 with a vocabulary transformation, such as mini"
            )
        pulls_K += grad_NKV[0].norm(dim=-1).cpu() / DRAWS
        on_step()
    return _by_word(last.photo.caption, spans.ids_NK[0].tolist(), pulls_K, model)


def _by_word(
    caption: str, ids: Sequence[int], pulls_K: torch.Tensor, model: Any
) -> list[tuple[str, float]]:
    offsets = token_offsets(caption, ids, model.language.tokenizer)
    found = []
    for word in _WORD.finditer(caption):
        own = [k for k, (a, b) in enumerate(offsets) if a < word.end() and b > word.start()]
        found.append((word[0], float(pulls_K[own].sum())))
    total = sum(pull for _, pull in found) or 1.0
    return [(word, pull / total) for word, pull in found]
