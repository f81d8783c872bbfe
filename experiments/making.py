"""What systems make in the places of gold turns; ``system()`` opens its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from showtell.dialogue import AGENT, Dialogue
from showtell.errors import UsageError
from showtell.evaluation.answer import own_photos, write_texts
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import Conditioning
from showtell.models.respond import Responder
from showtell.papers.forms import readable

BATCH = 32
Opener = Callable[[], PhotoDialogueModel]


def first_answer(task: Dialogue) -> int:
    return next(k for k, turn in enumerate(task.turns) if turn.speaker == AGENT)


def own_texts(system: Opener, tasks: Sequence[Dialogue]) -> list[str]:
    """A system's texts in the places of the agent's first turns."""
    contexts = [task.turns[: first_answer(task)] for task in tasks]
    return write_texts(Decoder(system()), contexts, seed=0)


def own_photos_in_place(
    system: Opener, tasks: Sequence[Dialogue], *, guidance: float | None = None
) -> Tensor:
    """A system's photos in the places of the gold ones: the agent's, one a task or more."""
    model = system()
    contexts = [
        task.turns[:k]
        for task in described(model, tasks)
        for k, turn in enumerate(task.turns)
        if turn.speaker == AGENT and turn.photos
    ]
    own = model.decoding
    decoding = own if guidance is None else replace(own, guidance=guidance)
    responder = Responder(Decoder(model, decoding=decoding))
    photos_N3HW = own_photos(responder, contexts, seed=0).pixels_N3HW
    if photos_N3HW is None:
        raise UsageError(f'"{model.name}" paints no photo; name a --base with a painter')
    return photos_N3HW


@torch.no_grad()
def painted_texts(system: Opener, texts: Sequence[str], *, guidance: float | None = None) -> Tensor:
    """What the painter alone makes of texts, the n-th from seed n; of a long text its text tower
    reads the words that it knows (``readable``), as many as it has room for."""
    model = system()
    painter, settings = model.painter, model.decoding
    if not isinstance(painter, LatentDiffusionPainter):
        raise UsageError(f'"{model.name}" has no painter that reads texts; name another --base')
    parts = []
    for start in range(0, len(texts), BATCH):
        part = [readable(text, painter.text) for text in texts[start : start + BATCH]]
        parts.append(
            painter.paint(
                Conditioning(cond_NSC=painter.text.encode(part)),
                num_steps=settings.num_steps,
                guidance=settings.guidance if guidance is None else guidance,
                seeds=range(start, start + len(part)),
            )
        )
    return torch.cat(parts)
