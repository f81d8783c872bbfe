"""Gold dialogues read by a model, one pass over each: P(share), and -log p of what was said.

    read = read_gold(model, described(model, dialogues))
    read.p_share_M, read.shared_M                      # at every start of an agent's turn
    read.turn_nll()[dialogue, turn]                    # (sum of -log p, tokens) of a text turn

``read_gold`` is told who speaks next. Where that is not given (PhotoChat),

    P(share | U) = sum over speakers s of P(s | U) P([IMG] | U, s)

is ``share_chances``. One pass over a dialogue scores every position: the speaker who did not speak
next stands behind the dialogue as a token that sees what came before it and nothing else.

Letters: B dialogues, T tokens, M share moments, G gold tokens that are trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from showtell.batch import collate, to_pixels
from showtell.data.photos import has_pixels, photo_image
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Speaker, Turn
from showtell.errors import ConfigError
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel, share_logit
from showtell.models.language import LanguageModel
from showtell.models.respond import Responder
from showtell.prompt import IGNORED, MomentPlace, Rendered, Renderer

DESCRIBED_AT_ONCE = 32  # dialogues


@dataclass(frozen=True, kw_only=True)
class GoldRead:
    """What a model makes of gold dialogues; the moments stand in their order, row by row."""

    rows: tuple[Rendered, ...]
    nll_T: tuple[Tensor, ...]  # of each row: -log p of its trained tokens, 0 at the others
    p_share_M: np.ndarray
    shared_M: np.ndarray
    dialogue_M: np.ndarray
    turn_M: np.ndarray
    total_nll: float
    num_tokens: int
    end: int  # the token that ends a turn
    special: frozenset[int]

    @property
    def perplexity(self) -> float:
        """Of all trained tokens."""
        return math.exp(self.total_nll / max(1, self.num_tokens))

    @property
    def dropped_turns(self) -> int:
        return sum(row.dropped_turns for row in self.rows)

    @property
    def later_M(self) -> np.ndarray:
        """Which moments have something said before them: all but a dialogue's first turn."""
        return self.turn_M > 0

    def turn_nll(self) -> dict[tuple[int, int], tuple[float, int]]:
        """Of each text turn of the agent, by (dialogue, turn): sum of -log p, number of tokens."""
        found = {}
        for b, (row, nll_T) in enumerate(zip(self.rows, self.nll_T, strict=True)):
            for place in row.moments:
                if not place.shared:
                    stop = row.ids.index(self.end, place.index) + 1
                    words_T = nll_T[place.index + 1 : stop]
                    found[b, place.turn] = (float(words_T.sum()), len(words_T))
        return found

    def word_nll(self) -> tuple[np.ndarray, np.ndarray]:
        """(-log p of the trained words of each dialogue, their number): no mark of ours, and
        nothing of what announces a photo, so that every system has the same words."""
        sums, counts = [], []
        skip = torch.tensor([IGNORED, *self.special])
        for row, nll_T in zip(self.rows, self.nll_T, strict=True):
            is_word_T = ~torch.isin(torch.tensor(row.labels), skip)
            for place in row.spans:
                is_word_T[place.start : place.stop] = False
            for opening, stop, _ in row.openings:
                is_word_T[opening:stop] = False
            sums.append(float(nll_T[is_word_T].sum()))
            counts.append(int(is_word_T.sum()))
        return np.array(sums), np.array(counts)


@torch.no_grad()
def read_gold(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    renderer: Renderer | None = None,
    batch_size: int = 8,
) -> GoldRead:
    """One pass over each dialogue, whole. For a model that reads captions they are those that the
    dialogues have; ``described`` puts its own captioner's in their place."""
    renderer = renderer or model.renderer
    rows: list[Rendered] = []
    nll: list[Tensor] = []
    p_share: list[float] = []
    total, count = 0.0, 0
    for start in range(0, len(dialogues), batch_size):
        part = [renderer.render(each) for each in dialogues[start : start + batch_size]]
        batch = collate(
            part,
            pad_id=model.language.tokenizer.pad_token_id,
            pixels_of=seen_pixels(model),
            paint=False,
        ).to(model.device)
        states = model.states(batch)
        logits_GV, gold_G, places = model.gold_logits(states.hidden_BTD, batch.labels_BT)
        nll_G = F.cross_entropy(logits_GV, gold_G, reduction="none")
        nll_BT = nll_G.new_zeros(batch.labels_BT.shape).index_put(places, nll_G).cpu()
        p_share += model.share_logits(states, batch).sigmoid().tolist()
        total += float(nll_G.sum())
        count += len(nll_G)
        rows += part
        nll += [nll_T[: len(row.ids)] for row, nll_T in zip(part, nll_BT, strict=True)]
    moments = [(b, place) for b, row in enumerate(rows) for place in row.moments]
    return GoldRead(
        rows=tuple(rows),
        nll_T=tuple(nll),
        p_share_M=np.array(p_share),
        shared_M=np.array([place.shared for _, place in moments], dtype=bool),
        dialogue_M=np.array([b for b, _ in moments], dtype=int),
        turn_M=np.array([place.turn for _, place in moments], dtype=int),
        total_nll=total,
        num_tokens=count,
        end=renderer.end,
        special=frozenset(renderer.special),
    )


def described(model: PhotoDialogueModel, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """For a model that reads captions: the user's photos as its own captioner describes them."""
    if model.captioner is None:
        return list(dialogues)
    responder, told = Responder(Decoder(model)), []
    for start in range(0, len(dialogues), DESCRIBED_AT_ONCE):
        contexts = [each.turns for each in dialogues[start : start + DESCRIBED_AT_ONCE]]
        told += responder.describe_all(contexts, [seen_images(model, each) for each in contexts])
    return [replace(each, turns=turns) for each, turns in zip(dialogues, told, strict=True)]


def seen_images(model: PhotoDialogueModel, turns: Sequence[Turn]) -> dict[str, Image.Image]:
    """The photos of a context that can be seen, by id, as the model looks at them."""
    if (seer := model.seer) is None:
        return {}
    photos = (photo for turn in turns for photo in turn.photos if has_pixels(photo))
    return {photo.id: seer.look(photo_image(photo)) for photo in photos}


def seen_pixels(model: PhotoDialogueModel) -> Callable[[Photo], Tensor] | None:
    """``pixels_of`` for ``collate``; None where the model reads captions."""
    if (encoder := model.photo_encoder) is None:
        return None
    return lambda photo: to_pixels(encoder.look(photo_image(photo)))


# ------------------------------------------------------------------- who speaks next is not given


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
        namings = [
            _one_naming(model, part),
            _one_naming(model, [exchanged(model, row) for row in part]),
        ]
        sizes = np.cumsum([len(row.moments) for row in part])[:-1]
        for found, both in zip((marginal, spoken), zip(*namings, strict=True), strict=False):
            mean_M = sum(both) / len(namings)
            for index, values in zip(chosen, np.split(mean_M, sizes), strict=True):
                found[index] = values
        total += sum(nll for _, _, nll, _ in namings) / len(namings)
        count += namings[0][-1]
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
    """The same rendered dialogue with the names of its speakers exchanged. Raises ConfigError for a
    template in which the two end their turns in two ways."""
    form = model.renderer.form
    if list(form.ends[USER]) != list(form.ends[AGENT]):
        raise ConfigError(
            "this chat template ends the turns of its two speakers in two ways, so that exchanging "
            "their names makes no dialogue; use template=marks"
        )
    exchange: dict[Speaker, Speaker] = {USER: AGENT, AGENT: USER}
    out, at, opened = Rendered(dropped_turns=row.dropped_turns), 0, {}

    def copied(stop: int) -> None:
        out.ids.extend(row.ids[at:stop])
        out.labels.extend(row.labels[at:stop])

    for start, stop, speaker in row.openings:
        copied(start)
        header = form.headers[exchange[speaker]]
        opened[start] = (len(out.ids), len(out.ids) + len(header))
        out.openings.append((*opened[start], exchange[speaker]))
        asked = any(label != IGNORED for label in row.labels[start:stop])
        for place, token in enumerate(header):
            out.put([token], label=asked and place == len(form.between))
        at = stop
    copied(len(row.ids))

    def moved(place: int) -> int:
        """Where what stood there stands now, in the turn that it is in."""
        start, stop, _ = max(each for each in row.openings if each[1] <= place)
        return place - stop + opened[start][1]

    return replace(
        out,
        seen=[replace(each, start=moved(each.start)) for each in row.seen],
        spans=[replace(e, start=moved(e.start), stop=moved(e.stop)) for e in row.spans],
        moments=[
            replace(each, opening=opened[each.opening][0], index=opened[each.opening][1] - 1)
            for each in row.moments
        ],
    )


def _one_naming(
    model: PhotoDialogueModel, rows: Sequence[Rendered]
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """One naming: marginal_M, spoken_M, the tokens' summed -log p and their number. T tokens of
    dialogue are followed by J moments' other speakers."""
    renderer, language = model.renderer, model.language
    headers, count = renderer.form.headers, len(renderer.form.between)
    user, agent = renderer.roles[USER], renderer.roles[AGENT]
    labels_BT = pad_sequence([torch.tensor(row.labels) for row in rows], True, IGNORED)
    places = [(b, j, place) for b, row in enumerate(rows) for j, place in enumerate(row.moments)]
    is_agent = [rows[b].ids[place.opening + count] == agent for b, _, place in places]
    others = [list(headers[USER if said else AGENT]) for said in is_agent]
    hidden_BTD, other_MD = _states(language, rows, places, others)
    logits_GV, gold_G, _ = model.gold_logits(hidden_BTD, labels_BT.to(language.device))
    nll = F.cross_entropy(logits_GV, gold_G)

    row_M, at_M = (
        language.column(each)
        for each in ([b for b, _, _ in places], [place.index for _, _, place in places])
    )
    asks_M = language.column([place.opening + count - 1 for _, _, place in places])
    speaks_M2 = language.head(hidden_BTD[row_M, asks_M]).float()[:, [user, agent]].softmax(-1)

    def chance(states_MD: Tensor) -> Tensor:
        return share_logit(language.head(states_MD).float(), renderer.img).sigmoid()

    spoken_M, unspoken_M = chance(hidden_BTD[row_M, at_M]), chance(other_MD)
    gold_M = speaks_M2.gather(1, language.column([[int(said)] for said in is_agent]))[:, 0]
    marginal_M = gold_M * spoken_M + (1 - gold_M) * unspoken_M
    marginal, spoken = (each.cpu().double().numpy() for each in (marginal_M, spoken_M))
    return marginal, spoken, float(nll) * len(gold_G), len(gold_G)


def _states(
    language: LanguageModel,
    rows: Sequence[Rendered],
    places: Sequence[tuple[int, int, MomentPlace]],
    others: Sequence[list[int]],
) -> tuple[Tensor, Tensor]:
    """The states of the dialogues, and of the M other speakers: from one pass behind them, or from
    a pass for each where the LLM cannot be told what a token sees. ``places``: (dialogue, which of
    its moments, the moment)."""
    ids_BT, _ = language.rows(row.ids for row in rows)
    length = ids_BT.shape[1]
    if not language.takes_any_mask:
        each = []
        for (b, _, place), other in zip(places, others, strict=True):
            embeds_1TD = language.embed(language.column([[*rows[b].ids[: place.opening], *other]]))
            each.append(language.hidden(embeds_1TD, None)[0, -1])
        hidden_BTD = language.hidden(language.embed(ids_BT), None)
        return hidden_BTD, torch.stack(each) if each else hidden_BTD[:0, 0]
    filled, stands = [length] * len(rows), []  # where each other speaker begins, behind the rest
    for (b, _, _), other in zip(places, others, strict=True):
        stands.append(filled[b])
        filled[b] += len(other)
    size = max(filled, default=length)
    ids_BT = F.pad(ids_BT, (0, size - length), value=language.tokenizer.pad_token_id)
    positions_BT = torch.arange(size).clamp(max=length - 1).repeat(len(rows), 1)
    sees_BTT = torch.eye(size, dtype=torch.bool).repeat(len(rows), 1, 1)
    sees_BTT[:, :length, :length] = torch.ones(length, length).tril().bool()
    for (b, _, place), other, at in zip(places, others, stands, strict=True):
        for k, token in enumerate(other):
            ids_BT[b, at + k] = token
            positions_BT[b, at + k] = place.opening + k
            sees_BTT[b, at + k, : place.opening] = True
            sees_BTT[b, at + k, at : at + k] = True
    sees_B1TT, positions_BT = sees_BTT[:, None].to(ids_BT.device), positions_BT.to(ids_BT.device)
    hidden_BTD = language.hidden(language.embed(ids_BT), sees_B1TT, positions_BT)
    last = [at + len(other) - 1 for at, other in zip(stands, others, strict=True)]
    return hidden_BTD, hidden_BTD[[b for b, _, _ in places], last]
