"""What an optimiser keeps for n new tokens of a vocabulary, beside the released way.

    python benchmarks/bench_vokens.py [--rows 32000] [--width 4096] [--vokens 8] [--json FILE]

The released codes of MiniGPT-5 and GILL resize both matrices of the LLM (reading and saying),
train them whole and multiply the gradients of the old rows by zero. Here only the new rows exist
(``models/vocabulary.py``). Both are an AdamW after one step, on tensors of the full size that hold
nothing (torch's meta device), so the bytes are counted and not estimated.

Beside it, a small table and head that are really trained both ways: without decay the new rows are
the same, with it the released way moves its "frozen" rows.
"""

from __future__ import annotations

import copy

import bench
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.models.vocabulary import NewTokens, grown

GOAL = 0.01
DECAY = 0.01


def state_bytes(parameters: list[nn.Parameter]) -> dict[str, int]:
    """Bytes of the weights that train, of their gradients and of what AdamW keeps for them."""
    optimizer = torch.optim.AdamW(parameters, lr=2e-5, weight_decay=DECAY, foreach=False)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    kept = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    return {
        "weights": sum(p.numel() * p.element_size() for p in parameters),
        "gradients": sum(p.numel() * p.element_size() for p in parameters),
        "optimiser": sum(value.numel() * value.element_size() for value in kept),
    }


def new_tokens(table: nn.Embedding, head: nn.Linear, vokens: int) -> NewTokens:
    names = [f"[IMG{k}]" for k in range(1, vokens + 1)]
    first_id = table.num_embeddings
    return grown(None, names, table=table, head=head, first_id=first_id, seed=0)


def at_full_size(rows: int, width: int, vokens: int) -> dict[str, dict[str, int]]:
    with torch.device("meta"):
        table, head = nn.Embedding(rows, width), nn.Linear(width, rows, bias=False)
        whole = [nn.Parameter(torch.empty(rows + vokens, width)) for _ in range(2)]
    shape = (vokens, width)
    ours = NewTokens(
        [f"[IMG{k}]" for k in range(1, vokens + 1)],
        first_id=rows,
        input_nD=torch.empty(shape, device="meta"),
        output_nD=torch.empty(shape, device="meta"),
    )
    assert table.weight.is_meta and head.weight.is_meta
    return {
        "both matrices, gradients masked": state_bytes(whole),
        "the new rows alone": state_bytes(list(ours.parameters())),
    }


def trained(
    steps: int, *, decay: float, rows: int = 64, width: int = 16, vokens: int = 4
) -> dict[str, float]:
    """Both ways on the same examples; the largest differences afterwards."""
    torch.manual_seed(0)
    table, head = nn.Embedding(rows, width), nn.Linear(width, rows, bias=False)
    ours = new_tokens(table, head, vokens)
    assert ours.output_nD is not None
    read = nn.Parameter(torch.cat([table.weight.detach(), ours.input_nD.detach()]))
    said = nn.Parameter(torch.cat([head.weight.detach(), ours.output_nD.detach()]))
    old = copy.deepcopy((read.detach(), said.detach()))
    optimizers = [
        torch.optim.AdamW(parameters, lr=1e-2, weight_decay=decay)
        for parameters in ((read, said), ours.parameters())
    ]
    for _ in range(steps):
        ids_M = torch.randint(rows + vokens, (32,))
        next_M = torch.randint(rows + vokens, (32,))
        F.cross_entropy(read[ids_M].tanh() @ said.T, next_M).backward()
        for matrix in (read, said):
            assert matrix.grad is not None
            matrix.grad[:rows] = 0
        hidden_MD = ours.embed(ids_M, table).tanh()
        F.cross_entropy(ours.logits(hidden_MD, head(hidden_MD)), next_M).backward()
        for optimizer in optimizers:
            optimizer.step()
        for parameter in (read, said, table.weight, head.weight, *ours.parameters()):
            parameter.grad = None
    pairs = ((read, ours.input_nD, old[0]), (said, ours.output_nD, old[1]))
    return {
        "new rows, ours against released": max(
            float((matrix[rows:] - own).detach().abs().max()) for matrix, own, _ in pairs
        ),
        "old rows, released against before": max(
            float((matrix.detach() - before)[:rows].abs().max()) for matrix, _, before in pairs
        ),
        "old rows, ours against before": max(
            float((part.weight.detach() - before[:rows]).abs().max())
            for part, (_, _, before) in zip((table, head), pairs, strict=True)
        ),
    }


def main() -> None:
    parser = bench.parser(__doc__, runs=20)
    parser.add_argument("--rows", type=int, default=32_000, help="the LLM's own vocabulary")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--vokens", type=int, default=8)
    options = bench.parsed(parser)
    found = at_full_size(options.rows, options.width, options.vokens)
    print(f"{options.rows:,} x {options.width:,}, untied, {options.vokens} new tokens, AdamW")
    print("| way | weights | gradients | optimiser |\n|---|--:|--:|--:|")
    for name, sizes in found.items():
        print(f"| {name} | " + " | ".join(f"{v / 2**20:,.2f} MiB" for v in sizes.values()) + " |")
    full, own = (sizes["optimiser"] for sizes in found.values())
    print(f"optimiser state: {own / full:.4%} of the released way's (wanted: under {GOAL:.0%})")
    small = {f"decay {decay}": trained(options.runs, decay=decay) for decay in (0.0, DECAY)}
    for name, differences in small.items():
        print(f"{options.runs} steps of a small table and head, {name}, largest difference:")
        for what, value in differences.items():
            print(f"  {what:36} {value:.0e}")
    sizes = {"rows": options.rows, "width": options.width, "vokens": options.vokens}
    bench.written(options, **sizes, bytes=found, share=own / full, small=small)


if __name__ == "__main__":
    main()
