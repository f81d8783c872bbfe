"""P(the next turn is a photo), when it is not given who speaks next.

    P(share | U) = sum over speakers s of P(s | U) P([IMG] | U, s)

One pass over a dialogue scores every position: the speaker who did not speak next stands behind the
dialogue as a token that sees what came before it and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from showtell.models.dialogue_model import PhotoDialogueModel, share_logit
from showtell.prompt import IGNORED, Rendered


@dataclass(frozen=True, kw_only=True)
class ShareChances:
    """One row for each moment of the dialogues, in their order.

    ``marginal_M`` is the sum above, ``spoken_M`` is P([IMG]) once the next speaker is named.
    ``token_nll`` is the mean negative log-likelihood of the ``num_tokens`` trained tokens.
    """

    marginal_M: np.ndarray
    spoken_M: np.ndarray
    shared_M: np.ndarray
    row_M: np.ndarray  # which dialogue
    token_nll: float
    num_tokens: int


@torch.no_grad()
def share_chances(
    model: PhotoDialogueModel, rows: Sequence[Rendered], *, batch_size: int = 16
) -> ShareChances:
    """The chances at every ``MomentPlace`` of ``rows``.

    Both namings of the speakers are read and averaged, since neither is the agent. The longest
    dialogues go together, so that little is padded; the answer does not depend on that.
    """
    marginal: list[np.ndarray] = [np.zeros(0)] * len(rows)
    spoken: list[np.ndarray] = [np.zeros(0)] * len(rows)
    total, count = 0.0, 0
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        part = [rows[index] for index in chosen]
        namings = [_read(model, part), _read(model, [exchanged(model, row) for row in part])]
        sizes = np.cumsum([len(row.moments) for row in part])[:-1]
        for found, name in ((marginal, "marginal_M"), (spoken, "spoken_M")):
            mean_M = sum(getattr(naming, name) for naming in namings) / len(namings)
            for index, values in zip(chosen, np.split(mean_M, sizes), strict=True):
                found[index] = values
        total += sum(naming.token_nll * naming.num_tokens for naming in namings) / len(namings)
        count += namings[0].num_tokens
    moments = [(index, place) for index, row in enumerate(rows) for place in row.moments]
    return ShareChances(
        marginal_M=np.concatenate(marginal),
        spoken_M=np.concatenate(spoken),
        shared_M=np.array([place.shared for _, place in moments], dtype=bool),
        row_M=np.array([index for index, _ in moments], dtype=int),
        token_nll=total / max(1, count),
        num_tokens=count,
    )


def exchanged(model: PhotoDialogueModel, row: Rendered) -> Rendered:
    """The same rendered dialogue with the names of its speakers exchanged."""
    user, agent = model.renderer.roles["user"], model.renderer.roles["agent"]
    other = {user: agent, agent: user}
    return Rendered(
        ids=[other.get(token, token) for token in row.ids],
        labels=[other.get(token, token) for token in row.labels],
        seen=row.seen,
        spans=row.spans,
        moments=row.moments,
        dropped_turns=row.dropped_turns,
    )


def _read(model: PhotoDialogueModel, rows: Sequence[Rendered]) -> ShareChances:
    """One naming. T tokens of dialogue are followed by J moments' other speakers."""
    renderer, language = model.renderer, model.language
    user, agent = renderer.roles["user"], renderer.roles["agent"]
    length = max(len(row.ids) for row in rows)
    extra = max(len(row.moments) for row in rows)
    pad = language.tokenizer.pad_token_id
    ids_BT = torch.full((len(rows), length + extra), pad)
    labels_BT = torch.full((len(rows), length), IGNORED)
    positions_BT = torch.arange(length + extra).clamp(max=length - 1).repeat(len(rows), 1)
    sees_BTT = torch.eye(length + extra, dtype=torch.bool).repeat(len(rows), 1, 1)
    sees_BTT[:, :length, :length] = torch.ones(length, length).tril().bool()
    places = []
    for b, row in enumerate(rows):
        ids_BT[b, : len(row.ids)] = torch.tensor(row.ids)
        labels_BT[b, : len(row.labels)] = torch.tensor(row.labels)
        for j, place in enumerate(row.moments):
            said = row.ids[place.index]
            ids_BT[b, length + j] = user if said == agent else agent
            positions_BT[b, length + j] = place.index
            sees_BTT[b, length + j, : place.index] = True
            places.append((b, place.index, length + j, int(said == agent), place.shared))
    ids_BT, labels_BT, positions_BT, sees_BTT = (
        each.to(language.device) for each in (ids_BT, labels_BT, positions_BT, sees_BTT)
    )
    hidden_BTD = language.hidden(language.embed(ids_BT), sees_BTT[:, None], positions_BT)

    rows_N, at_N = (labels_BT[:, 1:] != IGNORED).nonzero(as_tuple=True)
    logits_NV = language.head(hidden_BTD[rows_N, at_N]).float()
    gold_N = labels_BT[rows_N, at_N + 1]
    nll = torch.nn.functional.cross_entropy(logits_NV, gold_N)

    columns = torch.tensor([place[:4] for place in places], dtype=torch.long).reshape(-1, 4)
    row_M, at_M, other_M, is_agent_M = columns.to(language.device).unbind(1)
    before_M2 = language.head(hidden_BTD[row_M, at_M - 1]).float()[:, [user, agent]]
    speaks_M2 = before_M2.softmax(-1)

    def chance(place_M: Tensor) -> Tensor:
        logits_MV = language.head(hidden_BTD[row_M, place_M]).float()
        return share_logit(logits_MV, renderer.img).sigmoid()

    spoken_M, unspoken_M = chance(at_M), chance(other_M)
    gold_M = speaks_M2.gather(1, is_agent_M[:, None])[:, 0]
    return ShareChances(
        marginal_M=(gold_M * spoken_M + (1 - gold_M) * unspoken_M).cpu().double().numpy(),
        spoken_M=spoken_M.cpu().double().numpy(),
        shared_M=np.array([place[4] for place in places], dtype=bool),
        row_M=row_M.cpu().numpy(),
        token_nll=float(nll),
        num_tokens=len(gold_N),
    )
