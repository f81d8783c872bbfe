"""photochat_retrieval: the dialogue up to the share finds the photo's description (PhotoChat).

A learnt combination of BM25 (words, and pieces of words) and a dual encoder of words that is
trained from scratch (``recipes/description_ranker.py``). The held-out training dialogues stop the
encoder and set the weights of the three scores; dev has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.config import to_plain
from showtell.dialogue import Dialogue
from showtell.metrics.retrieval import mean_reciprocal_rank, ranks
from showtell.recipes.description_ranker import (
    Bags,
    Candidates,
    DescriptionEncoder,
    DescriptionRanker,
    Mixture,
    candidates_of,
    photo_query,
    vocabulary_of,
    words_of,
)
from showtell.recipes.photochat_small import training_dialogues
from showtell.recipes.runs import Run
from showtell.training.stage import Stage
from showtell.training.task import Losses, Task


@dataclass(frozen=True, kw_only=True)
class PhotochatRetrieval:
    """One stage on PhotoChat's training dialogues.

    photochat: its train.jsonl
    held_out: dialogues that stop the encoder and set the weights of the scores
    width: of the dual encoder
    seed: starts every die of the run
    stages: the one stage, whose drop_words are dropped of queries and descriptions
    """

    photochat: str = "data/photochat/train.jsonl"
    held_out: int = 1000
    width: int = 256
    seed: int = 0
    stages: tuple[Stage, ...] = (
        Stage(
            name="retrieval",
            steps=144,
            batch_size=256,
            learning_rate=2e-3,
            learning_rates={
                "query_weight_V": 5.0,
                "description_weight_V": 5.0,
                "field_weight_F": 5.0,
                "log_scale": 5.0,
            },
            warmup=10,
            decay="cosine",
            weight_decay=0.0,
            weights={"contrastive": 1.0},
            autocast=False,
            evaluate_every=18,
            patience_metrics=("held_out_mrr",),
            drop_words=0.4,
        ),
    )

    def train(self, *, name: str, out: Path, resume: bool) -> Path:
        """Train, mix and write ``out/model``, as ``DescriptionRanker.load`` reads it."""
        rest, held_dialogues = training_dialogues(self.photochat, held_out=self.held_out)
        torch.manual_seed(self.seed)
        held = candidates_of(held_dialogues)
        texts = [words_of(f"{photo_query(d).text} {d.photos[0].caption}") for d in rest]
        encoder = DescriptionEncoder(*vocabulary_of(texts), width=self.width)
        stage = self.stages[-1]
        task = DescriptionTask(encoder, rest, held=held, drop_words=stage.drop_words)
        Run(out=out, resume=resume, seed=self.seed).train(stage, task)
        ranker = mixed(encoder, held)
        folder = out / "model"
        ranker.save(folder)
        scores = ranker.scores(held.queries, held.descriptions)
        mrr = mean_reciprocal_rank(ranks(scores, held.gold_Q))
        report = {
            "recipe": {"name": name, "config": to_plain(self)},
            "measures": {**task.validate(), "held_out_mrr_mixed": mrr},
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return folder


class DescriptionTask(Task):
    """Dialogues and descriptions: each picks out the other among those of its batch.

    Equal descriptions are no rivals of each other.
    """

    def __init__(
        self,
        module: DescriptionEncoder,
        dialogues: Sequence[Dialogue],
        *,
        held: Candidates,
        drop_words: float,
    ) -> None:
        self.module = module
        self.drop_words = drop_words
        captions = [dialogue.photos[0].caption for dialogue in dialogues]
        number = {caption: k for k, caption in enumerate(dict.fromkeys(captions))}
        self.numbers_N = torch.tensor([number[caption] for caption in captions])
        self.queries = [module.bag(photo_query(dialogue)) for dialogue in dialogues]
        self.descriptions = [module.bag(caption) for caption in captions]
        self.held_queries = Bags.of([module.bag(query) for query in held.queries])
        self.held_descriptions = Bags.of([module.bag(t) for t in held.descriptions])
        self.held_gold_Q = held.gold_Q

    def __len__(self) -> int:
        return len(self.queries)

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        logits_NN = self.module(
            Bags.of([self.queries[index] for index in indices]),
            Bags.of([self.descriptions[index] for index in indices]),
            drop=self.drop_words,
            generator=generator,
        )
        numbers_N = self.numbers_N[list(indices)].to(logits_NN.device)
        own_NN = torch.eye(len(indices), dtype=torch.bool, device=logits_NN.device)
        same_NN = (numbers_N[:, None] == numbers_N) & ~own_NN
        logits_NN = logits_NN.masked_fill(same_NN, -torch.inf)
        gold_N = torch.arange(len(indices), device=logits_NN.device)
        both = F.cross_entropy(logits_NN, gold_N) + F.cross_entropy(logits_NN.T, gold_N)
        return {"contrastive": both / 2}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        scores_QC = self.module(self.held_queries, self.held_descriptions).cpu().numpy()
        return {"held_out_mrr": mean_reciprocal_rank(ranks(scores_QC, self.held_gold_Q))}


def mixed(encoder: DescriptionEncoder, held: Candidates) -> DescriptionRanker:
    """The ranker whose three weights make the held-out photos most likely (softmax over C)."""
    ranker = DescriptionRanker(encoder, Mixture(encoder=1.0, words=1.0, pieces=1.0))
    parts_3QC = torch.from_numpy(ranker.parts(held.queries, held.descriptions))
    gold_Q = torch.from_numpy(held.gold_Q)
    weights_3 = torch.tensor([1.0, 0.5, 0.1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights_3], max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(torch.tensordot(weights_3, parts_3QC, dims=1), gold_Q)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    encoder_weight, words, pieces = weights_3.tolist()
    ranker.mixture = Mixture(encoder=encoder_weight, words=words, pieces=pieces)
    return ranker
