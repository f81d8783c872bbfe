"""Peak memory and time of FID, KID and IS of a stream of photos, beside keeping all features.

    python benchmarks/bench_metrics.py [--images 1000000] [--features 64] [--json FILE]
    torchrun --nproc-per-node 2 benchmarks/bench_metrics.py --stream --images 1000000

Random features stand for an encoder's, so that what is measured is the metrics alone. Each way runs
in a process of its own; memory is what it takes beyond its imports. The other way is torchmetrics'
own KernelInceptionDistance beside its FID: it keeps every feature vector. Under torchrun each rank
streams its share, and prints its own peak.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings

import bench
import torch
from torch import Tensor, nn

from showtell.metrics.fid import InceptionScore, PhotoSets, merged_across_ranks
from showtell.runtime import processes, share_of

BATCH, CLASSES = 256, 64
SUBSETS, SUBSET_SIZE = 100, 1000


class Same(nn.Module):
    """Features as torchmetrics wants them."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features_NE: Tensor) -> Tensor:
        return features_NE


def batch(first: int, length: int, num_features: int, *, real: bool) -> Tensor:
    """The features of photos ``first`` and following: the same on any rank."""
    generator = torch.Generator().manual_seed(2 * first + real)
    return torch.randn(length, num_features, generator=generator) + 0.1 * real


def stream(images: int, num_features: int) -> dict[str, float]:
    """Sums and a bounded sample; this rank's share of ``images`` photos on each side."""
    sets, inception = PhotoSets(num_features), InceptionScore(CLASSES)
    chunks = -(-images // BATCH)
    for real in (True, False):
        for chunk in share_of(chunks):
            first = chunk * BATCH
            features = batch(first, min(BATCH, images - first), num_features, real=real)
            sets.update(features, real=real, first=first)
            if not real:
                inception.update(features[:, :CLASSES], first=first)
    sets, inception = merged_across_ranks(sets), merged_across_ranks(inception)
    return {"fid": sets.fid(), "kid": sets.kid().value, "is": inception.compute()[0]}


def keep_all(images: int, num_features: int) -> dict[str, float]:
    """torchmetrics' own: KID keeps all features of both sides, IS all logits."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore as Theirs
    from torchmetrics.image.kid import KernelInceptionDistance

    warnings.simplefilter("ignore")
    same = Same(num_features)
    metrics = (
        FrechetInceptionDistance(feature=same, normalize=True),
        KernelInceptionDistance(feature=same, subsets=SUBSETS, subset_size=SUBSET_SIZE),
    )
    inception = Theirs(feature=Same(CLASSES))
    for real in (True, False):
        for first in range(0, images, BATCH):
            features = batch(first, min(BATCH, images - first), num_features, real=real).double()
            for metric in metrics:
                metric.update(features, real=real)
            if not real:
                inception.update(features[:, :CLASSES])
    fid, kid = (metric.compute() for metric in metrics)
    return {"fid": float(fid), "kid": float(kid[0]), "is": float(inception.compute()[0])}


def measured(way: str, images: int, num_features: int) -> dict[str, float]:
    ways = {"stream": stream, "keep": keep_all}
    ways[way](SUBSET_SIZE, num_features)  # loads what is loaded on first use
    before, began = bench.peak_mb(), time.perf_counter()
    found = ways[way](images, num_features)
    seconds = time.perf_counter() - began
    return found | {
        "seconds": seconds,
        "peak_mb": bench.peak_mb(),
        "more_mb": bench.peak_mb() - before,
    }


def main() -> None:
    parser = bench.parser(__doc__, runs=1)
    parser.add_argument("--images", type=int, default=1_000_000, help="on each side")
    parser.add_argument("--features", type=int, default=64, help=f"at least {CLASSES}")
    parser.add_argument("--stream", action="store_true", help="only this, in this process")
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = bench.parsed(parser)
    if options.stream or options.keep:
        found = measured("stream" if options.stream else "keep", options.images, options.features)
        rank, ranks = processes()
        print(json.dumps({"rank": rank, "ranks": ranks} | found), flush=True)
        return
    results = {}
    print(
        f"{options.images:,} photos a side, {options.features} features, "
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
    print(f"{'':<8}{'seconds':>9}{'MB more':>9}{'peak MB':>9}{'FID':>10}{'KID':>10}{'IS':>9}")
    for way in ("stream", "keep"):
        sizes = ("--images", str(options.images), "--features", str(options.features))
        row = results[way] = bench.apart(__file__, f"--{way}", *sizes)
        print(
            f"{way:<8}{row['seconds']:>9.1f}{row['more_mb']:>9.0f}{row['peak_mb']:>9.0f}"
            f"{row['fid']:>10.5f}{row['kid']:>10.6f}{row['is']:>9.4f}"
        )
    bench.written(options, **results)


if __name__ == "__main__":
    main()
