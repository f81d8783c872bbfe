"""What the end-to-end bridge costs, beside the sparse-matrix way of the released code.

    python benchmarks/bench_bridge.py [--runs 15] [--threads 2] [--json FILE]

Random tensors of the real sizes: 32 captions of 32 tokens, vocabularies of 32,000 and 49,408,
width 1,024, fp32. Four measurements, forward and backward, each way in turn within every run:

    rows      given one-hot rows r of the LLM -> embeddings
    logits    the logits -> embeddings
    text      the logits -> the text loss and embeddings; what that adds to the text loss alone
    training  the same by the bridge that training calls, with words and tokenizers (but no text
              tower): by the release's settings and by the paper's, which add Gumbel noise

The released way is written here from its description: for each caption an LLM x painter sparse
COO matrix of ones on unique ids x unique ids; straight-through one-hot rows summed over the
positions, times the matrix, copied to every row of a dense painter-vocabulary one-hot; the token
table by a dense product. (No Gumbel noise and no temperature in it; hence none here.) Its captions
are decoded from the argmax; here both ways are handed the ids.

Both must give equal embeddings and gradients, or this script fails. Memory is the peak of what
torch allocates during the step, beyond the inputs; "beyond the result" leaves out the embeddings
and the gradient, which either way has to return.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import bench
import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from showtell.models.parts import PainterTokens, PhotoSpans
from showtell.papers.e2e import POOLINGS, PRESETS, Dvtm, straight_through_embeddings
from showtell.papers.e2e_kernel import Block, dynamic_matrices, token_probabilities

GOALS = {"rows": 20.0, "logits": 6.0, "text": 50.0}
GOALS_OF_TRAINING = {"release": 20.0, "paper": 8.0}
BOS, EOS = 0, 1


class Case:
    """A batch of captions in both vocabularies, and the photo loss's gradient on them."""

    def __init__(self, *, captions: int, tokens: int, llm: int, painter: int, width: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.ids_NK = torch.randint(3, llm, (captions, tokens), generator=rng)
        self.ids_NK[:, -1] = self.ids_NK[:, 0]  # a word that occurs twice
        self.pieces_NS = torch.randint(2, painter, (captions, tokens + 2), generator=rng)
        self.pieces_NS[:, 0], self.pieces_NS[:, -1] = BOS, EOS
        logits_NKV = torch.randn(captions, tokens, llm, generator=rng)
        logits_NKV.scatter_(-1, self.ids_NK[..., None], 12.0)  # a model that has learnt them
        onehot_NKV = F.one_hot(self.ids_NK, llm).float()
        self.table_UC = torch.randn(painter, width, generator=rng) / width**0.5
        self.inputs = {"rows": onehot_NKV.requires_grad_(), "logits": logits_NKV.requires_grad_()}
        self.inputs["text"] = logits_NKV
        self.photo_grad_NSC = torch.randn(captions, tokens + 2, width, generator=rng)

    def clear(self) -> None:
        for tensor in self.inputs.values():
            tensor.grad = None

    def text_loss(self) -> Tensor:
        return F.cross_entropy(self.inputs["text"].flatten(0, 1), self.ids_NK.flatten())


def released(case: Case, source: str) -> Tensor:
    """The embeddings of all captions."""
    painted = []
    for n, pieces_S in enumerate(case.pieces_NS):
        rows_KV = case.inputs[source][n]
        if source != "rows":
            top_K1 = rows_KV.max(-1, keepdim=True).indices
            onehot_KV = torch.zeros_like(rows_KV).scatter_(-1, top_K1, 1.0)
            soft_KV = rows_KV.softmax(-1)
            rows_KV = onehot_KV + (soft_KV - soft_KV.detach())
        llm_ids = torch.tensor(sorted(set(case.ids_NK[n].tolist())))
        pieces = torch.tensor(sorted(set(pieces_S.tolist()) - {BOS, EOS}))
        places = torch.stack([llm_ids.repeat_interleave(len(pieces)), pieces.repeat(len(llm_ids))])
        matrix_VU = torch.sparse_coo_tensor(
            places,
            torch.ones(places.shape[1]),
            (rows_KV.shape[1], len(case.table_UC)),
            check_invariants=False,
        )
        carried_1U = rows_KV.sum(0, keepdim=True) @ matrix_VU
        carried_SU = carried_1U.repeat(len(pieces_S), 1)
        onehot_SU = torch.zeros_like(carried_SU).scatter_(-1, pieces_S[:, None], 1.0)
        painted.append(onehot_SU + (carried_SU - carried_SU.detach()))
    return torch.stack(painted) @ case.table_UC


def closed(case: Case, source: str) -> Tensor:
    """The same in closed form."""
    num_tokens, num_rows = case.ids_NK.shape[1], case.pieces_NS.shape[1]
    given_NKV = case.inputs[source]
    blocks = [
        [
            Block(
                llm_ids=frozenset(ids),
                pieces=frozenset(pieces[1:-1]),
                positions=range(num_tokens),
                rows=range(num_rows),
            )
        ]
        for ids, pieces in zip(case.ids_NK.tolist(), case.pieces_NS.tolist(), strict=True)
    ]
    matrices = dynamic_matrices(
        blocks, num_positions=num_tokens, num_rows=num_rows, table_UC=case.table_UC
    )
    if source == "rows":
        tokens_NKJ = matrices.tokens_NJ[:, None].expand(-1, num_tokens, -1)
        probs_NKJ = given_NKV.gather(2, tokens_NKJ)
    else:
        ids_RJ = matrices.tokens_NJ.repeat_interleave(num_tokens, 0)
        probs_RJ = token_probabilities(given_NKV.flatten(0, 1), ids_RJ)
        probs_NKJ = probs_RJ.view(*case.ids_NK.shape, -1)
    pieces_NSC = F.embedding(case.pieces_NS, case.table_UC)
    return straight_through_embeddings(probs_NKJ, matrices, pieces_NSC, pool=POOLINGS["sum"])


class Tower:
    """A painter's text encoder up to its embeddings."""

    def __init__(self, case: Case) -> None:
        self.token_table_UC, self.length = case.table_UC, case.pieces_NS.shape[1]
        self.tokenizer = vocabulary(len(case.table_UC))

    def tokenize(self, texts: Sequence[str]) -> PainterTokens:
        told = self.tokenizer(list(texts), return_offsets_mapping=True)
        ids, spans = ([list(each) for each in told[key]] for key in ("input_ids", "offset_mapping"))
        content_NS = torch.zeros(len(ids), self.length, dtype=torch.bool)
        ids_NS = torch.full((len(ids), self.length), EOS)
        offsets_NS2 = torch.zeros(len(ids), self.length, 2, dtype=torch.long)
        for n, (own, where) in enumerate(zip(ids, spans, strict=True)):
            count = min(len(own), self.length - 2)
            ids_NS[n, 0], content_NS[n, 1 : count + 1] = BOS, True
            ids_NS[n, 1 : count + 1] = torch.tensor(own[:count])
            offsets_NS2[n, 1 : count + 1] = torch.tensor(where[:count])
        return PainterTokens(
            captions=texts, ids_NS=ids_NS, content_NS=content_NS, offsets_NS2=offsets_NS2
        )

    def __call__(self, tokens: PainterTokens, embeds_NSC: Tensor) -> Tensor:
        return embeds_NSC


def vocabulary(size: int) -> PreTrainedTokenizerFast:
    """Words w0, w1, ...; the first three ids are BOS, EOS and padding."""
    special = ["<s>", "</s>", "<pad>"]
    ids = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(3, size))])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<pad>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def training(case: Case, preset: str) -> Callable[[], None]:
    """A step of the text loss and the bridge as training calls it."""
    llm = vocabulary(case.inputs["logits"].shape[-1])
    tower: Any = Tower(case)
    bridge = Dvtm(PRESETS[preset], tokenizer=llm)
    captions = [llm.decode(ids_K.tolist()) for ids_K in case.ids_NK]
    die = torch.Generator().manual_seed(0)
    states_NKD = torch.zeros(*case.ids_NK.shape, 1)

    def work() -> None:
        spans = PhotoSpans(
            ids_NK=case.ids_NK,
            mask_NK=torch.ones_like(case.ids_NK, dtype=torch.bool),
            embeds_NKD=states_NKD,
            before_NKD=states_NKD,
            after_NKD=states_NKD,
            logits_NKV=case.inputs["text"],
            captions=captions,
        )
        painter: Any = SimpleNamespace(text=tower)
        cond_NSC = bridge(spans, painter, generator=die).cond_NSC
        torch.autograd.backward([case.text_loss(), cond_NSC], [None, case.photo_grad_NSC])

    return work


def step(case: Case, way: Callable[[Case, str], Tensor], source: str) -> tuple[Tensor, Tensor]:
    """Embeddings, and the gradient at the inputs."""
    embeds_NSC = way(case, source)
    if source == "text":
        torch.autograd.backward([case.text_loss(), embeds_NSC], [None, case.photo_grad_NSC])
    else:
        embeds_NSC.backward(case.photo_grad_NSC)
    gradient_NKV = case.inputs[source].grad
    assert gradient_NKV is not None
    return embeds_NSC, gradient_NKV


def difference(case: Case, source: str) -> float:
    """The largest difference of the gradients, as a share of the largest gradient. Exits if the
    ways are not equal."""
    case.clear()
    want, want_grad = step(case, released, source)
    want_grad = want_grad.clone()
    case.clear()
    got, got_grad = step(case, closed, source)
    worst = float((got_grad - want_grad).abs().max() / want_grad.abs().max())
    if worst > 1e-4 or not torch.allclose(got, want, rtol=0, atol=1e-6):
        sys.exit(f"{source}: the two ways differ (gradients by {worst:.1e}); a bug in one of them")
    return worst


def peak_bytes(case: Case, work: Callable[[], object]) -> int:
    """The most that torch has allocated at once during the work, beyond what was there before."""
    case.clear()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def main() -> None:
    parser = bench.parser(__doc__, runs=15)
    sizes = {"captions": 32, "tokens": 32, "llm": 32_000, "painter": 49_408, "width": 1_024}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    options = bench.parsed(parser)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler reports on itself
    sizes = {name: getattr(options, name) for name in sizes}
    case = Case(**sizes)
    worst = {source: difference(case, source) for source in GOALS}
    ways = {
        f"{source}, {way.__name__}": partial(step, case, way, source)
        for source, way in product(GOALS, (released, closed))
    }
    peaks = {name: peak_bytes(case, work) for name, work in ways.items()}
    ways |= {f"training, {preset}": training(case, preset) for preset in GOALS_OF_TRAINING}
    ways["text loss alone"] = lambda: case.text_loss().backward()
    seconds = bench.in_turn(ways, runs=options.runs, before=case.clear)
    alone = seconds["text loss alone"]
    added = ["text, released", "text, closed", *(f"training, {p}" for p in GOALS_OF_TRAINING)]
    for name in added:  # to the loss
        seconds[name] = [a - b for a, b in zip(seconds[name], alone, strict=True)]
    spreads = {name: bench.spread(times) for name, times in seconds.items()}
    bench.show(spreads)
    faster = {}
    for source, goal in GOALS.items():
        slow, fast = (spreads[f"{source}, {way}"]["median"] for way in ("released", "closed"))
        faster[source] = slow / max(fast, 1e-9)
        print(f"{source:8} {faster[source]:7.1f}x faster   (wanted: {goal:.0f}x)")
    for preset, goal in GOALS_OF_TRAINING.items():
        slow, fast = (spreads[name]["median"] for name in (added[0], f"training, {preset}"))
        faster[f"training, {preset}"] = slow / max(fast, 1e-9)
        print(f"training by the {preset} preset {slow / fast:.1f}x faster   (wanted: {goal:.0f}x)")
    result = 4 * (case.photo_grad_NSC.numel() + case.inputs["logits"].numel())
    beyond = [peaks[f"rows, {way}"] - result for way in ("closed", "released")]
    share = peaks["logits, closed"] / peaks["logits, released"]
    print(f"memory, rows, beyond the result: {beyond[0] / beyond[1]:.2%} (wanted: under 1%)")
    print(f"memory, logits, peak:            {share:.2%} of the released way's (wanted: 100%)")
    print(f"gradients equal to within {max(worst.values()):.1e} of the largest")
    bench.written(
        options,
        sizes=sizes,
        seconds=spreads,
        peak_bytes=peaks,
        times_faster=faster,
        gradient_difference=worst,
        goals=GOALS | {f"training, {name}": goal for name, goal in GOALS_OF_TRAINING.items()},
    )


if __name__ == "__main__":
    main()
