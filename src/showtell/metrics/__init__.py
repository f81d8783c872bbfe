"""Metrics, usable without any model of ours: ``from showtell.metrics import score, text_scores``.

Public names load their modules on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "blind_page": "export_page",
    "encoders": "load_clip load_sentence_encoder",
    "fid": "frechet_distance inception_score kernel_distance",
    "intervals": "Value mean_value",
    "meteor": "meteor_exact_stem",
    "moment": "average_precision best_threshold moment_values",
    "photo_rows": "SetFeatures",
    "pictures": "contact_sheet loss_curves",
    "preference": "score_ratings",
    "protocols": "PROTOCOLS Protocol",
    "relevance": "minigpt5_relevance minigpt5_text mmdialog_relevance mmdialog_text",
    "report": "Report",
    "retrieval": "macro_f1 ranks retrieval_values",
    "rows": "Encoders",
    "scoring": "score",
    "text": "distinct_n text_scores text_values",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
