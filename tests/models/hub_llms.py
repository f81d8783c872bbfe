"""Language models of the hub's families as they lie there: config.json, safetensors under the hub's
own names, and a tokenizer with the family's own special tokens and chat template; tiny."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from families import SIZES
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = (
    "hello there, how are you doing today? I saw the 2 dogs at the beach! so, what is it? fine.",
    "user assistant model system USER: ASSISTANT: [INST] ok [/INST] A chat between a curious user",
    "a photo of a red dog that plays in the sun with a ball. You are a helpful assistant",
)
_CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful assistant<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + "
    "m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_THINKS = "('<think>\n\n</think>\n\n' if loop.last and m['role'] == 'assistant' else '') + "
_LLAMA2 = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
_LLAMA3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}{{ '<start_of_turn>' + "
    "role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_GRANITE = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] "
    "+ '<|end_of_text|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
_COHERE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|START_OF_TURN_TOKEN|>"
    "<|USER_TOKEN|>' + m['content'].strip() + '<|END_OF_TURN_TOKEN|>' }}{% else %}"
    "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + m['content'].strip() + "
    "'<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class HubLlm:
    """``spm``: SentencePiece's kind of tokenizer, else bytes. ``ends``: generation_config's."""

    kind: str
    own: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    tokens: tuple[str, ...] = ()
    bos: str | None = "<s>"
    eos: str = "</s>"
    ends: tuple[str, ...] = ()
    spm: bool = False


_NARROW = {"num_key_value_heads": 1, "head_dim": 24}
_WINDOW = {"sliding_window": 8, "query_pre_attn_scalar": 24}
_ROPE3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_IM = {"template": _CHATML, "tokens": ("<|im_start|>", "<|im_end|>"), "bos": None}
_TURNS = ("<start_of_turn>", "<end_of_turn>")
_GEMMAS = {
    "template": _GEMMA, "tokens": _TURNS, "bos": "<bos>", "eos": "<eos>",
    "ends": ("<eos>", "<end_of_turn>"), "spm": True,
}  # fmt: skip
_HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>")
LLMS = {
    "llama2": HubLlm(kind="Llama", template=_LLAMA2, spm=True),
    "vicuna": HubLlm(kind="Llama", spm=True),
    "vicuna_15": HubLlm(kind="Llama", spm=True),
    "llama3": HubLlm(
        kind="Llama",
        own={"num_key_value_heads": 1, "rope_parameters": _ROPE3, "tie_word_embeddings": True},
        template=_LLAMA3,
        tokens=_HEADERS,
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        ends=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    "opt": HubLlm(kind="OPT", own={"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "opt_350m": HubLlm(
        kind="OPT",
        own={"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    ),
    "qwen2": HubLlm(kind="Qwen2", own={"num_key_value_heads": 1}, eos="<|im_end|>", **_IM),
    "qwen3": HubLlm(
        kind="Qwen3",
        own=_NARROW,
        eos="<|im_end|>",
        **_IM | {"template": _CHATML.replace("m['content']", _THINKS + "m['content']")},
    ),
    "mistral": HubLlm(kind="Mistral", own={"sliding_window": 8}, template=_MISTRAL, spm=True),
    "gemma": HubLlm(kind="Gemma", own=_NARROW, **_GEMMAS),
    "gemma2": HubLlm(kind="Gemma2", own=_NARROW | _WINDOW, **_GEMMAS),
    "gemma3": HubLlm(kind="Gemma3Text", own=_NARROW | _WINDOW, **_GEMMAS),
    "granite": HubLlm(
        kind="Granite",
        own={"logits_scaling": 4.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22},
        template=_GRANITE,
        tokens=("<|start_of_role|>", "<|end_of_role|>"),
        eos="<|end_of_text|>",
        bos=None,
    ),
    "cohere": HubLlm(
        kind="Cohere",
        own={"logit_scale": 0.0625},
        template=_COHERE,
        tokens=("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        eos="<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
    ),
}


def hub_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """The family's tokens and template over a few words."""
    llm = LLMS[family]
    named = dict.fromkeys(token for token in (llm.bos, llm.eos, *llm.tokens, *llm.ends) if token)
    tokens = ["<unk>", *named]
    if llm.spm:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        prefix = [] if "emma" in family else [normalizers.Prepend("\u2581")]
        steps = [*prefix, normalizers.Replace(" ", "\u2581")]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        splitter = pre_tokenizers.Split("\u2581", "merged_with_next")
        tokenizer.pre_tokenizer = splitter  # SentencePiece learns from words; taken off below
        tokens += [f"<0x{byte:02X}>" for byte in range(256)]
        alphabet: list[str] = []
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=560, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    if llm.spm:
        plain = json.loads(tokenizer.to_str())
        kept = {"<unk>", *named}
        plain["pre_tokenizer"] = None
        plain["added_tokens"] = [t for t in plain["added_tokens"] if t["content"] in kept]
        tokenizer = Tokenizer.from_str(json.dumps(plain))
    out = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token=llm.bos,
        eos_token=llm.eos,
        extra_special_tokens=list(llm.tokens),
        clean_up_tokenization_spaces=False,
    )
    if family == "qwen3":  # tokens, but by its file no special ones
        out.add_tokens(["<think>", "</think>"])
    out.chat_template = llm.template
    if family == "vicuna_15":  # "legacy": false: a space before the first word alone
        out.backend_tokenizer.normalizer = None
        out.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme="first", split=False
        )
    return out


def write_hub_llm(folder: Path, family: str, *, dtype: torch.dtype = torch.float32) -> Path:
    """The folder, as the hub has the family."""
    llm, tokenizer = LLMS[family], hub_tokenizer(family)
    ids = tokenizer.convert_tokens_to_ids
    special = {"bos_token_id": ids(llm.bos) if llm.bos else None, "eos_token_id": ids(llm.eos)}
    settings = {**SIZES, "pad_token_id": None, **special, **llm.own}
    config = getattr(transformers, f"{llm.kind}Config")(vocab_size=len(tokenizer) + 5, **settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    if llm.ends:
        model.generation_config.eos_token_id = [ids(end) for end in llm.ends]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if family == "opt_350m":  # its file names no "model."
        weights = {name.removeprefix("model."): value for name, value in weights.items()}
    if family in ("llama2", "vicuna", "vicuna_15"):  # files of that time hold what is no weight
        for layer in range(2):
            name = f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"
            weights[name] = torch.ones(8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
