"""Frozen dataclasses in and out of JSON, and the one override: ``--set painter.steps=100``."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from showtell.errors import ConfigError, did_you_mean

Config = TypeVar("Config")


def to_plain(config: Any) -> Any:
    """A configuration as JSON values; dataclasses wear their class name under "class"."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"class": type(config).__name__, **fields}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_plain(value) for value in config]
    return config


def from_plain(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The dataclass ``kind`` from JSON values. Raises ConfigError for unknown keys."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        if key == "class":
            continue
        if key not in known:
            raise ConfigError(f'unknown key "{key}" for {kind.__name__}{did_you_mean(key, known)}')
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            value = from_plain(typing.cast(type, hint), value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[key] = value
    return kind(**arguments)


def override(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with ``key.key=value`` settings applied, in order.

    Values are read as the field's type. Raises ConfigError for a setting without "=", an unknown
    key (with a suggestion) or a value of another type.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(
                f'"{setting}" is not a setting; wanted key=value, as in stage.steps=100'
            )
        config = _set(config, path.strip().split("."), text.strip(), path.strip())
    return config


def _set(config: Any, keys: list[str], text: str, path: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(config, Mapping):
        # a key may have dots itself: stage.learning_rates.painter.unet=0.1
        return {**config, ".".join(keys): _value(text, float, path)}
    fields = {f.name for f in dataclasses.fields(config)}
    if key not in fields:
        raise ConfigError(
            f'unknown key "{key}" in "{path}" for {type(config).__name__}'
            f"{did_you_mean(key, fields)}"
        )
    current = getattr(config, key)
    if rest:
        if not (dataclasses.is_dataclass(current) or isinstance(current, Mapping)):
            raise ConfigError(f'"{path}": "{key}" is a value, it has no parts')
        return dataclasses.replace(config, **{key: _set(current, rest, text, path)})
    if dataclasses.is_dataclass(current):
        inside = ", ".join(f"{path}.{f.name}" for f in dataclasses.fields(current))
        raise ConfigError(f'"{path}" has parts; set one of {inside}')
    hint = typing.get_type_hints(type(config))[key]
    return dataclasses.replace(config, **{key: _value(text, hint, path)})


def _value(text: str, hint: Any, path: str) -> Any:
    """Text as the hinted type; ``none`` where None is allowed."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in options and text.lower() in ("none", "null"):
        return None
    kinds = [option for option in options if option is not type(None)]
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
            if origin in (int, float):
                return origin(text)
            if origin is str:
                return text
            if origin is tuple:
                return tuple(json.loads(text))
            if origin in (dict, Mapping, typing.get_origin(Mapping[str, float])):
                return dict(json.loads(text))
        except (ValueError, KeyError, TypeError):
            continue
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise ConfigError(f'"{path}={text}": "{text}" is not {wanted}; give a value of that kind')
