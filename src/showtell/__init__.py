"""showtell: a chat agent that tells and shows; it shares a photo at the right moment.

Public names load their modules on first use, so importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Decoder": "showtell.models.decoder",
    "Dialogue": "showtell.dialogue",
    "Photo": "showtell.dialogue",
    "PhotoDialogueModel": "showtell.models.dialogue_model",
    "Reply": "showtell.models.respond",
    "Responder": "showtell.models.respond",
    "Session": "showtell.agent.session",
    "ShowtellError": "showtell.errors",
    "Turn": "showtell.dialogue",
    "evaluate": "showtell.evaluation",
    "load_model": "showtell.papers",
    "open_data": "showtell.data.sources",
    "run_recipe": "showtell.recipes",
}

__all__ = [
    "Decoder",
    "Dialogue",
    "Photo",
    "PhotoDialogueModel",
    "Reply",
    "Responder",
    "Session",
    "ShowtellError",
    "Turn",
    "evaluate",
    "load_model",
    "open_data",
    "run_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
