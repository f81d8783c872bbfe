"""Where the words of a caption stand in two tokenizers, and which tokens of the two correspond.

Everything here is lists of integers, a caption or a vocabulary at a time. What the vocabulary
transformation of 2408.08650 makes of them stands in ``dvtm.py`` and ``dvtm_blocks.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from torch import Tensor

from showtell.errors import DataError
from showtell.models.parts import PainterTokens, TextTower, Tokenizer

# a word with its apostrophes, or one mark of punctuation
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
_SOFT_BATCH = 1024


class CaptionTokenizer(Tokenizer, Protocol):
    """The LLM's tokenizer (a fast one: it knows character offsets)."""

    @property
    def all_special_ids(self) -> list[int]: ...
    @property
    def added_tokens_decoder(self) -> dict: ...


def special_ids(tokenizer: CaptionTokenizer) -> set[int]:
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


def matching_strings(tokenizer: CaptionTokenizer, tower: TextTower) -> list[tuple[int, int]]:
    """(LLM id, painter id) of every pair of tokens whose strings are equal but for space marks.

    A leading "Ġ" (byte-level BPE) or "▁" (SentencePiece) marks the start of a word, a trailing
    "</w>" (CLIP) its end; both are set aside, so that "Ġcat" meets "cat" and "cat</w>".
    """
    special = set(tower.tokenize([""]).ids_NS.flatten().tolist())
    painter_ids: dict[str, list[int]] = {}
    for token, piece in tower.tokenizer.get_vocab().items():
        if piece not in special:
            painter_ids.setdefault(token.removesuffix("</w>"), []).append(piece)
    special = special_ids(tokenizer)
    return sorted(
        (llm_id, piece)
        for token, llm_id in tokenizer.get_vocab().items()
        if llm_id not in special and (word := token.lstrip("\u0120\u2581"))
        for piece in painter_ids.get(word, ())
    )


def pieces_of_each_token(
    tokenizer: CaptionTokenizer, tower: TextTower, *, num_tokens: int
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


def token_offsets(
    text: str, ids: Sequence[int], tokenizer: CaptionTokenizer
) -> list[tuple[int, int]]:
    """The characters [start, end) of ``text`` that each of ``ids`` stands for.

    A span may have been tokenised with a space on either side of the caption, or with those that
    the caption has itself taken off; all are tried. Ids that the tokenizer would not choose (the
    words of an LLM) are found by decoding them: a character's bytes in several tokens are the
    first one's. Raises DataError for ids of another text.
    """
    bare = text.strip()
    ahead = len(text) - len(text.lstrip())
    variants = [
        (before + core + after, shift - len(before))
        for core, shift in ((bare, ahead), (text, 0))
        for before, after in ((" ", ""), ("", ""), (" ", " "), ("", " "))
    ]
    for whole, shift in variants:
        encoded = tokenizer(
            whole,
            add_special_tokens=False,
            split_special_tokens=True,  # words that look like marks are words
            return_offsets_mapping=True,
        )
        if list(encoded["input_ids"]) == list(ids):
            # characters of an added space belong to no word; clipping leaves them out
            return [
                (max(start + shift, 0), min(end + shift, len(text)))
                for start, end in encoded["offset_mapping"]
            ]
    ids = list(ids)
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    if decoded.strip() == bare:
        shift = ahead - (len(decoded) - len(decoded.lstrip()))
        lengths = (
            len(tokenizer.decode(ids[:k], skip_special_tokens=True)) for k in range(len(ids) + 1)
        )
        ends = [min(max(end + shift, 0), len(text)) for end in accumulate(lengths, max)]
        return list(pairwise(ends))
    alone = tokenizer(bare, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    raise DataError(
        f"the span of the caption {text!r} holds the ids {ids}, which are {decoded!r}; its "
        f"tokenizer gives {list(alone)}, and other ids with spaces around it; finding a word's own "
        f"tokens needs the ids of the caption's own text: put them into the span unshortened, or "
        f'choose vocabulary="sentence", which does not look at words'
    )


def words(
    caption: SpokenCaption, tokenizer: CaptionTokenizer
) -> Iterator[tuple[list[int], list[int]]]:
    """For each word in reading order, the indices of its LLM tokens and of its pieces.

    A token of nothing but space belongs to no word.
    """
    offsets = token_offsets(caption.text, caption.llm_ids, tokenizer)
    for word in _WORD.finditer(caption.text):
        yield _overlapping(offsets, word.span()), _overlapping(caption.piece_offsets, word.span())


def _overlapping(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    return [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
