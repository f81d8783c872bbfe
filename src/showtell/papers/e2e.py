"""The end-to-end bridge of arXiv 2408.08650 (v1), section 2.4: Eq. 4-13 in the paper's order.

The photo loss reaches the LLM through the caption's tokens: a straight-through Gumbel-softmax
makes a row of one-hot vectors of the LLM's vocabulary differentiable, and a "dynamic vocabulary
transformation matrix" M carries them into the vocabulary of the painter's text encoder. With E
the painter's token table, u = sum_{j in T_SD} E[j] and c the pooled mass that p_GS puts on T_LLM,

    embeddings = E[ids] + (c - sg[c]) u          dL/dp_GS[k, v] = <sum_n g_n, u> / m,  v in T_LLM

so M (rank one for a sentence) needs no tensor of vocabulary x vocabulary numbers, dense or
sparse, and a sentence hands the LLM a single scalar: more, or less, of this bag of tokens.

Decisions where the paper is silent or slips: tau belongs inside the exponent in both places of
Eq. 5-6; the loss of Eq. 12 is on the predicted noise, as in every latent diffusion model; R_SD
has the caption's rows, BOS and EOS among them (every one is given avg(R M), as the released code
does), padding not. The released code is ``DvtmConfig(gumbel=False, temperature_final=1.0,
pooling="sum", caption_for_denoiser="predicted")``.

Letters as in ``models/parts.py``, and B blocks of M, J tokens read in a caption.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.errors import ConfigError, DataError
from showtell.models.parts import (
    Bridge,
    BridgeConfig,
    Conditioning,
    Dice,
    Die,
    Painter,
    PainterTokens,
    PhotoSpans,
    PhotoTargets,
    TextTower,
    Tokenizer,
    caption_conditioning,
)
from showtell.papers.e2e_kernel import (
    Block,
    DynamicMatrices,
    bag_rows,
    dynamic_matrices,
    token_probabilities,
)
from showtell.training.stage import Stage

# a word with its apostrophes, or one mark of punctuation
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
_SOFT_BATCH = 1024


# ----------------------------------------------------------------------------------------- settings


ANNEALINGS: dict[str, Callable[[float, float, float], float]] = {
    "linear": lambda start, final, progress: start + (final - start) * progress,
    "log": lambda start, final, progress: start * (final / start) ** progress,
}
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {  # a mask -> weights over the last axis
    "average": lambda mask: mask / mask.sum(-1, keepdim=True).clamp_min(1),
    "sum": lambda mask: mask,
}


@dataclass(frozen=True, kw_only=True)
class DvtmConfig(BridgeConfig):
    """Which matrix M, which caption, and how the temperature falls.

    ``vocabulary``: "none" (no matrix: the painter learns from the caption and the LLM hears
    nothing of it), "static" (equal strings), "sentence" (the paper's), "word", "aligned" (a
    word's own positions only) or "soft" (no matrix: the painter reads mixtures of its pieces,
    a true gradient; the only one whose *value* depends on the LLM, on its noise and temperature).
    ``pooling``: "average" (the paper) or "sum" (the released code: m times the gradient).
    ``caption_for_denoiser``: "gold", or "predicted" (the released code: what the teacher-forced
    LLM would say). The paper gives 1 -> 0.01 in three epochs, a digest of its second version
    1 -> 1e-4, and neither the curve. ``annealing_epochs`` None: over the epochs of the stage, which
    may be less than one of a large data set.

    gumbel: whether the LLM's distribution over pieces is sampled (Eq. 5, 6), or taken as it is
    annealing: the curve between the temperatures, "linear" or "log" (steps of equal ratio)
    temperature_start: of the Gumbel-softmax, at the first step
    temperature_final: at the last step of the annealing
    """

    vocabulary: str = "sentence"
    pooling: str = "average"
    caption_for_denoiser: str = "gold"
    gumbel: bool = True
    annealing: str = "linear"
    temperature_start: float = 1.0
    temperature_final: float = 0.01
    annealing_epochs: float | None = 3.0

    def __post_init__(self) -> None:
        self.require(
            vocabulary=("none", "static", *BLOCKS, "soft"),
            pooling=POOLINGS,
            caption_for_denoiser=CAPTIONS,
            annealing=ANNEALINGS,
        )
        if self.caption_for_denoiser == "predicted" and self.vocabulary == "soft":
            raise ConfigError(
                'vocabulary "soft" feeds the painter mixtures of pieces and reads no caption; with '
                'caption_for_denoiser "predicted" choose another, such as "sentence"'
            )

    @property
    def reads_logits(self) -> bool:
        """Whether anything but the gold caption reaches the painter or the gradient."""
        return self.vocabulary != "none" or self.caption_for_denoiser == "predicted"


# ------------------------------------------------------------ Eq. 4-7: one-hot rows with a gradient


def gumbel_noise(logits_NKV: Tensor, *, generator: Die) -> Tensor:
    """g = -log(-log u), u uniform: a number for every token, in at least fp32."""
    dtype = torch.promote_types(logits_NKV.dtype, torch.float32)
    device = generator.device
    if logits_NKV.is_cuda and device.type == "cpu":  # so many are drawn where they are needed
        device = logits_NKV.device
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = torch.Generator(device).manual_seed(seed)
    noise_NKV = torch.empty_like(logits_NKV, dtype=dtype, device=device, requires_grad=False)
    # not exponential_, which is -log u and takes four times as long on a CPU; never an exact 0,
    # which would be infinite noise
    noise_NKV.uniform_(torch.finfo(dtype).tiny, 1.0, generator=generator)
    return noise_NKV.log_().neg_().log_().neg_().to(logits_NKV.device)  # Eq. 4


def gumbel_softmax(noisy_NKV: Tensor, *, temperature: float | Tensor) -> Tensor:
    """p_GS from o + g.

    # Eq. 5 writes log p for o. They differ by the row's log-normaliser, which a softmax ignores:
    the paper's "almost equivalent" is exact.
    """
    return (noisy_NKV / temperature).softmax(-1)  # Eq. 6


def straight_through(soft_NKV: Tensor) -> Tensor:
    """R_LLM: its value exactly the one-hot vector of the largest, its gradient that of p_GS."""
    onehot_NKV = torch.zeros_like(soft_NKV).scatter_(-1, soft_NKV.argmax(-1, keepdim=True), 1.0)
    return onehot_NKV + (soft_NKV - soft_NKV.detach())  # Eq. 7


# ----------------------------------------------------------------------------------- two tokenizers


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """BOS, EOS, padding and their like, and the tokens that announce a photo: no words."""
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}


@dataclass(frozen=True, kw_only=True)
class SpokenCaption:
    """One caption in both vocabularies; BOS, EOS and padding are in neither list of ids.

    ``rows`` are the rows of R_SD: the caption as the painter's tokenizer gives it, BOS and EOS
    included, padding not.
    """

    text: str
    llm_ids: Sequence[int]
    llm_positions: Sequence[int]
    pieces: Sequence[int]
    piece_rows: Sequence[int]
    piece_offsets: Sequence[tuple[int, int]]
    rows: Sequence[int]


def spoken_captions(
    texts: Sequence[str], ids_NK: Tensor, content_NK: Tensor, tokens: PainterTokens
) -> list[SpokenCaption]:
    """The captions of a batch; ``content_NK`` is True where a token of the caption stands."""
    captions = []
    for n, text in enumerate(texts):
        positions = content_NK[n].nonzero()[:, 0].tolist()
        rows = tokens.content_NS[n].nonzero()[:, 0].tolist()
        num_rows = tokens.ids_NS.shape[1]
        captions.append(
            SpokenCaption(
                text=text,
                llm_ids=ids_NK[n, positions].tolist(),
                llm_positions=positions,
                pieces=tokens.ids_NS[n, rows].tolist(),
                piece_rows=rows,
                piece_offsets=[(s, e) for s, e in tokens.offsets_NS2[n, rows].tolist()],
                # BOS stands before the first piece and EOS after the last
                rows=range(max(rows[0] - 1, 0), min(rows[-1] + 2, num_rows)) if rows else (),
            )
        )
    return captions


def matching_strings(tokenizer: Tokenizer, tower: TextTower) -> list[tuple[int, int]]:
    """(LLM id, painter id) of every pair of tokens whose strings are equal but for space marks.

    A leading "Ġ" (byte-level BPE) or "▁" (SentencePiece) marks the start of a word, a trailing
    "</w>" (CLIP) its end; all are set aside, so that "Ġcat" meets "cat" and "cat</w>".
    """
    special = set(tower.tokenize([""]).ids_NS.flatten().tolist())
    painter_ids: dict[str, list[int]] = {}
    for token, piece in tower.tokenizer.get_vocab().items():
        if piece not in special:
            word = token.removesuffix("</w>").lstrip("\u0120\u2581")
            painter_ids.setdefault(word, []).append(piece)
    special = special_ids(tokenizer)
    return sorted(
        (llm_id, piece)
        for token, llm_id in tokenizer.get_vocab().items()
        if llm_id not in special and (word := token.lstrip("\u0120\u2581"))
        for piece in painter_ids.get(word, ())
    )


def pieces_of_each_token(
    tokenizer: Tokenizer, tower: TextTower, *, num_tokens: int
) -> list[list[int]]:
    """For each of the LLM's tokens, alone, the painter's pieces of its text; none if special."""
    known = set(tokenizer.get_vocab().values()) - special_ids(tokenizer)
    texts = [tokenizer.decode([i]).strip() if i in known else "" for i in range(num_tokens)]
    pieces: list[list[int]] = []
    for start in range(0, num_tokens, _SOFT_BATCH):
        painted = tower.tokenize(texts[start : start + _SOFT_BATCH])
        pieces += [
            ids_S[content_S].tolist()
            for ids_S, content_S in zip(painted.ids_NS, painted.content_NS, strict=True)
        ]
    return pieces


def token_offsets(text: str, ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """The characters [start, end) of ``text`` that each of ``ids`` stands for.

    They are found by decoding, since an LLM says words in whatever tokens it likes: a character's
    bytes in several tokens are the first one's. Raises DataError for ids of another text.
    """
    ids = list(ids)
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    ahead = len(text) - len(text.lstrip())
    if decoded.strip() != text.strip():
        # a tokenizer may change what it reads (NFC, lower case): then its own offsets tell
        told = tokenizer(
            " " + text.strip(),
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
        )
        if list(told["input_ids"]) != ids:
            raise DataError(
                f"the span of the caption {text!r} holds the ids {ids}, which are {decoded!r}; "
                "finding a word's own tokens needs those of the caption: put them into the span "
                'unshortened, or choose vocabulary="sentence", which does not look at words'
            )
        return [(max(a + ahead - 1, 0), max(b + ahead - 1, 0)) for a, b in told["offset_mapping"]]
    # a span has a space before the caption, and not those around the caption itself
    shift = len(decoded.lstrip()) - len(decoded) + ahead
    parts = (ids[:k] for k in range(len(ids) + 1))
    lengths = (len(tokenizer.decode(part, skip_special_tokens=True)) for part in parts)
    ends = [min(max(end + shift, 0), len(text)) for end in accumulate(lengths, max)]
    return list(pairwise(ends))


def words(caption: SpokenCaption, tokenizer: Tokenizer) -> Iterator[tuple[list[int], list[int]]]:
    """For each word in reading order, the indices of its LLM tokens and of its pieces.

    A token of nothing but space belongs to no word.
    """
    offsets = token_offsets(caption.text, caption.llm_ids, tokenizer)
    for word in _WORD.finditer(caption.text):
        yield _overlapping(offsets, word.span()), _overlapping(caption.piece_offsets, word.span())


def _overlapping(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    return [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]


# --------------------------------------------------------------------------- Eq. 8-9: equal strings


def static_transformation(
    onehot_NKV: Tensor, weights_NK: Tensor, pairs_P2: Tensor, num_pieces: int
) -> Tensor:
    """avg(R_LLM M) for the M of equal strings, given as its P pairs: ``(N, U)``."""
    llm_ids_P, pieces_P = pairs_P2.unbind(-1)  # Eq. 8
    # pooling and M commute, and pooling first keeps the vocabulary-wide rows few
    pooled_NV = (weights_NK[:, None].type_as(onehot_NKV) @ onehot_NKV)[:, 0]
    carried_NU = pooled_NV.new_zeros(len(pooled_NV), num_pieces)
    return carried_NU.index_add(1, pieces_P, pooled_NV[:, llm_ids_P])  # Eq. 9


# ----------------------------------------------- Eq. 10-11: a block for a caption, or for its words


def sentence_blocks(caption: SpokenCaption, tokenizer: Tokenizer) -> list[Block]:
    """The whole caption as one block, a token that occurs twice counted once."""
    block = Block(
        llm_ids=frozenset(caption.llm_ids),
        pieces=frozenset(caption.pieces),
        positions=caption.llm_positions,
        rows=caption.rows,
    )
    return [block] if block.llm_ids and block.pieces else []


def word_blocks(caption: SpokenCaption, tokenizer: Tokenizer) -> list[Block]:
    """A block for each word, read and fed at every position; M stays binary.

    Where two words share a token pair, the sum of their blocks would count it twice and the
    paper's binary M counts it once. Here it counts once: the LLM tokens are grouped by the
    union of the pieces of all words that they occur in, so that no token is in two blocks.
    """
    partners: dict[int, set[int]] = {}
    for tokens, pieces in words(caption, tokenizer):
        for token in tokens:
            partners.setdefault(caption.llm_ids[token], set()).update(
                caption.pieces[piece] for piece in pieces
            )
    groups: dict[frozenset[int], set[int]] = {}
    for llm_id, piece_ids in partners.items():
        groups.setdefault(frozenset(piece_ids), set()).add(llm_id)
    return [
        Block(
            llm_ids=frozenset(llm_ids),
            pieces=pieces,
            positions=caption.llm_positions,
            rows=caption.rows,
        )
        for pieces, llm_ids in groups.items()
        if pieces
    ]


def aligned_blocks(caption: SpokenCaption, tokenizer: Tokenizer) -> list[Block]:
    """A block for each occurrence of a word, read at its own tokens, fed to its own pieces."""
    return [
        Block(
            llm_ids=frozenset(caption.llm_ids[token] for token in tokens),
            pieces=frozenset(caption.pieces[piece] for piece in pieces),
            positions=[caption.llm_positions[token] for token in tokens],
            rows=[caption.piece_rows[piece] for piece in pieces],
        )
        for tokens, pieces in words(caption, tokenizer)
        if tokens and pieces
    ]


BLOCKS: dict[str, Callable[[SpokenCaption, Tokenizer], list[Block]]] = {
    "sentence": sentence_blocks,
    "word": word_blocks,
    "aligned": aligned_blocks,
}


def straight_through_embeddings(
    probs_NKJ: Tensor,
    matrices: DynamicMatrices,
    onehot_embeds_NSC: Tensor,
    *,
    pool: Callable[[Tensor], Tensor],
) -> Tensor:
    """R_SD E, its value untouched, its gradient also that of avg(R_LLM M) E.

    ``probs_NKJ`` are the columns of p_GS (or of R_LLM, whose gradient is that of p_GS) that the
    blocks read; ``onehot_embeds_NSC`` is E[ids].
    """
    weights_NBK = pool(matrices.reads_NBK).type_as(probs_NKJ)
    # with M = a b^T: avg(R_LLM M) = mass b^T, mass = avg(sum_{v in T_LLM} R_LLM[:, v])
    mass_NB = ((weights_NBK @ probs_NKJ) * matrices.member_NBJ).sum(-1)  # Eq. 10
    carried_NB1 = (mass_NB - mass_NB.detach())[..., None]
    rows_NSB = (matrices.feeds_NBS * carried_NB1).mT.type_as(onehot_embeds_NSC)
    # a sum and not baddbmm, which autocast would round, and the caption's own value with it
    return onehot_embeds_NSC + rows_NSB @ matrices.sums_NBC  # Eq. 11


# --------------------------------------------------------------------------------------- the bridge


def gold_captions(
    spans: PhotoSpans, noisy_NKV: Tensor, tokenizer: Tokenizer
) -> tuple[Sequence[str], Tensor]:
    """What the dialogue says, and its ids."""
    return spans.captions, spans.ids_NK


def predicted_captions(
    spans: PhotoSpans, noisy_NKV: Tensor, tokenizer: Tokenizer
) -> tuple[Sequence[str], Tensor]:
    """What the teacher-forced LLM would say (its R_LLM, decoded), and the ids."""
    ids_NK = noisy_NKV.argmax(-1)
    texts = [
        tokenizer.decode(ids_K[mask_K].tolist(), skip_special_tokens=True)
        for ids_K, mask_K in zip(ids_NK, spans.mask_NK, strict=True)
    ]
    return texts, ids_NK


CAPTIONS = {"gold": gold_captions, "predicted": predicted_captions}


class Dvtm(Bridge):
    """Photo spans -> conditioning, with the photo loss carried back into the LLM's logits.

    ``tokenizer`` is the LLM's. The temperature is a buffer, so a checkpoint keeps it.
    """

    settings = DvtmConfig
    config: DvtmConfig
    temperature: Tensor
    _pairs: Tensor | None

    def __init__(self, config: DvtmConfig, *, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer=tokenizer)
        self.tokenizer = tokenizer
        self.register_buffer("temperature", torch.tensor(config.temperature_start))
        # what the static and soft maps make of the two vocabularies, once there is a painter;
        # a bridge serves one painter
        self.register_buffer("_pairs", None, persistent=False)
        self._pieces: list[list[int]] | None = None

    def advance(self, epoch: float, *, of: float) -> None:
        config = self.config
        anneal = ANNEALINGS[config.annealing]
        progress = min(max(epoch / (config.annealing_epochs or of), 0.0), 1.0)
        self.temperature.fill_(anneal(config.temperature_start, config.temperature_final, progress))

    def forward(self, spans: PhotoSpans, painter: Painter, *, generator: Die) -> Conditioning:
        tower = painter.text
        trained = spans.logits_NKV.requires_grad and self.config.reads_logits
        if self.config.vocabulary != "soft" and not trained:
            # 2.4.2: "For inference, we directly feed R_SD": the value below is the caption's own,
            # and without a gradient there is nothing else. A dev loss is thus on gold captions.
            return caption_conditioning(spans.captions, tower)
        noisy_NKV = spans.logits_NKV
        if self.config.gumbel:
            # into the noise's own memory: nothing else of this size is kept
            noisy_NKV = gumbel_noise(noisy_NKV, generator=generator).add_(noisy_NKV)
        if self.config.vocabulary == "soft":
            return self._soft(spans, noisy_NKV, tower)

        choose = CAPTIONS[self.config.caption_for_denoiser]
        texts, ids_NK = choose(spans, noisy_NKV, self.tokenizer)
        if self.config.vocabulary == "none":
            return caption_conditioning(texts, tower)
        tokens = tower.tokenize(texts)
        carry = self._static if self.config.vocabulary == "static" else self._dynamic
        embeds_NSC = carry(texts, ids_NK, self._content(spans, ids_NK), noisy_NKV, tokens, tower)
        return Conditioning(cond_NSC=tower(tokens, embeds_NSC))

    def losses(
        self, conditioning: Conditioning, gold: PhotoTargets, painter: Painter, *, generator: Dice
    ) -> dict[str, Tensor]:
        """{"v": ...}: the painter's loss on the gold photos."""
        loss = painter.loss(conditioning.cond_NSC, gold.pixels_N3HW, generator=generator)  # Eq. 12
        # Eq. 13, L = L_t + alpha L_v, is the Stage's sum: alpha is its weight of "v".
        return {"v": loss}

    def _content(self, spans: PhotoSpans, ids_NK: Tensor) -> Tensor:
        special = ids_NK.new_tensor(sorted(special_ids(self.tokenizer)))
        return spans.mask_NK & ~torch.isin(ids_NK, special)

    def _dynamic(
        self,
        texts: Sequence[str],
        ids_NK: Tensor,
        content_NK: Tensor,
        noisy_NKV: Tensor,
        tokens: PainterTokens,
        tower: TextTower,
    ) -> Tensor:
        """sentence, word, aligned: only the columns of the caption's tokens are ever made."""
        table_UC = tower.token_table_UC
        build = BLOCKS[self.config.vocabulary]
        captions = spoken_captions(texts, ids_NK, content_NK, tokens)
        matrices = dynamic_matrices(
            [build(caption, self.tokenizer) for caption in captions],
            num_positions=ids_NK.shape[1],
            num_rows=tokens.ids_NS.shape[1],
            table_UC=table_UC,
        )
        num_positions, num_tokens = noisy_NKV.shape[1:]
        probs_RJ = token_probabilities(
            noisy_NKV.reshape(-1, num_tokens),
            matrices.tokens_NJ.repeat_interleave(num_positions, 0),
            temperature=float(self.temperature),
        )
        return straight_through_embeddings(
            probs_RJ.view(*noisy_NKV.shape[:2], -1),
            matrices,
            F.embedding(tokens.ids_NS, table_UC),
            pool=POOLINGS[self.config.pooling],
        )

    def _static(
        self,
        texts: Sequence[str],
        ids_NK: Tensor,
        content_NK: Tensor,
        noisy_NKV: Tensor,
        tokens: PainterTokens,
        tower: TextTower,
    ) -> Tensor:
        """static: the same M for every caption; all of p_GS is needed."""
        table_UC = tower.token_table_UC
        if self._pairs is None:
            pairs = matching_strings(self.tokenizer, tower)
            if not pairs:
                raise ConfigError(
                    'the two vocabularies have no string in common, so vocabulary "static" '
                    'would carry nothing; choose "sentence"'
                )
            self._pairs = torch.tensor(pairs, device=table_UC.device)
        onehot_NKV = straight_through(gumbel_softmax(noisy_NKV, temperature=self.temperature))
        weights_NK = POOLINGS[self.config.pooling](content_NK.type_as(onehot_NKV))
        carried_NU = static_transformation(onehot_NKV, weights_NK, self._pairs, len(table_UC))
        carried_NU = (carried_NU - carried_NU.detach()).type_as(table_UC)  # as in Equation 11
        rows_NS = torch.zeros_like(tokens.content_NS)
        for n, caption in enumerate(spoken_captions(texts, ids_NK, content_NK, tokens)):
            rows_NS[n, list(caption.rows)] = True
        embeds_NSC = F.embedding(tokens.ids_NS, table_UC)
        return embeds_NSC + rows_NS[..., None] * (carried_NU @ table_UC.detach())[:, None]

    def _soft(self, spans: PhotoSpans, noisy_NKV: Tensor, tower: TextTower) -> Conditioning:
        """soft: p_GS @ (S E), S the map from a token to the mean of its pieces.

        The painter reads the LLM's positions where a caption would stand in its own: after BOS (or
        what else its text encoder is told first), before EOS and padding.
        """
        table_UC = tower.token_table_UC
        if self._pieces is None:
            self._pieces = pieces_of_each_token(
                self.tokenizer, tower, num_tokens=noisy_NKV.shape[-1]
            )
        soft_NKV = gumbel_softmax(noisy_NKV, temperature=self.temperature)
        mixtures_NKC = soft_NKV.type_as(table_UC) @ bag_rows(self._pieces, table_UC, mode="mean")

        empty, one = tower.tokenize(["", "a"]), 1
        first = int(empty.content_NS[one].nonzero()[0])
        empty_S = empty.ids_NS[0]
        after = empty_S[first:]
        padding = int((after.flip(0) == after[-1]).long().cumprod(0).sum())
        room = len(after) - max(len(after) - padding, 1)
        ids_NS = empty_S.repeat(len(mixtures_NKC), 1)
        sources, places = [], []
        for n, content_K in enumerate(self._content(spans, spans.ids_NK)):
            positions = content_K.nonzero()[:, 0].tolist()[:room]
            for s, k in enumerate(positions, start=first):
                said = self._pieces[int(spans.ids_NK[n, k])]
                # the tower only looks for BOS, EOS and padding in ids that embeddings stand for
                ids_NS[n, s] = said[0] if said else empty_S[0]
                sources.append((n, k))
                places.append((n, s))
            ids_NS[n, first + len(positions) :] = after[: len(after) - len(positions)]
        embeds_NSC = F.embedding(ids_NS, table_UC)
        if places:
            place = torch.tensor(places, device=ids_NS.device).unbind(-1)
            source = torch.tensor(sources, device=ids_NS.device).unbind(-1)
            # under autocast the product above is of fewer digits than the table
            embeds_NSC = embeds_NSC.index_put(place, mixtures_NKC[source].type_as(embeds_NSC))
        tokens = replace(tower.tokenize(spans.captions), ids_NS=ids_NS)
        return Conditioning(cond_NSC=tower(tokens, embeds_NSC))


# ------------------------------------------------------------------------------- stages and presets


# Section 3.1. Eighty passes over PhotoChat as released, which patience cuts short: the paper gives
# no limit. Alpha is the weight of v; moment and caption are the house's own losses.
PAPER = Stage(
    name="end_to_end",
    steps=25_000,
    batch_size=32,
    learning_rate=5e-5,
    weight_decay=0.01,
    learning_rates={"painter.text": 0.0, "painter.vae": 0.0, "captioner": 0.0},
    warmup=1000,
    clip=None,
    weights={"t": 1.0, "v": 1.0, "moment": 0.0, "caption": 0.0},
    evaluate_every=320,
    patience=4,
    patience_metrics=("-perplexity",),
)
PRESETS: dict[str, DvtmConfig] = {
    "paper": DvtmConfig(),
    "release": DvtmConfig(
        gumbel=False, temperature_final=1.0, pooling="sum", caption_for_denoiser="predicted"
    ),
}
# The released code's choices, as settings of a recipe that has ``bridge`` and ``stage``. The LLM's
# table and head move beside LoRA, and the rate falls by half where dev BLEU-2 is no better.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "paper": (),
    "release": (
        "bridge.gumbel=false",
        "bridge.temperature_final=1",
        "bridge.pooling=sum",
        "bridge.caption_for_denoiser=predicted",
        "photo_encoder=none",
        "learnt=both",
        "adapter=lora",
        "lora.rank=32",
        "lora.alpha=32",
        "lora.dropout=0.1",
        'lora.targets=["q_proj","k_proj","v_proj"]',
        "stage.learning_rates.language.model.model.embed_tokens=1",
        "stage.learning_rates.language.model.lm_head=1",
        "stage.batch_size=16",
        "stage.warmup=400",
        "stage.clip=400",
        "stage.decay=plateau",
        "stage.decay_factor=0.5",
        "stage.patience=6",
        'stage.patience_metrics=["bleu2"]',
    ),
}
