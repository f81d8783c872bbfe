"""The folder of a part by whatever name a user has for it: one way for all parts.

    named_folder("smollm2-135m-instruct", flag="--lm")       # a part that a package index serves
    named_folder("models/opt", flag="--lm")                  # a folder of the libraries, or a .gguf
    named_folder("facebook/opt-1.3b", flag="--lm")           # an id on the model hub

An id is looked for in the cache of the hub's client, then on the hub, under its own name and under
its mirrors (``hub_ids.toml``), in this order; of its files only what our libraries read is fetched.
What came is checked: LFS files have their SHA-256 for a name.

Weights that are not safetensors (GGUF, or what PyTorch pickled as .bin) are converted by a process
of its own (``foreign.py``) into $SHOWTELL_CACHE/NAME-DIGEST, the digest being that of all that went
in; whole or not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from showtell.data.storage import new_folder, sha256_of
from showtell.errors import CheckpointError, FetchError, StorageError, UsageError, import_extra
from showtell.models.foreign import SEVERAL, VARIANT, is_kept, is_pickled, part_files
from showtell.models.hub import cache_folder, convert, index_part, index_parts
from showtell.progress import Progress, quiet, terminal_line

OURS = "showtell.json"  # of a model that showtell has pushed: all its files are read
REPOSITORY = r"\w[\w.-]*/\w[\w.-]*"  # OWNER/MODEL
ID = re.compile(rf"{REPOSITORY}(/[\w.-]+\.gguf)?")
_FIRST = ["config.json", "model_index.json", OURS]  # the least that makes the client list all
# the same weights once more, or for other libraries, or what no part of ours reads
_DOUBLE = re.compile(r"(^|[._-])(fp16|bf16|ema|non_ema|pruned|consolidated)([._-]|$)")
_LEFT = {"onnx", "openvino", "original", "flax", "safety_checker", "feature_extractor"}


@dataclass(frozen=True, kw_only=True)
class KnownId:
    """A table of hub_ids.toml, whose keys are explained there."""

    told: str
    licence: str
    mirrors: tuple[str, ...] = ()
    sha256: dict[str, str] = field(default_factory=dict)


def known_ids() -> dict[str, KnownId]:
    """All of hub_ids.toml, by id."""
    table = tomllib.loads(Path(__file__).with_name("hub_ids.toml").read_text(encoding="utf-8"))
    return {
        name: KnownId(**{**entry, "mirrors": tuple(entry.get("mirrors", ()))})
        for name, entry in table.items()
    }


def named_folder(
    name: str,
    *,
    flag: str,
    told: Progress = quiet,
    say: Callable[[str], None] = terminal_line,
) -> Path:
    """The folder of safetensors that ``name`` stands for: a folder (or a .gguf file), a part of an
    index, or an id. ``flag`` is how it was named; ``say`` hears where an id's files are from.

    Raises UsageError for a name that is none of these, CheckpointError for an id that cannot be
    had and weights that cannot be converted, FetchError for files that are not the right ones.
    """
    if (path := _on_disk(name)) is not None:
        return converted(path, name=path.resolve().name, told=told)
    if name in index_parts():
        return index_part(name, told=told)
    if not ID.fullmatch(name) or Path(name.split("/")[0]).is_dir():  # a path, and not an id
        raise UsageError(
            f'{flag} is "{name:.200}", which is no folder here; wanted a folder of the libraries, '
            "an id of the hub (OWNER/MODEL) or a part of a package index (smollm2-135m-instruct); "
            "check the name"
        )
    owner, model, *file = name.split("/")
    folder = folder_of_id(f"{owner}/{model}", file=file, flag=flag, told=told, say=say)
    return converted(folder.joinpath(*file), name=file[0] if file else model, told=told)


def _on_disk(name: str) -> Path | None:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # of what can be no path
        path = Path(name).expanduser()
        return path if path.is_dir() or path.is_file() else None
    return None


# --------------------------------------------------------------------------------------- the hub


def folder_of_id(
    name: str,
    *,
    flag: str,
    file: Collection[str] = (),
    revision: str | None = None,
    told: Progress = quiet,
    say: Callable[[str], None] = terminal_line,
) -> Path:
    """The folder of an id in the cache of the hub's client, fetched if it is not whole there;
    ``file``: of it this one alone; ``revision``: this one, and of no mirror. Raises
    CheckpointError, FetchError, UsageError.
    """
    known = known_ids().get(name, KnownId(told="", licence=""))
    tried = (name, *known.mirrors) if revision is None else (name,)
    folder, reasons = None, []
    for each in tried:
        if folder := cached(each, file, revision=revision):
            break
    else:
        for each in tried:
            try:
                folder = _fetched(each, file, known, told, revision)
                break
            except (FetchError, UsageError, StorageError):
                raise
            except Exception as error:  # of the network, the hub, the disk: many kinds
                cause = _cause(error)
                reasons.append(f"{each}: {_reason(cause)}")
                if getattr(cause, "response", None) is None:  # nor would it be for a mirror
                    break
    if folder is None:
        raise CheckpointError(
            f'{flag} is "{name}", which is in no folder here, and the hub did not give it '
            f"({'; '.join(reasons)}); wanted its config.json, tokenizer and safetensors: where "
            f'there is a hub, run "hf download {tried[-1]} --local-dir DIR", and give {flag} that '
            "DIR"
        )
    source = name if each == name else f"{name} is from its mirror {each}"
    licence = f" ({known.told}; {known.licence})" if known.told else ""
    say(f"{source}, revision {folder.name[:12]}, in {folder}{licence}")
    return folder


def place_on_hub(folder: Path) -> dict[str, str]:
    """Which repository's files a folder in the cache of the hub's client has: "id", "revision" and
    the folder "inner"; of any other folder "folder"."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache, folder = Path(HF_HUB_CACHE).resolve(), folder.resolve()
    names = folder.relative_to(cache).parts if folder.is_relative_to(cache) else ()
    if len(names) >= 3 and names[0].startswith("models--") and names[1] == "snapshots":
        name = names[0].removeprefix("models--").replace("--", "/")
        return {"id": name, "revision": names[2], "inner": "/".join(names[3:])}
    return {"folder": str(folder)}


def cached(name: str, file: Collection[str] = (), *, revision: str | None = None) -> Path | None:
    """Its folder in the cache, if all that is wanted of it is there."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    try:
        tree = get_cached_repo_tree(name, revision=revision)
        wanted = file or wanted_files(each.path for each in tree)
    except (CachedRepoTreeNotFoundError, UsageError):  # of another client: what is there is it
        wanted = file
    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=True,
                allow_patterns=list(wanted) or None,
            )
        )
    except LocalEntryNotFoundError:
        return None
    names = [path.name for path in part_files(folder)]
    weights = any(name.endswith((".safetensors", ".gguf")) or is_pickled(name) for name in names)
    weights = weights or OURS in names
    return folder if weights and set(file) <= set(names) else None


def _fetched(
    name: str, file: Collection[str], known: KnownId, told: Progress, revision: str | None
) -> Path:
    """Its folder in the cache, after its files came from the hub and were checked."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    snapshot_download(name, revision=revision, allow_patterns=_FIRST)
    files = {each.path: each.size for each in get_cached_repo_tree(name, revision=revision)}
    wanted = [path for path in files if path in file] or wanted_files(files)
    total = max(1, sum(files[path] for path in wanted) // 10**6)
    bar = _bar(f"{name} ({total:,} MB): MB downloaded", total, told)
    folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, tqdm_class=bar))
    for path in wanted:
        real = Path(os.path.realpath(folder / path))
        stated = real.name if re.fullmatch("[0-9a-f]{64}", real.name) else ""
        right = known.sha256.get(path, stated)
        if right and (stated != right or sha256_of(real) != right):
            (folder / path).unlink()
            real.unlink(missing_ok=True)
            raise FetchError(
                f"{path} of {name} is not the file that it should be: wanted one with the SHA-256 "
                f"{right}; it was thrown away. Run the command again, and if that does not help "
                f"look at https://huggingface.co/{name}",
                reason="checksum",
            )
    return folder


def wanted_files(paths: Iterable[str]) -> list[str]:
    """Of a repository's files what is read here: configurations, tokenizers, and each part's
    weights once, as safetensors where there are such, in half precision where there is no other.

    Raises UsageError where there are several GGUF files to choose from, and nothing else.
    """
    every = [PurePosixPath(path) for path in paths]
    if PurePosixPath(OURS) in every:
        kept = (".safetensors", ".md", ".png")
        return [str(path) for path in every if path.suffix in kept or is_kept(path.name)]
    painter, several = (
        {*names} & {str(path) for path in every} for names in (SEVERAL[:1], SEVERAL)
    )
    depth = 2 if several else 1
    taken = [p for p in every if len(p.parts) <= depth and not _LEFT & set(p.parts[:-1])]
    weights: dict[str, list[PurePosixPath]] = {".safetensors": [], ".bin": [], ".gguf": []}
    for path in taken:
        plain = path.suffix != ".bin" or is_pickled(path.name)
        inner = len(path.parts) > 1 or not painter  # else a whole painter in one file
        double = path.suffix != ".gguf" and _DOUBLE.search(path.name)
        if path.suffix in weights and plain and inner and not double:
            weights[path.suffix].append(path)
    whole = {path.parent for path in weights[".safetensors"]}
    halves = _halves([path for path in taken if path.parent not in whole])
    weights[".safetensors"] += halves
    whole |= {path.parent for path in halves}
    found = weights[".safetensors"] + [p for p in weights[".bin"] if p.parent not in whole]
    if not found and len(found := weights[".gguf"]) > 1:
        names = ", ".join(path.name for path in found[:8])
        raise UsageError(
            f"this id has {len(found)} GGUF files, wanted one; name it: OWNER/MODEL/FILE, FILE "
            f"being one of {names}"
        )
    half = {path.parent for path in halves}
    small = [
        path
        for path in taken
        if is_kept(path.name) and (path.parent in half or not _DOUBLE.search(path.name))
    ]
    return [str(path) for path in (*small, *found)]


def _halves(paths: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """The weights in half precision, of each folder those of one kind."""
    kinds: dict[PurePosixPath, dict[str, list[PurePosixPath]]] = {}
    for path in paths:
        if found := VARIANT.search(path.name):
            kinds.setdefault(path.parent, {}).setdefault(found[1], []).append(path)
    return [path for own in kinds.values() for path in own[min(own)]]


def _cause(error: Exception) -> Any:
    """What the hub's client wraps: the answer of the hub, or why there is none."""
    return error if hasattr(error, "response") else error.__cause__ or error


def _reason(error: Any) -> str:
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled

    code = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return "accept its licence on its page, then run hf auth login"
    if code in (401, 403, 404):
        return f"{code}, it is not there, or is private"
    if code is not None:
        return f"the hub answers {code}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _bar(what: str, total: int, told: Progress) -> Any:
    """A class of progress bars as the hub's client wants it; those of bytes tell ``told``."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, type-arg]
        def __init__(self, *given: Any, **settings: Any) -> None:
            self.came = 0
            self.counts = settings.get("desc") == "Downloading bytes"
            super().__init__(*given, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.came += int(n or 0)
            if self.counts:
                told(what, min(self.came // 10**6, total), total)

    return Bar


# ------------------------------------------------------------------------------- foreign formats


def converted(path: Path, *, name: str, told: Progress = quiet) -> Path:
    """The folder itself if its weights are safetensors, else what was made of them, now or before.

    Raises CheckpointError for what cannot be converted, MissingDependency, StorageError.
    """
    if path.is_file():
        kind, files = "gguf" if path.suffix == ".gguf" else "", [path]
    else:
        kind, files = _foreign(path)
    if not kind:
        if path.is_dir():
            return path
        raise CheckpointError(
            f'"{path}" is a file of another kind; wanted a folder of the libraries, or a .gguf'
        )
    if kind == "gguf":
        import_extra("gguf", what="a GGUF file", extra="home")
        path = files[0]
    digest = hashlib.sha256()
    for number, file in enumerate(files):
        told(f"{name}: files read", number, len(files))
        inner = file.name if file == path else file.relative_to(path).as_posix()
        digest.update(f"{inner} {sha256_of(file)}\n".encode())
    told(f"{name}: files read", len(files), len(files))
    short = re.sub(r"[^\w.-]", "_", name.removesuffix(".gguf"))[:60]
    folder = cache_folder() / f"{short}-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    size = max(1, sum(file.stat().st_size for file in files) // 10**6)
    try:
        with new_folder(folder) as fresh:
            convert(kind, path, fresh, name=str(path), size_mb=size, told=told)
    except StorageError:
        if not folder.is_dir():  # or another process made it first
            raise
    return folder


def _foreign(folder: Path) -> tuple[str, list[Path]]:
    """How a folder must be converted ("": not at all), and the files that it is made of."""
    files = part_files(folder)
    whole = {path.parent for path in files if path.suffix == ".safetensors"}
    pickled = [path for path in files if is_pickled(path.name) and path.parent not in whole]
    packed = [path for path in files if path.suffix == ".gguf"]
    if pickled:
        used = {*pickled, *(path for path in files if path.suffix == ".safetensors")}
        return "pickled", [path for path in files if path in used or is_kept(path.name)]
    if packed and not whole:
        if len(packed) > 1:
            names = ", ".join(path.name for path in packed[:8])
            raise CheckpointError(
                f'"{folder}" has {len(packed)} GGUF files ({names}); wanted one; name the file '
                "itself"
            )
        return "gguf", packed
    return "", []
