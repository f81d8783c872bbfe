"""A trained LLM as a plain folder of transformers, which any server of LLMs reads: ``showtell
export``.

Low-rank updates are added to the weights that they stand beside; new tokens get rows of the two
matrices, from which rows that stand for no token are taken, so that a place in the logits is a
token's id, as it is in ``LanguageModel.head``. The chat template gives what the Renderer makes of
turns of text, the generation settings end and draw as our decoding does.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from showtell.dialogue import AGENT, USER, Turn
from showtell.errors import CheckpointError, ConfigError
from showtell.models.adapters import base_state, require_peft
from showtell.models.cross_attention import has_cross_attention
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.prompt import Renderer
from showtell.turns import CONTENTS, DATE, ROLES, VICUNA

SHARD = "5GB"


def write_plain(model: PhotoDialogueModel, folder: Path, *, dtype: torch.dtype) -> None:
    """Write the LLM of ``model`` into a folder that is there.

    Raises ConfigError for one that has no plain form.
    """
    language, renderer = model.language, model.renderer
    _refuse_unmergeable(language, name=model.name)
    plain = plain_model(language, dtype=dtype)
    plain.generation_config = _generation(model)
    plain.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer = copy.deepcopy(language.tokenizer)
    for template in _templates(renderer):
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
        again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if all(_same(renderer, again, count) for count in range(1, len(CONTENTS) + 1, 2)):
            return
    raise ConfigError(
        f'no chat template gives the turns of "{model.name}" as its renderer has them; wanted a '
        f"{type(tokenizer).__name__} that cuts a text at its special tokens alone; start from "
        "another language model, or train with template=chat"
    )


def _refuse_unmergeable(language: LanguageModel, *, name: str) -> None:
    if language.prefix is not None:
        raise ConfigError(
            f'"{name}" has a prefix, keys and values that no weights can hold; wanted LoRA or no '
            "adapter; train it with LoRA"
        )
    if has_cross_attention(language):
        raise ConfigError(
            f'the language model of "{name}" attends to photos, which a plain one is never shown; '
            "wanted a model that reads them as tokens or captions"
        )


def plain_model(language: LanguageModel, *, dtype: torch.dtype) -> PreTrainedModel:
    """The library's own model with all weights merged, to be saved (its buffers are empty)."""
    model, new = language.model, language.new_tokens
    state = {name: value.to(dtype) for name, value in merged_state(language).items()}
    config = copy.deepcopy(model.config)
    if new is not None:
        names = {module: name for name, module in model.named_modules()}
        table, head = model.get_input_embeddings(), model.get_output_embeddings()
        rows = {names[table]: new.input_nD}
        if new.output_nD is not None:
            rows[names[head]] = new.output_nD
        for name, rows_nD in rows.items():
            old_VD = state[f"{name}.weight"][: new.first_id]
            state[f"{name}.weight"] = torch.cat([old_VD, rows_nD.detach().to(old_VD)])
        if new.output_nD is None:
            state[f"{names[head]}.weight"] = state[f"{names[table]}.weight"]
        text = config.get_text_config()
        text.vocab_size = new.first_id + len(new.tokens)
        if (text.pad_token_id or 0) >= text.vocab_size:
            text.pad_token_id = None
    config.dtype = dtype
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(state, assign=True)
    plain.tie_weights()
    return plain


def merged_state(language: LanguageModel) -> dict[str, Tensor]:
    """The LLM's weights under their own names, with what LoRA adds to them."""
    own = base_state(language)
    if own is None:
        return language.model.state_dict()
    layer = require_peft().tuners.tuners_utils.BaseTunerLayer
    for name, module in language.model.named_modules():
        if isinstance(module, layer):
            assert isinstance(module, nn.Module)
            delta = module.get_delta_weight("default")  # type: ignore[operator]
            weight = own[f"{name}.weight"]
            own[f"{name}.weight"] = (weight.float() + delta.detach().float()).to(weight.dtype)
    return own


def _generation(model: PhotoDialogueModel) -> GenerationConfig:
    decoding, tokenizer = model.decoding, model.language.tokenizer
    drawn: dict[str, Any] = {"do_sample": False}
    if decoding.temperature > 0:
        drawn = {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p}
        drawn["top_k"] = 0
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(model.language.end_ids | {model.renderer.end}),
        pad_token_id=tokenizer.pad_token_id,
        **drawn,
    )


# ------------------------------------------------------------------------------- chat templates


def _templates(renderer: Renderer) -> list[str]:
    """Templates of which one gives the renderer's turns."""
    tokenizer = renderer.tokenizer
    if renderer.config.template == "chat":
        own = tokenizer.chat_template or VICUNA
        # the renderer's date is always the same
        return [f"{{%- set date_string = {json.dumps(DATE)} -%}}" * ("date_string" in own) + own]
    form = renderer.form
    texts = {
        "start": form.start,
        **{ROLES[role]: form.headers[role] for role in ROLES},
        "end": form.ends[AGENT],
        "photo": [renderer.img],
    }
    named = {
        key: json.dumps("".join(tokenizer.convert_ids_to_tokens(ids))) for key, ids in texts.items()
    }
    return [_of_marks(named, space=space) for space in (" ", "")]


def _of_marks(named: dict[str, str], *, space: str) -> str:
    """Words stand behind a space, but for a photo's."""
    return (
        f"{{{{- {named['start']} -}}}}{{%- for m in messages -%}}"
        f"{{%- if m['role'] == 'user' -%}}{{{{- {named['user']} -}}}}"
        f"{{%- elif m['role'] == 'assistant' -%}}{{{{- {named['assistant']} -}}}}"
        "{%- else -%}{{- raise_exception('this model knows the roles user and assistant, and no ' "
        "+ m['role']) -}}{%- endif -%}{%- set words = m['content'] | trim -%}"
        f"{{{{- (words if words.startswith({named['photo']}) else {json.dumps(space)} + words) + "
        f"{named['end']} -}}}}{{%- endfor -%}}"
        f"{{%- if add_generation_prompt -%}}{{{{- {named['assistant']} -}}}}{{%- endif -%}}"
    )


def _same(renderer: Renderer, tokenizer: Any, count: int) -> bool:
    """Whether ``count`` turns, of which the last is the user's, read alike."""
    told = CONTENTS[:count]
    turns = [Turn(speaker=(USER, AGENT)[n % 2], elements=(text,)) for n, text in enumerate(told)]
    ours = [*renderer.render_turns(turns).ids, *renderer.form.headers[AGENT]]
    messages = [
        {"role": ROLES[turn.speaker], "content": text}
        for turn, text in zip(turns, told, strict=True)
    ]
    try:
        theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    except Exception as error:  # a template is a program, and may do anything
        raise CheckpointError(
            f"the chat template cannot be used ({type(error).__name__}: {error}); wanted one of "
            "turns of users and assistants; use another language model"
        ) from error
    return bool(ours == list(theirs["input_ids"]))
