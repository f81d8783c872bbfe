"""showtell: a chat agent that tells and shows; it shares a photo at the right moment.

Public names load their modules on first use, so importing the package costs next to nothing.
"""

TYPE_CHECKING = False  # of typing, whose import would take longer than all that is here
if TYPE_CHECKING:
    from showtell.agent.session import Session as Session
    from showtell.data.sources import open_data as open_data
    from showtell.dialogue import Dialogue as Dialogue
    from showtell.dialogue import Photo as Photo
    from showtell.dialogue import Turn as Turn
    from showtell.errors import ShowtellError as ShowtellError
    from showtell.evaluation import evaluate as evaluate
    from showtell.models.decoder import Decoder as Decoder
    from showtell.models.dialogue_model import PhotoDialogueModel as PhotoDialogueModel
    from showtell.models.reply import Reply as Reply
    from showtell.models.respond import Responder as Responder
    from showtell.papers import load_model as load_model
    from showtell.recipes import run_recipe as run_recipe

__version__ = "0.1.0"

_HOMES = {
    "Decoder": "showtell.models.decoder",
    "Dialogue": "showtell.dialogue",
    "Photo": "showtell.dialogue",
    "PhotoDialogueModel": "showtell.models.dialogue_model",
    "Reply": "showtell.models.reply",
    "Responder": "showtell.models.respond",
    "Session": "showtell.agent.session",
    "ShowtellError": "showtell.errors",
    "Turn": "showtell.dialogue",
    "evaluate": "showtell.evaluation",
    "load_model": "showtell.papers",
    "open_data": "showtell.data.sources",
    "run_recipe": "showtell.recipes",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
