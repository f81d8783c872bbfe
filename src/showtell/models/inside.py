"""What is inside a model folder, ours or one of the libraries: ``showtell inspect``.

Told by JSON files, the headers of safetensors and the names of the rest. No weight is read and
nothing is built, so a folder of any size, broken or not, is answered at once.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load, parse_local_safetensors_file_metadata

from showtell.errors import CheckpointError
from showtell.models.hub import index_parts
from showtell.models.named import cached

# The files of one set of weights: model-00001-of-00002.safetensors, and their variants by name.
_SET = re.compile(r"(?:pytorch_|diffusion_pytorch_|adapter_)?model(?:\.(?P<variant>\w+))?")
_SHARD = re.compile(r"-\d+-of-\d+$")
FOREIGN = {
    (".bin", ".pt", ".pth", ".ckpt", ".tar", ".pkl"): "a pickle",
    (".gguf",): "of llama.cpp",
    (".h5", ".msgpack", ".onnx", ".ot"): "of another framework",
}
_AT_MOST = 100_000  # files of a folder
_MOST_JSON = 50_000_000  # bytes of a file of it


@dataclass(kw_only=True)
class Part:
    """One set of weights; ``path`` is its folder, or its file where a folder holds several sets.

    ``names``: of its tensors.
    """

    path: str
    kind: str
    parameters: int
    num_bytes: int
    dtypes: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    @property
    def plain(self) -> dict[str, Any]:
        return {
            "part": self.path,
            "class": self.kind,
            "parameters": self.parameters,
            "dtypes": self.dtypes,
            "bytes": self.num_bytes,
            "tensors": len(self.names),
        }


@dataclass(kw_only=True)
class Inside:
    """What a folder holds. ``told``: what else is known of it, by a word for each; ``faults``: why
    it would not load."""

    folder: Path
    kind: str
    parts: list[Part]
    told: dict[str, Any]
    faults: list[str]

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "parameters": sum(part.parameters for part in self.parts),
            "bytes": sum(part.num_bytes for part in self.parts),
            "parts": [part.plain for part in self.parts],
            **self.told,
            "faults": self.faults,
        }


def look_inside(folder: Path) -> Inside:
    """Raises CheckpointError for a folder that is no model's; what is broken of one is a fault."""
    faults: list[str] = []
    files = files_of(folder)
    parts = _parts(folder, files, faults)
    ours = "showtell.json" in files
    kind, told = _ours(folder, parts, faults) if ours else _theirs(folder, files, faults)
    for path in files if not parts else ():
        for endings, what in FOREIGN.items():
            if path.endswith(endings):
                faults.append(
                    f"{path} is {what}, and only safetensors are loaded: convert it (docs/"
                    "training.md), or take the folder's safetensors version"
                )
    if not parts and not faults and not told.get("base"):
        if kind == "nothing known":
            raise CheckpointError(
                f'"{folder}" is no model: it holds neither showtell.json, config.json, '
                "model_index.json nor safetensors; name a folder that showtell, transformers or "
                "diffusers wrote"
            )
        faults.append("there are no weights; copy the folder again, with its safetensors")
    return Inside(folder=folder, kind=kind, parts=parts, told=told, faults=faults)


def files_of(folder: Path) -> list[str]:
    """The paths below it, sorted; of a repository not what lies in hidden folders."""
    found = []
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        inner = Path(place).relative_to(folder)
        found += [(inner / n).as_posix() for n in sorted(names) if (folder / inner / n).is_file()]
        if len(found) > _AT_MOST:
            raise CheckpointError(
                f'"{folder}" holds more than {_AT_MOST:,} files; wanted the folder of one model; '
                "name that"
            )
    return found


def _parts(folder: Path, files: list[str], faults: list[str]) -> list[Part]:
    sets: dict[str, list[str]] = {}
    for path in files:
        if not path.endswith(".safetensors"):
            continue
        place, _, name = path.rpartition("/")
        stem = _SHARD.sub("", name.removesuffix(".safetensors"))
        found = _SET.fullmatch(stem)
        variant = found and found["variant"]
        if found:
            key = f"{place or '.'} ({variant})" if variant else place or "."
        else:
            key = path if stem == name.removesuffix(".safetensors") else f"{place or '.'}/{stem}"
        sets.setdefault(key, []).append(path)
    parts = [_part(folder, key, paths, faults) for key, paths in sets.items()]
    for path in files:
        if path.endswith(".safetensors.index.json"):
            _check_index(folder, path, parts, faults)
    return parts


def _part(folder: Path, key: str, paths: list[str], faults: list[str]) -> Part:
    dtypes: Counter[str] = Counter()
    names: list[str] = []
    size = 0
    for path in paths:
        try:
            size += (found := (folder / path).stat().st_size)
            told = parse_local_safetensors_file_metadata(folder / path)
            with (folder / path).open("rb") as file:
                header = 8 + int.from_bytes(file.read(8), "little")
            ends = [tensor.data_offsets[1] for tensor in told.tensors.values()]
            if found != (wanted := header + max(ends, default=0)):
                faults.append(
                    f"{path} has {found:,} bytes and its header wants {wanted:,}: it is cut short "
                    "or damaged; copy it again"
                )
        except Exception as error:  # a header is anything at all
            why = " ".join(str(error).split())
            faults.append(
                f"{path} has no header of safetensors ({type(error).__name__}: {why:.120}): it is "
                "damaged, or another kind of file; copy it again"
            )
            continue
        dtypes.update(told.parameter_count)
        names += told.tensors
    if lost := [name for name, count in Counter(names).items() if count > 1]:
        faults.append(
            f"{key}: {len(lost)} weights stand in two of its files, {lost[0]} among them: they are "
            "of two versions; copy the folder anew"
        )
    return Part(
        path=key,
        kind=_kind(folder / paths[0], faults),
        parameters=dtypes.total(),
        num_bytes=size,
        dtypes=dict(dtypes),
        names=names,
    )


def _check_index(folder: Path, path: str, parts: list[Part], faults: list[str]) -> None:
    places = _json(folder / path, faults).get("weight_map")
    if not isinstance(places, dict):
        return
    here = {name for part in parts for name in part.names}
    home = (folder / path).parent
    files = sorted({str(name) for name in places.values()})
    if lost := [name for name in files if not (home / name).is_file()]:
        faults.append(
            f"{path} names {lost[0]}{f' and {len(lost) - 1} more' if lost[1:] else ''}, and there "
            "is no such file; copy the folder again"
        )
    elif lost := sorted(set(places) - here):
        faults.append(f"{path} names the weight {lost[0]}, which no file has; copy it again")


def _kind(weights: Path, faults: list[str]) -> str:
    """What the weights are of: a class, an adapter, or their file's name."""
    name = _SHARD.sub("", weights.name.removesuffix(".safetensors"))
    if name == "adapter_model":
        told = _json(weights.parent / "adapter_config.json", faults)
        if told.get("r"):
            targets = told.get("target_modules") or ()
            where = ", ".join(sorted(map(str, targets))) if isinstance(targets, list) else targets
            return f"LoRA, rank {told['r']}, of {where}"
        return str(told.get("peft_type", "adapter")).lower().replace("_", " ")
    if not _SET.fullmatch(name):
        return name.replace("_", " ")
    return class_of(_json(weights.parent / "config.json", faults)) or "unknown"


def class_of(config: Mapping[str, Any]) -> str:
    """The class that a config.json of transformers or diffusers is of; "" where it says none."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return str(first or config.get("_class_name") or config.get("model_type") or "")


def _json(path: Path, faults: list[str]) -> dict[str, Any]:
    """An object of a file; {} where there is none. What is wrong with it is a fault."""
    if not path.is_file():  # a pipe would have us wait
        return {}
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError(f"it has more than {_MOST_JSON:,} bytes")
        told = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(told, dict):
            return told
        why = "it holds no object"
    except (OSError, ValueError, RecursionError) as error:
        why = str(error)
    fault = f"{path.name} in {path.parent.name or path.parent}/ is not JSON ({why:.120})"
    if fault not in faults:
        faults.append(fault)
    return {}


def _object(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    return value if isinstance(value := told.get(key), dict) else {}


# --------------------------------------------------------------------------- ours, and theirs


def _ours(folder: Path, parts: list[Part], faults: list[str]) -> tuple[str, dict[str, Any]]:
    description = _json(folder / "showtell.json", faults)
    card, renderer, decoding, recipe, bridge = (
        _object(description, key) for key in ("card", "renderer", "decoding", "recipe", "bridge")
    )
    if description and (lacking := {"name", "renderer", "bridge"} - set(description)):
        faults.append(
            f"showtell.json lacks {', '.join(sorted(lacking))}; it is of another version of "
            "showtell, or damaged; copy the model again"
        )
    language = folder / "language_model"
    bases = {
        path.relative_to(folder).parent.as_posix(): reference | _base(path, reference, faults)
        for path in sorted(folder.rglob("base.json"))
        if (reference := _json(path, faults))
    }
    base = bases.pop("language_model", {})
    if "language_model" not in [part.path for part in parts] and not base:
        faults.append("language_model/ has no weights; copy the model again")
    if not (language / "tokenizer.json").is_file() and not base:
        faults.append("language_model/ has no tokenizer.json; copy the model again")
    tokens = _new_tokens(language, faults)
    settings = _object(recipe, "config")
    named = settings.get("language") or settings.get("base")
    told: dict[str, Any] = {
        "name": description.get("name"),
        "format": description.get("format"),
        "base": base or ({"trained_from": named} if named else {}),
        "refers": bases,  # of the other parts
        "trained": {
            "new_tokens": tokens,
            "adapter": next((p.kind for p in parts if p.path == "language_model/adapter"), None),
            "bridge": str(bridge.get("class", "")).removesuffix("Config") or None,
            "recipe": recipe.get("name"),
            "stood_still": _still(settings),
        },
        "template": renderer.get("template", "marks"),
        "renderer": renderer,
        "bridge": bridge,
        "decoding": decoding,
        "thresholds": {key: v for key, v in decoding.items() if "threshold" in key or "cut" in key},
        "moment": card.get("moment"),
        "licence": card.get("licence"),
        "card": card,
        "recipe_config": settings,
        "captioner": (folder / "captioner" / "showtell.json").is_file(),
    }
    return "a model of showtell", told


def _base(path: Path, reference: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """What a part is that a model refers to, if it is on this machine."""
    if (part := index_parts().get(str(reference.get("part")))) is not None:
        if not part.here:
            return {"here": False, "licence": part.licence, "download_mb": part.download_mb}
        folder = part.folder
    elif "id" in reference:
        found = cached(str(reference["id"]), revision=str(reference.get("revision")))
        if found is None:  # it is fetched where the model is loaded
            return {"here": False}
        folder = found / str(reference.get("inner", ""))
    else:
        folder = Path(str(reference.get("folder")))
    if not folder.is_dir():
        faults.append(
            f"{path.parent.name}/base.json refers to {reference.get('part') or folder}, which is "
            'not there; put it there, or write where it is as "folder" into that file'
        )
        return {"here": False}
    base = look_inside(folder)
    faults += [f"the base in {folder}: {fault}" for fault in base.faults]
    told = {key: base.plain[key] for key in ("parameters", "bytes")}
    return {"here": True, "class": ", ".join(part.kind for part in base.parts), **told}


def _new_tokens(language: Path, faults: list[str]) -> list[str]:
    """What the vocabulary has gained, told in the metadata of its file."""
    path = language / "new_tokens.safetensors"
    try:
        with path.open("rb") as file:
            size = min(int.from_bytes(file.read(8), "little"), 1 << 24)
            notes = json.loads(file.read(size)).get("__metadata__", {})
        plain = notes.get("tokens") or json.loads(notes["vocabulary"])["tokens"]
        return [str(token) for token in (json.loads(plain) if isinstance(plain, str) else plain)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        faults.append("new_tokens.safetensors does not say which tokens it is of; copy it again")
        return []


def _still(settings: Mapping[str, Any]) -> list[str]:
    """The modules that the last stage did not move."""
    stages = settings.get("stages")
    stage = stages[-1] if isinstance(stages, list) and stages else settings.get("stage")
    rates = stage.get("learning_rates") if isinstance(stage, dict) else None
    return (
        sorted(key for key, rate in rates.items() if rate == 0) if isinstance(rates, dict) else []
    )


def _theirs(folder: Path, files: list[str], faults: list[str]) -> tuple[str, dict[str, Any]]:
    index, config = (_json(folder / name, faults) for name in ("model_index.json", "config.json"))
    adapter = _json(folder / "adapter_config.json", faults)
    card = _front_matter(folder, faults)
    tokenizer = _json(folder / "tokenizer_config.json", faults)
    if "modules.json" in files:
        kind = f"sentence-transformers, {class_of(config)}"
    elif index:
        kind = f"diffusers, {class_of(index)}"
    elif config:
        library = "diffusers" if "_class_name" in config else "transformers"
        kind = f"{library}, {name}" if (name := class_of(config)) else "a config.json of its own"
    elif adapter:
        kind = "an adapter of peft"
    else:
        kind = (
            "weights" if any(path.endswith(".safetensors") for path in files) else "nothing known"
        )
    for name, entry in index.items():
        listed = isinstance(entry, list) and len(entry) == 2 and entry[1] is not None
        if listed and not (folder / name).is_dir():
            faults.append(
                f"model_index.json names {name}/ ({entry[1]}), and there is no such folder; copy "
                "the pipeline again"
            )
    text = _object(config, "text_config")
    template = tokenizer.get("chat_template") or "chat_template.jinja" in files
    told = {
        "base": adapter.get("base_model_name_or_path") or card.get("base_model"),
        "vocabulary": config.get("vocab_size") or text.get("vocab_size"),
        "template": "chat" if template else None,
        "pixels": "preprocessor_config.json" in files or None,
        "licence": card.get("license_name") or card.get("license"),
        "card": card,
    }
    return kind, {key: value for key, value in told.items() if value}


def _front_matter(folder: Path, faults: list[str]) -> dict[str, Any]:
    path = folder / "README.md"
    try:
        return metadata_load(path) or {} if path.is_file() else {}
    except Exception as error:  # YAML's errors are of many kinds
        faults.append(f"README.md begins with no YAML ({' '.join(str(error).split()):.120})")
        return {}
