"""Frozen dataclasses in and out of JSON, and the one override: ``--set painter.steps=100``.

What a key means stands in the docstring of its class, once: a line ``key: meaning`` each.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from showtell.errors import ConfigError, did_you_mean

MOST = 1e15  # of any setting; a seed has room for it too

Config = TypeVar("Config")
LAST = "stage"  # what settings call the last of several named parts


def to_plain(config: Any) -> Any:
    """A configuration as JSON values; dataclasses wear their class name under "class"."""
    if _is_part(config):
        fields = {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"class": type(config).__name__, **fields}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    return [to_plain(value) for value in config] if isinstance(config, list | tuple) else config


def from_plain(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The dataclass ``kind`` from JSON values. Raises ConfigError for unknown keys and for values
    that a field with a choice does not have."""
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key == "class":
            continue
        if key not in hints:
            raise ConfigError(f'unknown key "{key}" for {kind.__name__}{did_you_mean(key, hints)}')
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            value = from_plain(typing.cast(type, hint), value)
        elif typing.get_origin(hint) is typing.Literal and value not in typing.get_args(hint):
            _value(str(value), hint, key)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[key] = value
    return kind(**arguments)


def override(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with ``key.key=value`` settings applied, in order.

    A part of a tuple goes by its name, or by "stage" if it is the last. Values are read as the
    field's type. Raises ConfigError for a setting without "=", an unknown key (with a suggestion)
    or a value of another type.
    """
    for setting in settings:
        path, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ConfigError(
                f'"{setting}" is not a setting; wanted key=value, as in stage.steps=100'
            )
        config = _set(config, path.split("."), text, path)
    return config


def described(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """(key, value, meaning) of every value in a configuration, as ``override`` names it."""
    meanings = _meanings(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        parts = _named(value) or ({field.name: value} if _is_part(value) else {})
        for name, part in parts.items():
            yield from described(part, f"{prefix}{name}.")
        if not parts:
            yield prefix + field.name, value, meanings.get(field.name, "")


def check_ranges(config: Any, owner: str, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers outside their range; none passes, of several each counts, NaN is outside."""
    for key, (low, high) in ranges.items():
        value = getattr(config, key)
        for number in value if isinstance(value, tuple) else () if value is None else (value,):
            if not low <= number <= high:
                wanted = f"{low:g} or more" if high >= MOST else f"{low:g} to {high:g}"
                raise ConfigError(f"{owner}: {key} is {number}; wanted {wanted}")


def _meanings(kind: type) -> dict[str, str]:
    """What the docstring of a class says of its fields, in lines of their own or in a sentence."""
    text = inspect.cleandoc(kind.__doc__ or "")
    found = re.findall(r"``(\w+)``:? (.+?)\.(?= |$)", " ".join(text.split()))
    found += re.findall(r"^(\w+): (.+(?:\n[ \t]+.+)*)", text, re.MULTILINE)
    return {key: " ".join(meaning.split()) for key, meaning in found}


def _is_part(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _named(value: Any) -> dict[str, Any]:
    """The parts of a tuple by their names."""
    parts = value if isinstance(value, tuple) and all(map(_is_part, value)) else ()
    return {part.name: part for part in parts}


def _set(config: Any, keys: list[str], text: str, path: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(config, Mapping):
        # a key may have dots itself: stage.learning_rates.painter.unet=0.1
        return {**config, ".".join(keys): _value(text, float, path)}
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    for name, value in fields.items():
        parts = _named(value)
        part = [*parts][-1] if parts and key == LAST and LAST not in fields else key
        if part in parts:
            if not rest:
                raise ConfigError(f'"{path}" has parts; set one of them, as in {path}.steps=100')
            parts[part] = _set(parts[part], rest, text, path)
            return dataclasses.replace(config, **{name: tuple(parts.values())})
    if key not in fields:
        known = [*fields, *(name for value in fields.values() for name in _named(value))]
        raise ConfigError(
            f'unknown key "{key}" in "{path}" for {type(config).__name__}{did_you_mean(key, known)}'
        )
    current = fields[key]
    if rest:
        if not (_is_part(current) or isinstance(current, Mapping)):
            raise ConfigError(f'"{path}": "{key}" is a value, it has no parts')
        return dataclasses.replace(config, **{key: _set(current, rest, text, path)})
    if _is_part(current):
        inside = ", ".join(f"{path}.{f.name}" for f in dataclasses.fields(current))
        raise ConfigError(f'"{path}" has parts; set one of {inside}')
    hint = typing.get_type_hints(type(config))[key]
    return dataclasses.replace(config, **{key: _value(text, hint, path)})


def _value(text: str, hint: Any, path: str) -> Any:
    """Text as the hinted type; ``none`` where None is allowed."""
    several = typing.get_origin(hint) in (types.UnionType, typing.Union)  # of a choice or None
    kinds = [*(typing.get_args(hint) if several else (hint,))]
    if type(None) in kinds:
        if text.lower() in ("none", "null"):
            return None
        kinds.remove(type(None))
    for kind in kinds:
        origin = typing.get_origin(kind) or kind
        try:
            if origin is typing.Literal:
                if text in typing.get_args(kind):
                    return text
                choices = [str(choice) for choice in typing.get_args(kind)]
                raise ConfigError(f'"{path}={text}": no such value{did_you_mean(text, choices)}')
            if origin is bool:
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            if origin in (int, float, str):
                return origin(text)
            if origin is tuple:
                return tuple(json.loads(text))
            if origin in (dict, Mapping, typing.get_origin(Mapping[str, float])):
                return dict(json.loads(text))
        except (ValueError, KeyError, TypeError):
            continue
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise ConfigError(f'"{path}={text}": "{text}" is not {wanted}; give a value of that kind')
