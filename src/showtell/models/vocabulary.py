"""New tokens for an LLM whose own vocabulary stays as it is: only the new rows exist and move.

    ids = language.grow_vocabulary(("[IMG0]", "[IMG1]"), seed=0)   # ids of the tokens, in order
    language.embed(ids), language.head(hidden)                     # know them from here on
    language.new_tokens.parameters()                               # all that has to be trained

The published systems resize the LLM's two matrices, keep both in the optimiser and multiply the
gradients of the old rows by zero (MiniGPT-5, GILL); AdamW's decay shrinks the "frozen" rows all the
same. Here the old matrices are never copied, resized or masked: an id from ``first_id`` on is
looked up in ``input_nD``, and the new tokens' logits, hidden @ output_nD^T, stand after the old.

A tied head (one matrix for reading and saying) stays tied: one row a token. An untied one gives a
token two rows. The rows are float32 whatever the LLM is; they are read in the LLM's own type.

Source: 2310.02239, section 2.1 (theta_voken_input, theta_voken_output), whose release starts each
row at the mean of the old ones. n new tokens, other letters as in ``models/parts.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torch.func import functional_call

from showtell.errors import ConfigError
from showtell.models.folders import reading, save_rows

FILE = "new_tokens.safetensors"
NOISE = 0.1


class NewTokens(nn.Module):
    """The rows of n tokens that a vocabulary has gained.

    ``first_id``: the id of the first; all old ids are below it. ``output_nD`` None: the head is
    tied, and ``input_nD`` serves for both.
    """

    def __init__(
        self, tokens: Sequence[str], *, first_id: int, input_nD: Tensor, output_nD: Tensor | None
    ) -> None:
        super().__init__()
        self.tokens = tuple(tokens)
        self.first_id = first_id
        self.input_nD = nn.Parameter(input_nD)
        self.output_nD = None if output_nD is None else nn.Parameter(output_nD)

    @property
    def ids(self) -> list[int]:
        return list(range(self.first_id, self.first_id + len(self.tokens)))

    @property
    def said_nD(self) -> Tensor:
        """The rows that the head multiplies: the input's where it is tied."""
        return self.input_nD if self.output_nD is None else self.output_nD

    def embed(self, ids_BT: Tensor, table: nn.Module) -> Tensor:
        """The rows of old and new ids; ``table`` is the LLM's own embedding, and whatever it does
        to its rows (Gemma scales them) it does to the new ones."""
        new_BT = ids_BT >= self.first_id
        old_BTD = table(ids_BT.masked_fill(new_BT, 0))
        places_BT = (ids_BT - self.first_id).clamp_min(0)
        if type(table) is nn.Embedding:
            rows_BTD = F.embedding(places_BT, self.input_nD)
        else:
            rows_BTD = functional_call(table, {"weight": self.input_nD}, (places_BT,))
        return torch.where(new_BT[..., None], rows_BTD.to(old_BTD.dtype), old_BTD)

    def logits(self, hidden: Tensor, old_logits: Tensor) -> Tensor:
        """The old tokens' logits, untouched, and after them those of the new ones.

        A matrix may have more rows than the tokenizer has tokens (some are padded); those rows
        stand for nothing and are left out, so that a place in the result is a token's id. A head
        may have fewer (Llama-Vision's has none for <|image|>): such a token is never said.
        """
        new = F.linear(hidden, self.said_nD.to(hidden.dtype)).to(old_logits.dtype)
        lacks = max(0, self.first_id - old_logits.shape[-1])
        shut = torch.finfo(old_logits.dtype).min
        never = old_logits.new_full((*old_logits.shape[:-1], lacks), shut)
        return torch.cat([old_logits[..., : self.first_id], never, new], dim=-1)

    # ------------------------------------------------------------------------------ on disk

    def save(self, folder: Path) -> None:
        # one note: of several, safetensors keeps no order, and equal models get unequal files
        notes = json.dumps({"tokens": self.tokens, "first_id": self.first_id})
        save_rows(dict(self.named_parameters()), folder / FILE, vocabulary=notes)

    @classmethod
    def load(cls, folder: Path) -> NewTokens | None:
        """None where a folder has none. Raises CheckpointError for a broken file."""
        path = folder / FILE
        if not path.is_file():
            return None
        wanted = f"{FILE}, the rows of new tokens, as save_pretrained writes it"
        with reading("the vocabulary", folder, wanted=wanted):
            with safe_open(path, framework="pt") as file:
                notes = file.metadata()
                rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if "tokens" in notes:  # as files before had it
                told = {"tokens": json.loads(notes["tokens"]), "first_id": notes["first_id"]}
            else:
                told = json.loads(notes["vocabulary"])
            return cls(
                told["tokens"],
                first_id=int(told["first_id"]),
                input_nD=rows["input_nD"],
                output_nD=rows.get("output_nD"),
            )


def first_rows(weight_VD: Tensor, count: int, *, generator: torch.Generator) -> Tensor:
    """``count`` float32 rows: the mean of the old ones, and normal noise of ``NOISE`` of their
    spread around it (the release of 2310.02239 has none: its tokens start as one)."""
    weight_VD = weight_VD.detach().float()
    mean_D = weight_VD.mean(0)
    if mean_D.is_meta:  # sizes alone are asked for
        return mean_D.expand(count, -1)
    spread = float((weight_VD - mean_D).square().mean().sqrt())
    normal_nD = torch.randn((count, len(mean_D)), generator=generator).to(mean_D.device)
    return mean_D + NOISE * spread * normal_nD


def grown(
    old: NewTokens | None,
    tokens: Sequence[str],
    *,
    table: nn.Module,
    head: nn.Module | None,
    first_id: int,
    seed: int,
) -> NewTokens:
    """``old`` and, after it, rows for ``tokens``. The old rows keep their values.

    Raises ConfigError for an LLM whose matrices are not a plain table and a plain product.
    """
    known = first_id if old is None else old.first_id
    generator = torch.Generator().manual_seed(seed)
    rows = {
        name: first_rows(weight_VD[:known], len(tokens), generator=generator)
        for name, weight_VD in _plain(table, head, first_id=known).items()
    }
    if old is not None:
        tokens = (*old.tokens, *tokens)
        rows = {name: torch.cat([getattr(old, name).detach(), rows[name]]) for name in rows}
    return NewTokens(
        tokens, first_id=known, input_nD=rows["input_nD"], output_nD=rows.get("output_nD")
    )


def _plain(table: nn.Module, head: nn.Module | None, *, first_id: int) -> dict[str, Tensor]:
    """The weights that new rows stand beside: the table's, and the head's where it has its own."""
    kinds = {"input embedding": (table, nn.Embedding), "head": (head, nn.Linear)}
    for what, (module, kind) in kinds.items():
        # a table of another class reads the new rows as well; a head of one would not say them
        fits = isinstance(module, kind) if kind is nn.Embedding else type(module) is kind
        if not fits or getattr(module, "bias", None) is not None:
            raise ConfigError(
                f"the {what} of this language model is {type(module).__name__}; new tokens fit a "
                f"plain {kind.__name__} without a bias; use a language model that has one"
            )
    weight_VD, said_VD = table.weight, head.weight  # type: ignore[union-attr]
    assert isinstance(weight_VD, Tensor) and isinstance(said_VD, Tensor)
    if len(weight_VD) < first_id:
        raise ConfigError(
            f"the tokenizer has {first_id} tokens and the language model {len(weight_VD)} rows; "
            "these are parts of two models; give the tokenizer that the model was trained with"
        )
    return {"input_nD": weight_VD} | ({} if weight_VD is said_VD else {"output_nD": said_VD})
