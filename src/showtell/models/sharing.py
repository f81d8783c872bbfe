"""Model folders on the hub of models: what a card says, and the way there and back.

    push_to_hub(folder, "me/my-model")      # all of its files in one commit, with a card
    load_model("me/my-model")               # or any verb's --model

The card, README.md, is written from the folder itself (``inside.py``), with the figures that one
gives it; a README.md that lies in the folder goes instead.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from showtell.errors import CheckpointError, FetchError, StorageError, UsageError, printable
from showtell.models.checkpoint import model_folder
from showtell.models.hub import index_parts
from showtell.models.inside import Inside, files_of, look_inside
from showtell.models.named import REPOSITORY, folder_of_id
from showtell.progress import terminal_progress

ID = re.compile(rf"(?!runs/){REPOSITORY}")  # what a recipe writes is in runs/
_LICENCES = {
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC0": "cc0-1.0",
    "BSD-3-Clause": "bsd-3-clause",
}
_DATA = re.compile(r"(photochat|dialogcc|mmdialog|vist|visdial|cc3m)\b")
_PLACE = re.compile(r"(?<![\w.])(?:~|[A-Za-z]:)?[\\/](?:[^\s:\\/]+[\\/])*([^\s:\\/]+)")
_PAGES = "https://huggingface.co/"


def is_id(name: str) -> bool:
    """Whether a name can only be that of a model on the hub."""
    path = Path(name)
    return bool(ID.fullmatch(name)) and not path.exists() and not path.parent.is_dir()


def any_model_folder(name: str) -> Path:
    """The folder of a model by its name, its path, or its id on the hub, where the hub's client
    keeps it (``named.py``). Raises CheckpointError, FetchError, UsageError."""
    if is_id(name):
        return folder_of_id(name, flag="--model", told=terminal_progress)
    return model_folder(name)


def push_to_hub(folder: Path, repo_id: str, *, private: bool = False, figures: str = "") -> str:
    """Put a model folder on the hub; its address there. ``figures``: Markdown for the card.

    Raises UsageError for what is no id, CheckpointError for a folder that would not load, or not
    elsewhere, FetchError where the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if not ID.fullmatch(repo_id):
        raise UsageError(
            f'"{repo_id:.100}" is no id of the hub; wanted OWNER/NAME of letters, digits, ".", "-" '
            'and "_"; choose such a one'
        )
    inside = look_inside(folder)
    if inside.faults or not (folder / "showtell.json").is_file():
        why = inside.faults[0] if inside.faults else "it is no model of showtell"
        raise CheckpointError(
            f'"{folder}" would not load elsewhere: {why}; push a folder that "showtell inspect" '
            "finds whole"
        )
    bases = [inside.told["base"], *inside.told["refers"].values()]
    if place := next((base["folder"] for base in bases if base.get("folder")), None):
        raise CheckpointError(
            f'"{folder}" refers to its base in "{place}", which nobody else has; wanted a model '
            "that is whole, or on a part of a package index or an id of the hub; push it with "
            "--whole, if the base's licence lets you pass it on"
        )
    files: dict[str, Any] = {path: str(folder / path) for path in files_of(folder)}
    files["showtell.json"] = _without_places((folder / "showtell.json").read_text()).encode()
    files.setdefault("README.md", model_card(inside, repo_id, figures=figures).encode())
    api = HfApi(library_name="showtell")
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.create_commit(
            repo_id,
            [CommitOperationAdd(path, source) for path, source in files.items()],
            commit_message=f"{inside.told['name']}, by showtell push",
        )
    except OSError as error:
        if getattr(error, "response", None) is None and error.filename is not None:
            raise StorageError(
                f"{error.filename} could not be read ({error.strerror}); nothing was pushed"
            ) from error
        raise _refused(repo_id, error) from error
    except Exception as error:  # the client's and the network's errors are of many kinds
        raise _refused(repo_id, error) from error
    return str(address)


def _without_places(description: str) -> str:
    """showtell.json without where its author's data and models lay: of an absolute path its last
    name stays."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(each) for key, each in value.items()}
        if isinstance(value, list):
            return [kept(each) for each in value]
        return _PLACE.sub(r"\1", value) if isinstance(value, str) else value

    told = json.loads(description)
    told["recipe"] = kept(told.get("recipe"))
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _refused(repo_id: str, error: Exception) -> FetchError:
    why = " ".join(str(error).split())
    return FetchError(
        f"{repo_id} could not be pushed ({type(error).__name__}: {why:.200}"
        '); wanted a hub that answers and a token that may write there; run "hf auth login", and '
        "the command again",
        reason="hub",
    )


# --------------------------------------------------------------------------------- the card


def model_card(inside: Inside, repo_id: str, *, figures: str = "") -> str:
    """README.md of a model of ours: a head in YAML for the hub, the rest for people."""
    from huggingface_hub import ModelCardData

    told, trained, card = inside.told, inside.told["trained"], inside.told["card"]
    base, config = told["base"], told["recipe_config"]
    part = index_parts().get(str(base.get("part")))
    base_id = base.get("id")
    if part and part.page.startswith(_PAGES):
        base_id = part.page.removeprefix(_PAGES)
    licence = str(told["licence"] or "")
    known = sorted(
        (licence.find(text), name) for text, name in _LICENCES.items() if text in licence
    )
    data = sorted(set(_DATA.findall(" ".join(_strings(config)))))
    tags = ["showtell", "dialogue", "photo-sharing", str(trained["bridge"] or "").lower()]
    front = ModelCardData(
        license=known[0][1] if known else "other",
        license_name=None if known else "see-below",
        base_model=base_id,
        datasets=data or None,
        tags=[tag for tag in [*tags, "lora" if trained["adapter"] else ""] if tag],
        library_name="showtell",
        pipeline_tag="text-generation",
    )
    moment = told["moment"] or {}
    held = {key: v for key, v in moment.items() if key.startswith("held_out")}
    lines = [
        *("---", front.to_yaml().strip(), "---", f"# {told['name']}", ""),
        "A chat agent that tells and shows: it decides itself when to share a photo.",
        "",
        *([f"{card['limits']}", ""] if card.get("limits") else []),
        *("```", f"showtell chat --model {repo_id}", "```", "", "## Inside", ""),
        *("| part | class | parameters | bytes |", "|---|---|--:|--:|"),
        *(
            f"| {each.path} | {each.kind} | {each.parameters:,} | {each.num_bytes:,} |"
            for each in inside.parts
        ),
        "",
        f"Base: {base_id or part and part.name or 'none; all weights are here'}.",
        f"New tokens: {', '.join(map(_code, trained['new_tokens'])) or 'none'}.",
        f"Turns stand as {told['template']} has them; a photo is shared from a chance of "
        f"{_figure(told['thresholds'].get('share_threshold', 0.5))} on.",
        *(
            [f"Trained by the recipe `{trained['recipe']}`, in showtell.json."]
            * bool(trained["recipe"])
        ),
        "",
        *(["## Held-out dialogues of its training", ""] if held else []),
        *(
            f"- {key.removeprefix('held_out_').replace('_', ' ')} {_figure(v)}"
            for key, v in held.items()
        ),
        *([""] if held else []),
        *(["## Measured", "", *_below(figures), ""] if figures else []),
        "## Licence",
        "",
        f"{licence or 'Its author names none.'}",
        "",
    ]
    return printable("\n".join(lines))


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else str(value)


def _code(token: str) -> str:
    return f"`{token}`"


def _below(figures: str) -> list[str]:
    """Markdown whose headings stand below one."""
    return [f"#{line}" if line.startswith("#") else line for line in figures.strip().splitlines()]


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in _strings(each)]
    return [value] if isinstance(value, str) else []
