"""What held-out dialogues tell of a model in training: how good it is, and when it should share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from showtell.dialogue import Dialogue
from showtell.metrics.moment import best_threshold
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, read_gold


def measures(
    model: PhotoDialogueModel, *, held: Sequence[Dialogue], wanted: Sequence[str], seed: int
) -> dict[str, float]:
    """``perplexity`` of the held-out dialogues, and ``bleu2`` and ``fid`` where they are wanted."""
    if not held:
        return {}
    measured = {"perplexity": read_gold(model, described(model, held)).perplexity}
    if {"bleu2", "-fid"} & set(wanted):
        from showtell.evaluation.measures import dev_measures

        measured |= dev_measures(model, held, seed=seed)
    return measured


def calibrate(model: PhotoDialogueModel, held: Sequence[Dialogue]) -> None:
    """Set the threshold on P(share) where held-out dialogues have photos to share and others."""
    if not held:
        return
    read = read_gold(model, described(model, held), batch_size=32)
    shared_M, p_share_M = read.shared_M[read.later_M], read.p_share_M[read.later_M]
    if any(shared_M) and not all(shared_M):
        threshold = best_threshold(shared_M, p_share_M).threshold
        model.decoding = replace(model.decoding, share_threshold=threshold)
