"""The photo world: scenes, their drawings, and dialogues, stories and rounds about them.

Everything follows from an integer seed. What is said and drawn lies in tables beside the code:
``talk.json`` (templates and word lists), ``phrases.json`` (words for what a photo shows),
``drawings.json`` (sprites and places).
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load_table(name: str) -> dict[str, Any]:
    """What NAME.json holds; not to be changed."""
    table = json.loads(files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    assert isinstance(table, dict)
    return table
