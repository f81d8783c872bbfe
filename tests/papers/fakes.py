"""A tiny LLM tokenizer, a tiny painter with another vocabulary, and spans between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from showtell.models.parts import PainterTokens, PhotoSpans

CAPTIONS = (
    "a red cat beside a red catfish",
    "two dogs on the doghouse, at night",
    "a dog",
)
CORPUS = [*CAPTIONS, "the red doghouse", "cat cat cat", "dogs and catfish at night", "red red"] * 3


def llm_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, which marks the start of a word, as GPT-2's."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>", "[IMG]", "[/IMG]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


class FakeTower:
    """A text tower of CLIP's layout: BOS, pieces, EOS, padding; marks the end of a word."""

    def __init__(self, *, num_rows: int, width: int, dtype: torch.dtype = torch.float64) -> None:
        bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
        bpe.normalizer = normalizers.Lowercase()
        bpe.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=70,
            special_tokens=["<pad>", "<bos>", "<eos>", "<unk>"],
            end_of_word_suffix="</w>",
            show_progress=False,
        )
        bpe.train_from_iterator(CORPUS, trainer)
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bpe, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
        )
        rng = torch.Generator().manual_seed(3)
        shape = (len(self.tokenizer), width)
        self.token_table_UC = torch.randn(shape, generator=rng, dtype=dtype)
        self.positions_SC = torch.randn((num_rows, width), generator=rng, dtype=dtype)
        self.length, self.sizes = num_rows, (width, num_rows)

    def tokenize(self, captions: Sequence[str]) -> PainterTokens:
        num_rows = len(self.positions_SC)
        ids, content, offsets = [], [], []
        for caption in captions:
            encoded = self.tokenizer(caption, add_special_tokens=False, return_offsets_mapping=True)
            pieces = encoded["input_ids"][: num_rows - 2]
            rest = num_rows - 2 - len(pieces)
            ids.append([1, *pieces, 2] + [0] * rest)
            content.append([False] + [True] * len(pieces) + [False] * (rest + 1))
            places = [tuple(p) for p in encoded["offset_mapping"][: len(pieces)]]
            offsets.append([(0, 0), *places] + [(0, 0)] * (rest + 1))
        return PainterTokens(
            captions=captions,
            ids_NS=torch.tensor(ids),
            content_NS=torch.tensor(content),
            offsets_NS2=torch.tensor(offsets),
        )

    def encode(self, captions: Sequence[str]) -> Tensor:
        return self(self.tokenize(captions))

    def __call__(self, tokens: PainterTokens, embeds_NSC: Tensor | None = None) -> Tensor:
        if embeds_NSC is None:
            embeds_NSC = self.token_table_UC[tokens.ids_NS]
        return torch.tanh((embeds_NSC + self.positions_SC).cumsum(1) / 3)


class LinearTower(FakeTower):
    """States that are the embeddings, so that a test can choose the gradient of each row."""

    def __call__(self, tokens: PainterTokens, embeds_NSC: Tensor | None = None) -> Tensor:
        return self.token_table_UC[tokens.ids_NS] if embeds_NSC is None else embeds_NSC


class FakePainter:
    def __init__(self, tower: FakeTower) -> None:
        self.text = tower

    def loss(
        self,
        cond_NSC: Tensor,
        pixels_N3HW: Tensor,
        *,
        generator: torch.Generator,
        snr_gamma: float | None = None,
    ) -> Tensor:
        noise_NSC = torch.randn(cond_NSC.shape, generator=generator, dtype=cond_NSC.dtype)
        return ((cond_NSC - noise_NSC - pixels_N3HW.mean()) ** 2).mean()


def state_spans(
    after_NKD: Tensor, captions: Sequence[str], *, before_NKD: Tensor, embeds_NKD: Tensor
) -> PhotoSpans:
    """Spans of tokens that are a bridge's own, of which the states alone matter."""
    shape = after_NKD.shape[:2]
    return PhotoSpans(
        ids_NK=torch.zeros(shape, dtype=torch.long),
        mask_NK=torch.ones(shape, dtype=torch.bool),
        embeds_NKD=embeds_NKD,
        before_NKD=before_NKD,
        after_NKD=after_NKD,
        logits_NKV=torch.zeros(*shape, 9),
        captions=captions,
    )


def make_spans(
    tokenizer: PreTrainedTokenizerFast,
    captions: Sequence[str] = CAPTIONS,
    *,
    padding: int = 2,
    leading_space: bool = True,
    with_eos: bool = False,
    seed: int = 0,
) -> PhotoSpans:
    """Spans whose logits lean to the caption; a row's own numbers do not depend on the others."""
    prefix = " " if leading_space else ""
    rows = [tokenizer(prefix + c, add_special_tokens=False)["input_ids"] for c in captions]
    if with_eos:
        rows = [[*row, tokenizer.eos_token_id] for row in rows]
    longest = max(map(len, rows)) + padding
    ids_NK = torch.zeros(len(rows), longest, dtype=torch.long)
    mask_NK = torch.zeros(len(rows), longest, dtype=torch.bool)
    logits_NKV = torch.full((len(rows), longest, len(tokenizer)), 0.5, dtype=torch.float64)
    for n, row in enumerate(rows):
        rng = torch.Generator().manual_seed(seed + len(captions[n]))
        ids_NK[n, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask_NK[n, : len(row)] = True
        shape = (len(row), len(tokenizer))
        lean_V = torch.zeros(len(tokenizer), dtype=torch.float64)
        lean_V[row] = 4.0
        noise_KV = torch.randn(shape, generator=rng, dtype=torch.float64)
        logits_NKV[n, : len(row)] = noise_KV + lean_V
    states_NKD = torch.zeros(len(rows), longest, 1)
    return PhotoSpans(
        ids_NK=ids_NK,
        mask_NK=mask_NK,
        embeds_NKD=states_NKD,
        before_NKD=states_NKD,
        after_NKD=states_NKD,
        logits_NKV=logits_NKV.requires_grad_(),
        captions=list(captions),
    )
