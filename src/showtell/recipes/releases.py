"""What the papers' authors released, as models of ours: ``showtell convert``.

    gill       a folder: pretrained_ckpt.pth.tar, model_args.json, perhaps decision_model.pth.tar
    minigpt5   the checkpoint of the first stage, and of the second, whose LoRA and mapper go
               before those of the first

Their files hold what was trained and refer to an LLM, a vision encoder and a painter by name; a
base model brings these. Each tensor of a file goes to its place here, and each place is filled:
else the name is an error. Layouts: github.com/kohjingyu/gill (scripts/prune_model_ckpt.py,
gill/layers.py) and github.com/eric-ai-lab/MiniGPT-5 (model.py, minigpt4/models/mini_gpt5.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from showtell.errors import CheckpointError, ConfigError, did_you_mean
from showtell.models.adapters import LoraConfig, add_lora
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.hub import released_weights
from showtell.models.parts import BridgeConfig
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.papers import gill, minigpt5
from showtell.progress import Progress, quiet
from showtell.recipes.assemble import with_bridge

State = dict[str, Tensor]
_LICENCE = "that of the release and of the parts that it is put together with"
_LIMITS = (
    "Converted from what its authors released. It was trained on captions, and stories or "
    "dialogues in another form than turns here, so its own words and its decision to share are "
    "not those of the paper; what it makes of a photo's tokens is."
)


def converted(
    release: str, files: Sequence[Path], base: PhotoDialogueModel, *, told: Progress = quiet
) -> PhotoDialogueModel:
    """``base`` with what a release has trained on parts as these.

    Raises ConfigError for a release that is not known or does not fit the base, CheckpointError
    for a file that is not of it, or is of another model.
    """
    if release not in RELEASES:
        raise ConfigError(f'unknown release "{release}"{did_you_mean(release, RELEASES)}')
    model = RELEASES[release](files, base, told)
    model.name = release
    model.card = {"licence": _LICENCE, "limits": _LIMITS}
    model.decoding = replace(model.decoding, num_steps=50, guidance=7.5)
    return model.eval()


# ------------------------------------------------------------------------------- files of theirs


def _renamed(
    state: State, patterns: Sequence[tuple[str, str]], *, source: Path, names: dict[str, str]
) -> State:
    """By the first pattern that a name begins with; ``names`` gains what each was called. Raises
    CheckpointError for a name of no pattern."""
    out = {}
    for name, value in state.items():
        for pattern, ours in patterns:
            new, count = re.subn(f"^{pattern}", ours, name)
            if count:
                out[new], names[new] = value, name
                break
        else:
            raise CheckpointError(
                f'"{source}" has a weight "{name}", which finds no place; wanted a file as its '
                "authors released it: of this paper, and pruned to what was trained"
            )
    return out


def _fill(
    places: Mapping[str, Tensor], state: State, *, source: Path, names: Mapping[str, str]
) -> None:
    """Copy each tensor into the place of its name; all must fit. ``names``: what they were called,
    for the error."""
    faults = [f"{names[name]} finds no place" for name in sorted(set(state) - set(places))]
    faults += [f"nothing is there for {name}" for name in sorted(set(places) - set(state))]
    for name in sorted(set(places) & set(state)):
        met, wanted = tuple(state[name].shape), tuple(places[name].shape)
        if met != wanted:
            faults.append(f"{names.get(name, name)} is {met} and its place {wanted}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(
            f'the weights of "{source}" are not those that the base wants: '
            f"{'; '.join(faults[:3])}{more}; wanted a base of the LLM, the vision encoder and the "
            "painter that the release was trained on (showtell train parts)"
        )
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(state[name])


def _layers(state: State, *, source: Path) -> int:
    """How many the mapper's encoder has, and its decoder."""
    found = re.compile(r"bridge\.mapper\.transformer\.encoder\.layers\.(\d+)\.")
    numbers = {int(m[1]) for name in state if (m := found.match(name))}
    if not numbers:
        raise CheckpointError(f'"{source}" lacks the layers of a mapper; take it as released')
    return 1 + max(numbers)


def _bridged(
    base: PhotoDialogueModel, config: BridgeConfig
) -> tuple[PhotoDialogueModel, dict[str, Tensor]]:
    """The base with a new bridge, and its places by name, the rows of its tokens among them."""
    if type(base.bridge.config) is type(config):
        raise ConfigError(
            f'"{base.name}" has a bridge of this paper already; wanted a base without; give one '
            'of "showtell train parts"'
        )
    model = with_bridge(base, config, seed=0)
    places = {f"bridge.{name}": value for name, value in model.bridge.state_dict().items()}
    new = model.language.new_tokens
    assert new is not None
    for name, rows_nD in new.named_parameters():
        places[name] = rows_nD.data[-len(config.tokens) :]
    return model, places


# ------------------------------------------------------------------------------------------ GILL

_GILL = (
    (r"model\.gen_text_hidden_fcs\.0\.fc\.", "bridge.mapper.project."),
    (r"model\.gen_text_hidden_fcs\.0\.tfm\.", "bridge.mapper.transformer."),
    (r"model\.gen_text_hidden_fcs\.0\.model\.", "bridge.mapper.out."),
    (r"model\.gen_text_hidden_fcs\.0\.query_embs$", "bridge.mapper.queries_SW"),
    (r"model\.ret_text_hidden_fcs\.0\.model\.", "bridge.query_head."),
    (r"model\.visual_fc\.", "bridge.photo_head."),
    (r"model\.logit_scale$", "bridge.log_scale"),
    (r"model\.visual_embeddings\.", "photo_encoder."),
    (r"model\.input_embeddings\.weight$", "input_nD"),
)
_GILL_ARGS: dict[str, Any] = {
    "text_fc_mode": "gill_mapper",
    "ret_text_fc_mode": "linear",
    "text_emb_layers": [-1],
    "share_ret_gen": True,
}
_GILL_HEADS = 4  # of every mapper released; no file says so


def _gill(files: Sequence[Path], base: PhotoDialogueModel, told: Progress) -> PhotoDialogueModel:
    if len(files) != 1 or not files[0].is_dir():
        raise ConfigError(
            "gill is a folder with pretrained_ckpt.pth.tar and model_args.json, as in its "
            "repository's checkpoints/gill_opt; name that"
        )
    (folder,) = files
    source, args = folder / "pretrained_ckpt.pth.tar", _args(folder / "model_args.json")
    count, visual = int(args["num_gen_tokens"]), int(args["n_visual_tokens"])
    encoder = base.photo_encoder
    if not isinstance(encoder, LinearPhotoEncoder) or encoder.num_tokens != visual:
        raise ConfigError(
            f'"{base.name}" does not see a photo as {visual} tokens of a linear map, as GILL does; '
            f"wanted a base of showtell train parts --set photo_encoder=linear --set "
            f"num_photo_tokens={visual}, whose vision is {args.get('visual_encoder')}"
        )
    read = {
        name.replace("module.", ""): value
        for name, value in released_weights(source, told=told).items()
    }
    names: dict[str, str] = {}
    state = _renamed(read, _GILL, source=source, names=names)
    for name, of in (("bridge.mapper.queries_SW", 3), ("bridge.query_head.weight", 2)):
        if name not in state or state[name].dim() != of:
            raise CheckpointError(
                f'"{source}" lacks {name} of {of} dimensions; take it as released'
            )
    queries_1SW = state["bridge.mapper.queries_SW"]
    state["bridge.mapper.queries_SW"] = queries_1SW[0]
    config = replace(
        gill.PRESETS["release"],
        num_tokens=count,
        album_width=len(state["bridge.query_head.weight"]),
        width=queries_1SW.shape[-1],
        num_layers=_layers(state, source=source),
        num_heads=_GILL_HEADS,
    )
    model, places = _bridged(base, config)
    assert isinstance(model.photo_encoder, LinearPhotoEncoder)
    for name, value in model.photo_encoder.project.named_parameters():
        places[f"photo_encoder.{name}"] = value
    decision = folder / "decision_model.pth.tar"
    if decision.is_file():
        renames = [(r"1\.", "bridge.decision.linear.")]
        state |= _renamed(
            released_weights(decision, told=told), renames, source=decision, names=names
        )
        head = gill.DecisionHead(model.language.width)
        model.bridge.decision = head.eval().requires_grad_(False)
        for name, value in head.linear.state_dict().items():
            places[f"bridge.decision.linear.{name}"] = value
    _fill(places, state, source=source, names=names)
    return model


def _args(path: Path) -> dict[str, Any]:
    """What GILL says of itself. Raises CheckpointError for choices that were never released."""
    try:
        args: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "num_gen_tokens" not in args:
            args["num_gen_tokens"] = args["num_tokens"]
        met = {key: args.get(key, wanted) for key, wanted in _GILL_ARGS.items()}
        int(args["num_gen_tokens"]), int(args["n_visual_tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f'"{path}" cannot be read ({type(error).__name__}: {error}); wanted model_args.json of '
            "a release, with num_gen_tokens and n_visual_tokens; copy it again"
        ) from error
    if met != _GILL_ARGS:
        odd = next(key for key in met if met[key] != _GILL_ARGS[key])
        raise CheckpointError(
            f'"{path}" has {odd} {met[odd]!r}; wanted {_GILL_ARGS[odd]!r}, the released choice'
        )
    return args


# ------------------------------------------------------------------------------------- MiniGPT-5

_MINIGPT5 = (
    (r"t2i_decoder_prompt$", "bridge.mapper.queries_SC"),
    (r"llm_to_t2i_mapping\.", "bridge.mapper.transformer."),
    (r"fc\.", "bridge.mapper.mlp."),
    (r"model\.llama_model\.(base_model\.model\.)?(?=.*\.lora_[AB]\.)", "lora."),
    (r"model\.llama_model\.(base_model\.model\.)?model\.embed_tokens\..*weight$", "input_nD"),
    (r"model\.llama_model\.(base_model\.model\.)?lm_head\..*weight$", "output_nD"),
)
_SEEN = 1  # "<ImageHere>" stands after the vokens, in the place of our <|photo|>


def _minigpt5(
    files: Sequence[Path], base: PhotoDialogueModel, told: Progress
) -> PhotoDialogueModel:
    if len(files) not in (1, 2):
        raise ConfigError(
            "minigpt5 is the checkpoint of its first stage (stage1_cc3m.ckpt), and perhaps of its "
            "second (stage2_vist.ckpt) after it; name one or both"
        )
    state: State = {}
    names: dict[str, str] = {}
    for path in files:
        state |= _renamed(released_weights(path, told=told), _MINIGPT5, source=path, names=names)
    source = files[-1]
    queries_1SC = state.get("bridge.mapper.queries_SC")
    if queries_1SC is None or queries_1SC.dim() != 3:
        raise CheckpointError(
            f'"{source}" lacks t2i_decoder_prompt: the first stage trained it, and the second '
            "holds only what it moved itself; name the first stage's checkpoint before it"
        )
    state["bridge.mapper.queries_SC"] = queries_1SC[0]
    config = replace(minigpt5.RELEASE, num_layers=_layers(state, source=source))
    model, places = _bridged(base, config)
    language = model.language
    lora = {name.removeprefix("lora."): value for name, value in state.items() if "lora." in name}
    if lora:
        # alpha is twice the rank in the release, and no file says so
        rank = next(len(value) for name, value in lora.items() if ".lora_A." in name)
        targets = {name.split(".lora_")[0].rpartition(".")[2] for name in lora}
        add_lora(language, LoraConfig(rank=rank, alpha=2 * rank, targets=tuple(sorted(targets))))
        for name, value in language.model.named_parameters():
            if ".lora_" in name:
                places[f"lora.{name}"] = value.data
    new = language.new_tokens
    assert new is not None
    photo = language.tokenizer.get_vocab()["<|photo|>"]
    tables = {
        "input_nD": language.model.get_input_embeddings(),
        "output_nD": language.model.get_output_embeddings(),
    }
    for name, rows_nD in new.named_parameters():
        if (matrix := state.pop(name, None)) is None:
            raise CheckpointError(
                f'"{files[0]}" lacks the rows of new tokens ({name}); take it as released'
            )
        # theirs moved a little as well, by weight decay
        old_VD = places[f"old {name}"] = tables[name].weight.data[: new.first_id]
        first = new.first_id
        places[f"seen {name}"] = rows_nD.data[photo - first] if photo >= first else old_VD[photo]
        count = len(matrix) - config.num_vokens - _SEEN
        if count < 0:
            raise CheckpointError(
                f'"{source}" has {len(matrix)} rows in {names[name]}, fewer than the new tokens; '
                "take it as released"
            )
        old, rows, seen = matrix.split((count, config.num_vokens, _SEEN))
        state |= {f"old {name}": old, name: rows, f"seen {name}": seen[0]}
        names |= {f"old {name}": names[name], f"seen {name}": names[name]}
    _fill(places, state, source=source, names=names)
    return model


RELEASES: dict[
    str, Callable[[Sequence[Path], PhotoDialogueModel, Progress], PhotoDialogueModel]
] = {"gill": _gill, "minigpt5": _minigpt5}
