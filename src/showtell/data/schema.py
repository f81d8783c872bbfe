"""The JSON Schema of showtell's JSONL, generated from the dataclasses of ``showtell.dialogue``."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from showtell.dialogue import Dialogue, Origin, Photo, Speaker, Turn

SPEAKERS: tuple[str, ...] = typing.get_args(Speaker)
ORIGINS: tuple[str, ...] = typing.get_args(Origin)
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def dialogue_schema() -> dict[str, Any]:
    """The schema of one line (draft 2020-12). Every field of the dataclasses is required."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "showtell dialogue: one line of dialogues.jsonl",
        **_of(Dialogue),
        "$defs": {
            "Turn": _of(Turn),
            "Text": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
                "additionalProperties": False,
            },
            "Photo": _of(Photo, kind="photo"),
        },
    }


def _of(cls: type, *, kind: str | None = None) -> dict[str, Any]:
    """A dataclass as an object schema; with ``kind``, one that says under "type" what it is."""
    hints = typing.get_type_hints(cls)
    properties = {f.name: _hint(hints[f.name], f.name) for f in dataclasses.fields(cls)}
    if kind:
        properties = {"type": {"const": kind}, **properties}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _hint(hint: Any, name: str) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _hint(arguments[0], name)}
    if origin is Mapping:
        return {"type": "object"}
    if hint == Photo | str:
        return {"oneOf": [{"$ref": "#/$defs/Text"}, {"$ref": "#/$defs/Photo"}]}
    if origin in (types.UnionType, typing.Union):
        return {"type": [_PLAIN[argument] for argument in arguments]}
    if hint is Turn:
        return {"$ref": "#/$defs/Turn"}
    if name == "id":
        return {"type": "string", "minLength": 1}
    return {"type": _PLAIN[hint]}
