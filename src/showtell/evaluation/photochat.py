"""How a model does on PhotoChat's real dialogues: replies, the share moment, what a photo shows.

Protocol ``photochat``, version 1. Every context is the gold one, photos standing as their
descriptions, since the pixels are unreachable.

- replies: every text turn from the second on (without --limit a fixed sample of 1,000 of them),
  greedy, at most 40 tokens, written by whoever spoke in the gold dialogue;
- the share moment: P(share) before every turn from the second to the share, the next speaker
  unknown (``sharing/moment.py``), calibration and threshold from the model's card;
- descriptions: the objects named after [IMG] at the gold moment against those of the gold photo.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from showtell.data.photochat import (
    HELD_OUT,
    MomentPosition,
    moment_positions,
    read_photochat,
    split_held_out,
    summarise,
)
from showtell.data.sources import DataSource
from showtell.dialogue import Dialogue
from showtell.errors import MissingDependency
from showtell.evaluation.photochat_text import Told, description_report, quiet, reply_report
from showtell.metrics.intervals import Value
from showtell.metrics.moment import (
    best_threshold,
    keyword_score,
    moment_values,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.metrics.report import Reported
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import share_chances
from showtell.recipes.photochat_task import calibrated, rendered_moments

REPLIES = 1000

_ZANG = "Zang et al. 2021 (PhotoChat)"
_PAPER = "arXiv 2408.08650"
REPORTED = tuple(
    Reported(name=name, value=value, source=source, split="test")
    for name, value, source in (
        ("moment.f1 of T5-3B", 0.589, _ZANG),
        ("moment.f1 of PaCE", 0.638, "Li et al. 2023 (PaCE)"),
        ("text.psdg.bleu1 of the pipeline", 0.1065, _PAPER),
        ("text.psdg.bleu2 of the pipeline", 0.0203, _PAPER),
        ("text.psdg.rouge_l of the pipeline", 0.0976, _PAPER),
        ("text.psdg.bleu1 of the end-to-end model", 0.1208, _PAPER),
        ("text.psdg.bleu2 of the end-to-end model", 0.0294, _PAPER),
        ("text.psdg.rouge_l of the end-to-end model", 0.1100, _PAPER),
    )
)


def evaluate_photochat(
    model: PhotoDialogueModel,
    source: DataSource,
    *,
    seed: int,
    limit: int | None,
    told: Told = quiet,
) -> tuple[dict[str, Value], dict[str, int], tuple[Reported, ...]]:
    """(measures, counts, what others reported) for the first ``limit`` dialogues of a file."""
    dialogues = list(itertools.islice(source, limit))
    summary = summarise(dialogues, skipped=len(source.skipped))
    values = moment_report(model, dialogues, seed=seed)
    values |= keyword_baseline(dialogues, seed=seed)
    values |= lexical_baseline(source.path, dialogues, seed=seed)
    replies = reply_report(
        model, dialogues, seed=seed, count=REPLIES if limit is None else None, told=told
    )
    values |= replies
    values |= description_report(model, dialogues, seed=seed, told=told)
    counts = {
        "dialogues": summary.dialogues,
        "turns": summary.turns,
        "photos": summary.photos,
        "missing photos": summary.missing_photos,
        "positions": summary.positions,
        "positive positions": summary.positive_positions,
        "replies": replies["text.psdg.bleu1"].n,
        "skipped": summary.skipped,
    }
    return values, counts, REPORTED


# ---------------------------------------------------------------------------------- the moment


def moment_report(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, seed: int
) -> dict[str, Value]:
    """``moment.*`` with the threshold of the model's card, and ``text.perplexity``."""
    found = share_chances(model, rendered_moments(model.renderer, dialogues))
    settings = model.card.get("moment", {})
    scores_M = calibrated(
        found.marginal_M, scale=settings.get("scale", 1.0), bias=settings.get("bias", 0.0)
    )
    values = moment_values(
        found.shared_M,
        scores_M,
        threshold=settings.get("threshold", model.decoding.share_threshold),
        seed=seed,
        groups_N=found.row_M.tolist(),
        protocol="photochat",
    )
    values["text.perplexity"] = Value(
        value=math.exp(found.token_nll),
        low=None,
        high=None,
        n=found.num_tokens,
        higher_is_better=False,
        unit="per token",
        protocol="photochat",
        note="all words, marks and descriptions; both namings of the speakers",
    )
    return values


def _positions(dialogues: Sequence[Dialogue]) -> list[MomentPosition]:
    return [position for dialogue in dialogues for position in moment_positions(dialogue)]


def _dialogue_of(dialogues: Sequence[Dialogue]) -> list[int]:
    return [k for k, dialogue in enumerate(dialogues) for _ in moment_positions(dialogue)]


def keyword_baseline(dialogues: Sequence[Dialogue], *, seed: int) -> dict[str, Value]:
    """``baseline.keyword.f1``: share when the last turn speaks of photos."""
    positions = _positions(dialogues)
    values = moment_values(
        [int(p.shares) for p in positions],
        [keyword_score(p.context) for p in positions],
        threshold=1.0,
        seed=seed,
        groups_N=_dialogue_of(dialogues),
        prefix="baseline.keyword",
        protocol="photochat",
    )
    return {"baseline.keyword.f1": values["baseline.keyword.f1"]}


def lexical_baseline(
    path: Path | None, dialogues: Sequence[Dialogue], *, seed: int
) -> dict[str, Value]:
    """``baseline.tfidf.*`` on the same positions: TF-IDF + logistic regression.

    It needs train.jsonl beside the evaluated file; without that its rows are empty and say so.
    """
    train = path.parent / "train.jsonl" if path is not None else None
    if train is None or not train.is_file() or train == path:
        return _not_run("train.jsonl is not beside the evaluated file")
    known = list(read_photochat(train, skip_bad=True))
    rest, held = split_held_out(known, count=min(HELD_OUT, len(known) // 3))
    learn, tune, test = _positions(rest), _positions(held), _positions(dialogues)
    try:
        score_N = tfidf_moment_scores(
            [tagged_text(p.context) for p in learn],
            [int(p.shares) for p in learn],
            [tagged_text(p.context) for p in tune + test],
        )
    except MissingDependency as error:
        return _not_run(str(error))
    chosen = best_threshold([int(p.shares) for p in tune], score_N[: len(tune)])
    values = moment_values(
        [int(p.shares) for p in test],
        score_N[len(tune) :],
        threshold=chosen.threshold,
        seed=seed,
        groups_N=_dialogue_of(dialogues),
        prefix="baseline.tfidf",
        protocol="photochat",
    )
    wanted = ("f1", "precision", "recall", "auprc")
    return {f"baseline.tfidf.{name}": values[f"baseline.tfidf.{name}"] for name in wanted}


def _not_run(reason: str) -> dict[str, Value]:
    return {
        "baseline.tfidf.f1": Value(
            value=None, low=None, high=None, n=0, protocol="photochat", note=f"not run: {reason}"
        )
    }
