"""What the end-to-end bridge costs, beside the sparse-matrix way of the released code.

    python benchmarks/bench_bridge.py [--runs 15] [--threads 2] [--json FILE]

Random tensors of the real sizes: 32 captions of 32 tokens, vocabularies of 32,000 and 49,408,
width 1,024, fp32. Three measurements, each way in turn within every run, on the same tensors:

    rows      given one-hot rows r of the LLM -> embeddings, forward and backward
    logits    the logits -> embeddings, forward and backward
    marginal  what the bridge adds to a step that computes the text loss on the same logits

The released way is written here from its description: for each caption an LLM x painter sparse
COO matrix of ones on unique ids x unique ids; straight-through one-hot rows summed over the
positions, times the matrix, copied to every row of a dense painter-vocabulary one-hot; the token
table by a dense product. (No Gumbel noise and no temperature in it; hence none here. Noise must
be drawn for the whole vocabulary before the softmax and costs both ways the same.) Its captions
are decoded from the argmax; here both ways are handed the ids.

Both must give equal embeddings and gradients, or this script fails. Memory is the peak of what
torch allocates during the step, beyond the inputs; "beyond the result" leaves out the embeddings
and the gradient, which either way has to return.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import bench
import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.papers.e2e import POOLINGS, straight_through_embeddings
from showtell.papers.e2e_kernel import (
    Block,
    DynamicMatrices,
    dynamic_matrices,
    token_probabilities,
)

GOALS = {"rows": 20.0, "logits": 6.0, "marginal": 50.0}
BOS, EOS = 0, 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch of captions in both vocabularies, and the photo loss's gradient on them."""

    llm_ids_NK: Tensor
    pieces_NS: Tensor  # BOS, pieces, EOS
    table_UC: Tensor
    logits_NKV: Tensor
    onehot_NKV: Tensor
    photo_grad_NSC: Tensor

    def matrices(self) -> DynamicMatrices:
        num_rows = self.pieces_NS.shape[1]
        blocks = [
            [
                Block(
                    llm_ids=frozenset(ids),
                    pieces=frozenset(pieces[1:-1]),
                    positions=range(len(ids)),
                    rows=range(num_rows),
                )
            ]
            for ids, pieces in zip(self.llm_ids_NK.tolist(), self.pieces_NS.tolist(), strict=True)
        ]
        return dynamic_matrices(
            blocks,
            num_positions=self.llm_ids_NK.shape[1],
            num_rows=num_rows,
            table_UC=self.table_UC,
        )


def make_case(*, captions: int, tokens: int, llm: int, painter: int, width: int) -> Case:
    rng = torch.Generator().manual_seed(0)
    llm_ids_NK = torch.randint(3, llm, (captions, tokens), generator=rng)
    llm_ids_NK[:, -1] = llm_ids_NK[:, 0]  # a word that occurs twice
    pieces_NS = torch.randint(2, painter, (captions, tokens + 2), generator=rng)
    pieces_NS[:, 0], pieces_NS[:, -1] = BOS, EOS
    logits_NKV = torch.randn(captions, tokens, llm, generator=rng)
    logits_NKV.scatter_(-1, llm_ids_NK[..., None], 12.0)  # a model that has learnt its captions
    return Case(
        llm_ids_NK=llm_ids_NK,
        pieces_NS=pieces_NS,
        table_UC=torch.randn(painter, width, generator=rng) / width**0.5,
        logits_NKV=logits_NKV.requires_grad_(),
        onehot_NKV=F.one_hot(llm_ids_NK, llm).float().requires_grad_(),
        photo_grad_NSC=torch.randn(captions, tokens + 2, width, generator=rng),
    )


# --- the released way ---------------------------------------------------------------------------


def released_embeddings(case: Case, rows_of: Callable[[int], Tensor]) -> Tensor:
    num_pieces = len(case.table_UC)
    painted = []
    for n, pieces_S in enumerate(case.pieces_NS):
        rows_KV = rows_of(n)
        llm_ids = torch.tensor(sorted(set(case.llm_ids_NK[n].tolist())))
        pieces = torch.tensor(sorted(set(pieces_S.tolist()) - {BOS, EOS}))
        places = torch.stack([llm_ids.repeat_interleave(len(pieces)), pieces.repeat(len(llm_ids))])
        matrix_VU = torch.sparse_coo_tensor(
            places,
            torch.ones(places.shape[1]),
            (rows_KV.shape[1], num_pieces),
            check_invariants=False,
        )
        carried_1U = rows_KV.sum(0, keepdim=True) @ matrix_VU
        carried_SU = carried_1U.repeat(len(pieces_S), 1)
        onehot_SU = torch.zeros_like(carried_SU).scatter_(-1, pieces_S[:, None], 1.0)
        painted.append(onehot_SU + (carried_SU - carried_SU.detach()))
    return torch.stack(painted) @ case.table_UC


def released_onehot(case: Case, n: int) -> Tensor:
    logits_KV = case.logits_NKV[n]
    top_K1 = logits_KV.max(-1, keepdim=True).indices
    onehot_KV = torch.zeros_like(logits_KV).scatter_(-1, top_K1, 1.0)
    soft_KV = logits_KV.softmax(-1)
    return onehot_KV + (soft_KV - soft_KV.detach())


# --- the closed form ----------------------------------------------------------------------------


def closed_embeddings(case: Case, probs_NKJ: Tensor, matrices: DynamicMatrices) -> Tensor:
    return straight_through_embeddings(
        probs_NKJ, matrices, F.embedding(case.pieces_NS, case.table_UC), pool=POOLINGS["sum"]
    )


def columns_per_row(case: Case, matrices: DynamicMatrices) -> tuple[Tensor, Tensor]:
    """The logits as rows, and for each row the tokens of its caption."""
    num_positions, num_tokens = case.logits_NKV.shape[1:]
    ids_RJ = matrices.tokens_NJ.repeat_interleave(num_positions, 0)
    return case.logits_NKV.reshape(-1, num_tokens), ids_RJ


# --- the steps ----------------------------------------------------------------------------------


def rows_released(case: Case) -> Tensor:
    embeds_NSC = released_embeddings(case, lambda n: case.onehot_NKV[n])
    embeds_NSC.backward(case.photo_grad_NSC)
    return embeds_NSC


def rows_closed(case: Case) -> Tensor:
    matrices = case.matrices()
    tokens_NKJ = matrices.tokens_NJ[:, None].expand(-1, case.onehot_NKV.shape[1], -1)
    embeds_NSC = closed_embeddings(case, case.onehot_NKV.gather(2, tokens_NKJ), matrices)
    embeds_NSC.backward(case.photo_grad_NSC)
    return embeds_NSC


def logits_released(case: Case) -> Tensor:
    embeds_NSC = released_embeddings(case, lambda n: released_onehot(case, n))
    embeds_NSC.backward(case.photo_grad_NSC)
    return embeds_NSC


def logits_closed(case: Case) -> Tensor:
    matrices = case.matrices()
    probs_RJ = token_probabilities(*columns_per_row(case, matrices))
    probs_NKJ = probs_RJ.view(*case.llm_ids_NK.shape, -1)
    embeds_NSC = closed_embeddings(case, probs_NKJ, matrices)
    embeds_NSC.backward(case.photo_grad_NSC)
    return embeds_NSC


def text_torch(case: Case) -> None:
    F.cross_entropy(case.logits_NKV.flatten(0, 1), case.llm_ids_NK.flatten()).backward()


def text_and_released(case: Case) -> Tensor:
    loss = F.cross_entropy(case.logits_NKV.flatten(0, 1), case.llm_ids_NK.flatten())
    embeds_NSC = released_embeddings(case, lambda n: released_onehot(case, n))
    torch.autograd.backward([loss, embeds_NSC], [None, case.photo_grad_NSC])
    return embeds_NSC


def text_and_closed(case: Case) -> Tensor:
    matrices = case.matrices()
    rows_RV, ids_RJ = columns_per_row(case, matrices)
    loss = F.cross_entropy(rows_RV, case.llm_ids_NK.flatten())
    probs_RJ = token_probabilities(rows_RV, ids_RJ)
    embeds_NSC = closed_embeddings(case, probs_RJ.view(*case.llm_ids_NK.shape, -1), matrices)
    torch.autograd.backward([loss, embeds_NSC], [None, case.photo_grad_NSC])
    return embeds_NSC


STEPS: dict[str, Callable[[Case], Tensor | None]] = {
    "rows, released": rows_released,
    "rows, closed form": rows_closed,
    "logits, released": logits_released,
    "logits, closed form": logits_closed,
    "text loss, torch": text_torch,
    "text loss + released": text_and_released,
    "text loss + closed form, fused": text_and_closed,
}
EQUAL = (
    ("rows, released", "rows, closed form"),
    ("logits, released", "logits, closed form"),
    ("text loss + released", "text loss + closed form, fused"),
)


def clear(case: Case) -> None:
    case.logits_NKV.grad = None
    case.onehot_NKV.grad = None


def gradient_of(case: Case) -> Tensor:
    grad = case.onehot_NKV.grad if case.logits_NKV.grad is None else case.logits_NKV.grad
    assert grad is not None
    return grad


def check_equal(case: Case) -> dict[str, float]:
    """The largest difference of the gradients, as a share of the largest gradient."""
    differences = {}
    for released, closed in EQUAL:
        clear(case)
        want = STEPS[released](case)
        want_grad = gradient_of(case).clone()
        clear(case)
        got = STEPS[closed](case)
        got_grad = gradient_of(case)
        assert want is not None and got is not None
        if not torch.allclose(got, want, rtol=0, atol=1e-6):
            sys.exit(f"{closed}: other embeddings than {released}; a bug in one of them")
        worst = float((got_grad - want_grad).abs().max() / want_grad.abs().max())
        if worst > 1e-4:
            sys.exit(f"{closed}: gradients off by {worst:.1e} from {released}; a bug in one")
        differences[closed] = worst
    clear(case)
    return differences


def peak_bytes(step: Callable[[Case], object], case: Case) -> int:
    """The most that torch has allocated at once during the step, beyond what was there before."""
    clear(case)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step(case)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    clear(case)
    return peak


def main() -> None:
    parser = bench.parser(__doc__, runs=15)
    parser.add_argument("--captions", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--llm", type=int, default=32_000, help="LLM vocabulary")
    parser.add_argument("--painter", type=int, default=49_408, help="painter vocabulary")
    parser.add_argument("--width", type=int, default=1_024)
    options = bench.parsed(parser)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler reports on itself
    sizes = {name: getattr(options, name) for name in ("captions", "tokens", "llm", "painter")}
    case = make_case(**sizes, width=options.width)
    differences = check_equal(case)
    peaks = {name: peak_bytes(step, case) for name, step in STEPS.items()}
    steps = {name: partial(step, case) for name, step in STEPS.items()}
    seconds = bench.in_turn(steps, runs=options.runs, before=partial(clear, case))
    result_bytes = 4 * (case.photo_grad_NSC.numel() + case.logits_NKV.numel())
    beyond = {name: peak - result_bytes for name, peak in peaks.items() if "text" not in name}
    alone = seconds["text loss, torch"]
    marginal = {
        "released": [a - b for a, b in zip(seconds["text loss + released"], alone, strict=True)],
        "closed form, against torch's loss": [
            a - b for a, b in zip(seconds["text loss + closed form, fused"], alone, strict=True)
        ],
    }
    median = {name: statistics.median(times) for name, times in (seconds | marginal).items()}
    faster = {
        "rows": median["rows, released"] / median["rows, closed form"],
        "logits": median["logits, released"] / median["logits, closed form"],
        "marginal": median["released"] / max(median["closed form, against torch's loss"], 1e-9),
    }
    spreads = {name: bench.spread(times) for name, times in seconds.items()}
    bench.show(spreads, unit="ms")
    print("\npeak memory")
    for name, peak in peaks.items():
        more = f", beyond the result {beyond[name] / 2**20:.1f} MiB" if name in beyond else ""
        print(f"{name:34}{peak / 2**20:10.1f} MiB{more}")
    print("\nwhat the bridge adds to the text loss (differences within a run)")
    added = {name: bench.spread(times) for name, times in marginal.items()}
    bench.show(added, unit="ms")
    for name, ratio in faster.items():
        print(f"{name:10} {ratio:7.1f}x faster   (wanted: {GOALS[name]:.0f}x)")
    share = beyond["rows, closed form"] / beyond["rows, released"]
    print(f"memory, rows, beyond the result: {share:.2%} of the released way's (wanted: under 1%)")
    share = peaks["logits, closed form"] / peaks["logits, released"]
    print(f"memory, logits, peak:            {share:.2%} of the released way's (wanted: 100%)")
    worst = max(differences.values())
    print(f"gradients equal to within {worst:.1e} of the largest")
    bench.written(
        options,
        sizes={**sizes, "width": options.width},
        seconds=spreads,
        marginal_seconds=added,
        peak_bytes=peaks,
        peak_bytes_beyond_result=beyond,
        times_faster=faster,
        gradient_difference=differences,
        goals=GOALS,
    )


if __name__ == "__main__":
    main()
