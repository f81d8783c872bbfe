"""Metrics, usable without any model of ours: ``from showtell.metrics import score, psdg_scores``.

Public names load their modules on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "ClipEncoder": "encoders",
    "InceptionScore": "photos",
    "PROTOCOLS": "protocols",
    "Perplexity": "perplexity",
    "PhotoSets": "photos",
    "Protocol": "protocols",
    "Relevance": "similarity",
    "Report": "report",
    "SentenceEncoder": "encoders",
    "Value": "report",
    "at_threshold": "moment",
    "average_precision": "moment",
    "best_threshold": "moment",
    "brier": "moment",
    "calibration_error": "moment",
    "cider_d": "cider",
    "clip_i": "similarity",
    "clip_t": "similarity",
    "decision_f1": "retrieval",
    "distinct_n": "text",
    "frechet_distance": "photos",
    "gaussian_distance": "photos",
    "gill_scores": "text",
    "load_clip": "encoders",
    "load_inception": "inception",
    "load_lpips": "perceptual",
    "load_sentence_encoder": "encoders",
    "mean_reciprocal_rank": "retrieval",
    "merged_across_ranks": "photos",
    "meteor": "text_meteor",
    "meteor_exact_stem": "text_meteor",
    "minigpt5_relevance": "similarity",
    "minigpt5_text": "answers",
    "mmdialog_relevance": "similarity",
    "mmdialog_text": "answers",
    "moment_values": "moment",
    "psdg_scores": "text",
    "ranks": "retrieval",
    "recall_at": "retrieval",
    "reliability": "moment",
    "reliability_diagram": "pictures",
    "retrieval_values": "retrieval",
    "rouge_l_f1": "text",
    "score": "scoring",
    "sentence_similarity": "similarity",
    "standard_scores": "text",
    "text_values": "text",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
