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

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.papers.e2e import straight_through_embeddings, total
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
        probs_NKJ, matrices, F.embedding(case.pieces_NS, case.table_UC), pool=total
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


def time_all(case: Case, runs: int) -> dict[str, list[float]]:
    """Every step once a run, in turn, so that a slow minute is slow for all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    for run in range(runs + 1):
        for name, step in STEPS.items():
            clear(case)
            start = time.perf_counter()
            step(case)
            if run:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    clear(case)
    return seconds


def commit() -> str:
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return git.stdout.strip() or "unknown"


def report(case: Case, runs: int) -> dict:
    differences = check_equal(case)
    peaks = {name: peak_bytes(step, case) for name, step in STEPS.items()}
    seconds = time_all(case, runs)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    result_bytes = 4 * (case.photo_grad_NSC.numel() + case.logits_NKV.numel())

    def paired(with_bridge: str, without: str) -> list[float]:
        return [a - b for a, b in zip(seconds[with_bridge], seconds[without], strict=True)]

    marginal = {
        "released": paired("text loss + released", "text loss, torch"),
        "closed form, against torch's loss": paired(
            "text loss + closed form, fused", "text loss, torch"
        ),
    }
    added = {name: statistics.median(times) for name, times in marginal.items()}
    return {
        "sizes": {
            "captions": case.llm_ids_NK.shape[0],
            "tokens": case.llm_ids_NK.shape[1],
            "llm_vocabulary": case.logits_NKV.shape[2],
            "painter_vocabulary": case.table_UC.shape[0],
            "width": case.table_UC.shape[1],
        },
        "passport": {
            "commit": commit(),
            "torch": torch.__version__,
            "device": "cpu",
            "dtype": str(case.logits_NKV.dtype),
            "threads": torch.get_num_threads(),
            "runs": runs,
            "seed": 0,
        },
        "seconds": {
            name: {"median": median[name], "low": min(times), "high": max(times)}
            for name, times in seconds.items()
        },
        "peak_bytes": peaks,
        "peak_bytes_beyond_result": {
            name: peak - result_bytes for name, peak in peaks.items() if "text" not in name
        },
        "marginal_seconds": {
            name: {"median": added[name], "low": min(times), "high": max(times)}
            for name, times in marginal.items()
        },
        "gradient_difference": differences,
        "times_faster": {
            "rows": median["rows, released"] / median["rows, closed form"],
            "logits": median["logits, released"] / median["logits, closed form"],
            "marginal": added["released"] / max(added["closed form"], 1e-9),
        },
        "goals": GOALS,
    }


def show(found: dict) -> None:
    print(f"{'step':34}{'median':>10}{'low':>10}{'high':>10}{'peak':>11}{'beyond result':>15}")
    for name, time_of in found["seconds"].items():
        beyond = found["peak_bytes_beyond_result"].get(name)
        print(
            f"{name:34}"
            + "".join(f"{1e3 * time_of[key]:8.1f}ms" for key in ("median", "low", "high"))
            + f"{found['peak_bytes'][name] / 2**20:8.1f}MiB"
            + (f"{beyond / 2**20:12.1f}MiB" if beyond is not None else "")
        )
    print("\nwhat the bridge adds to the text loss (medians of the differences within a run)")
    for name, time_of in found["marginal_seconds"].items():
        print(
            f"{name:34}" + "".join(f"{1e3 * time_of[k]:8.1f}ms" for k in ("median", "low", "high"))
        )
    print()
    for name, ratio in found["times_faster"].items():
        print(f"{name:10} {ratio:7.1f}x faster   (wanted: {found['goals'][name]:.0f}x)")
    beyond = found["peak_bytes_beyond_result"]
    share = beyond["rows, closed form"] / beyond["rows, released"]
    print(f"memory, rows, beyond the result: {share:.2%} of the released way's (wanted: under 1%)")
    peaks = found["peak_bytes"]
    share = peaks["logits, closed form"] / peaks["logits, released"]
    print(f"memory, logits, peak:            {share:.2%} of the released way's (wanted: 100%)")
    worst = max(found["gradient_difference"].values())
    print(f"gradients equal to within {worst:.1e} of the largest")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="timed runs, after one warm-up")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's own choice)")
    parser.add_argument("--captions", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--llm", type=int, default=32_000, help="LLM vocabulary")
    parser.add_argument("--painter", type=int, default=49_408, help="painter vocabulary")
    parser.add_argument("--width", type=int, default=1_024)
    parser.add_argument("--json", type=Path, help="write the figures here")
    choice = parser.parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler reports on itself
    if choice.threads:
        torch.set_num_threads(choice.threads)
    case = make_case(
        captions=choice.captions,
        tokens=choice.tokens,
        llm=choice.llm,
        painter=choice.painter,
        width=choice.width,
    )
    found = report(case, choice.runs)
    show(found)
    if choice.json:
        choice.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {choice.json}")


if __name__ == "__main__":
    main()
