"""Gold dialogues read by a model, one pass over each: P(share), and -log p of what was said.

    read = read_gold(model, described(model, dialogues))
    read.p_share_M, read.shared_M                      # at every start of an agent's turn
    read.turn_nll()[dialogue, turn]                    # (sum of -log p, tokens) of a text turn

``read_gold`` is told who speaks next. Where that is not given (PhotoChat),

    P(share | U) = sum over speakers s of P(s | U) P([IMG] | U, s)

is ``share_chances``. One pass over a dialogue scores every position: the speaker who did not speak
next is a branch of it (``prefix_tree.py``) that sees what came before and nothing else.

Letters: B dialogues, T tokens, N nodes, M share moments, G gold tokens that are trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
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
from showtell.models.prefix_tree import PrefixTree, read_trees
from showtell.models.respond import Responder
from showtell.progress import Progress, quiet
from showtell.prompt import IGNORED, Rendered, Renderer
from showtell.runtime import mixed_precision

DESCRIBED_AT_ONCE = 32  # dialogues
LARGE = 50_000_000  # weights of an LLM, from where bfloat16 products are faster
TOKENS_AT_ONCE, TOKENS_ON_GPU = 1_024, 32_768  # more of them are read no faster


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
        for row, nll_T in zip(self.rows, self.nll_T, strict=True):
            is_word_T = _words_of(row, self.special)
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
    ``token_nll`` is the mean negative log-likelihood of the ``num_tokens`` trained tokens,
    ``word_nll`` the sum over the words of each turn, by (dialogue, turn): no mark of ours, no
    photo's description.
    """

    marginal_M: np.ndarray
    spoken_M: np.ndarray
    shared_M: np.ndarray
    row_M: np.ndarray  # which dialogue
    token_nll: float
    num_tokens: int
    word_nll: dict[tuple[int, int], float]


@torch.no_grad()
def share_chances(
    model: PhotoDialogueModel,
    rows: Sequence[Rendered],
    *,
    batch_size: int | None = None,
    told: Progress = quiet,
) -> ShareChances:
    """The chances at every ``MomentPlace`` of ``rows``.

    Both namings of the speakers are read and averaged, since neither is the agent. Dialogues of
    like length go together, ``batch_size`` or as many as are read fastest; the answer does not
    depend on that, but for bfloat16 products (``large_products``).
    """
    marginal: list[np.ndarray] = [np.zeros(0)] * len(rows)
    spoken: list[np.ndarray] = [np.zeros(0)] * len(rows)
    word_nll: dict[tuple[int, int], float] = {}
    total, count, done = 0.0, 0, 0
    for chosen in _alike(rows, batch_size=batch_size, on_cpu=model.device.type == "cpu"):
        part = [rows[index] for index in chosen]
        both = (part, [exchanged(model, row) for row in part])
        with large_products(model):
            namings = [_one_naming(model, named) for named in both]
        sizes = np.cumsum([len(row.moments) for row in part])[:-1]
        for found, each in zip((marginal, spoken), zip(*namings, strict=True), strict=False):
            mean_M = sum(each) / len(namings)
            for index, values in zip(chosen, np.split(mean_M, sizes), strict=True):
                found[index] = values
        for named, (_, _, nll_BT) in zip(both, namings, strict=True):
            total += float(nll_BT.sum()) / len(namings)
            for index, row, nll_T in zip(chosen, named, nll_BT, strict=True):
                for turn, nll in _turn_nll(row, nll_T, model.renderer.special).items():
                    place = (index, turn)
                    word_nll[place] = word_nll.get(place, 0.0) + nll / len(namings)
        count += sum(label != IGNORED for row in part for label in row.labels[1:])
        done += len(part)
        told("share moments", done, len(rows))
    moments = [(index, place) for index, row in enumerate(rows) for place in row.moments]
    return ShareChances(
        marginal_M=np.concatenate(marginal),
        spoken_M=np.concatenate(spoken),
        shared_M=np.array([place.shared for _, place in moments], dtype=bool),
        row_M=np.array([index for index, _ in moments], dtype=int),
        token_nll=total / max(1, count),
        num_tokens=count,
        word_nll=word_nll,
    )


def is_large(model: PhotoDialogueModel) -> bool:
    """Whether the LLM is so large that its weights, and not the calls, take the time."""
    return sum(weight.numel() for weight in model.language.parameters()) >= LARGE


def large_products(model: PhotoDialogueModel) -> torch.autocast:
    """bfloat16 products of a large LLM, where the device has them: two to three times as fast; a
    small one reads as it was trained."""
    return mixed_precision(model.device, wanted=is_large(model))


def _alike(
    rows: Sequence[Rendered], *, batch_size: int | None, on_cpu: bool
) -> Iterator[list[int]]:
    """Numbers of rows of like length, to be read at once; the shortest first."""
    most = TOKENS_AT_ONCE if on_cpu else TOKENS_ON_GPU
    chosen: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index].ids)):
        length = len(rows[index].ids)
        full = len(chosen) == batch_size if batch_size else (len(chosen) + 1) * length > most
        if chosen and full:
            yield chosen
            chosen = []
        chosen.append(index)
    if chosen:
        yield chosen


def _turn_nll(row: Rendered, nll_T: Tensor, special: Collection[int]) -> dict[int, float]:
    """-log p of the words of each turn but the row's first, by the turn's number."""
    is_word_T = _words_of(row, special)
    stops = [start for start, _, _ in row.openings[1:]] + [len(row.ids)]
    return {
        row.dropped_turns + number: float(nll_T[start:stop][is_word_T[start:stop]].sum())
        for number, ((start, _, _), stop) in enumerate(zip(row.openings, stops, strict=True))
        if number and bool(is_word_T[start:stop].any())
    }


def _words_of(row: Rendered, special: Collection[int]) -> Tensor:
    """(T,) bool: the trained tokens that are words, in no photo's description."""
    is_word_T = ~torch.isin(torch.tensor(row.labels), torch.tensor([IGNORED, *special]))
    for place in row.spans:
        is_word_T[place.start : place.stop] = False
    for opening, stop, _ in row.openings:
        is_word_T[opening:stop] = False
    return is_word_T


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
    out, at, opened = Rendered(dropped=row.dropped), 0, {}

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
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """One naming: marginal_M, spoken_M, and -log p of each token that is trained on (B, T), 0 at
    the others. The M moments' other speakers are read beside the dialogues."""
    renderer, language = model.renderer, model.language
    headers, count = renderer.form.headers, len(renderer.form.between)
    user, agent = renderer.roles[USER], renderer.roles[AGENT]
    labels_BT = pad_sequence([torch.tensor(row.labels) for row in rows], True, IGNORED)
    places = [(b, place) for b, row in enumerate(rows) for place in row.moments]
    is_agent = [rows[b].ids[place.opening + count] == agent for b, place in places]
    trees = [PrefixTree() for _ in rows]
    for tree, row in zip(trees, rows, strict=True):
        tree.add(row.ids)
    others = [
        trees[b].add([*rows[b].ids[: place.opening], *headers[USER if said else AGENT]])[-1]
        for said, (b, place) in zip(is_agent, places, strict=True)
    ]
    hidden_BND = read_trees(language, trees)
    logits_GV, gold_G, at = model.gold_logits(hidden_BND, labels_BT.to(language.device))
    nll_G = F.cross_entropy(logits_GV, gold_G, reduction="none")
    nll_BT = nll_G.new_zeros(labels_BT.shape).index_put(at, nll_G).cpu()

    row_M, at_M, asks_M, other_M = (
        language.column(each)
        for each in (
            [b for b, _ in places],
            [place.index for _, place in places],
            [place.opening + count - 1 for _, place in places],
            others,
        )
    )
    speaks_M2 = language.head(hidden_BND[row_M, asks_M]).float()[:, [user, agent]].softmax(-1)

    def chance(states_MD: Tensor) -> Tensor:
        return share_logit(language.head(states_MD).float(), renderer.img).sigmoid()

    spoken_M, unspoken_M = (chance(hidden_BND[row_M, at]) for at in (at_M, other_M))
    gold_M = speaks_M2.gather(1, language.column([[int(said)] for said in is_agent]))[:, 0]
    marginal_M = gold_M * spoken_M + (1 - gold_M) * unspoken_M
    marginal, spoken = (each.cpu().double().numpy() for each in (marginal_M, spoken_M))
    return marginal, spoken, nll_BT
