"""Language models of any family of the library, tiny and untrained."""

from __future__ import annotations

import copy

import torch
import transformers

from showtell.models.language import LanguageModel

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": ("Llama", {}),
    "windowed": ("Mistral", {"sliding_window": 8}),
    "window_in_some_layers": ("Gemma2", {"sliding_window": 8, "head_dim": 16}),
    "scaled_after_the_head": ("Cohere", {"logit_scale": 0.0625}),
    "divided_after_the_head": ("Granite", {"logits_scaling": 4.0}),
    "alibi": ("Bloom", {"n_layer": 2, "n_head": 2}),
    "alibi_by_place": ("Mpt", {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 512}),
    "gpt2": ("GPT2", {"bos_token_id": 0, "eos_token_id": 0}),
    "learned_places": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.1}),
    "narrow_embedding": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 16, "dropout": 0.1}),
}


def language_of(tokenizer, family: str = "llama", **changes) -> LanguageModel:
    """With a tokenizer of its own, whose vocabulary a test may grow, and as many rows."""
    name, own = FAMILIES[family]
    words = copy.deepcopy(tokenizer)
    torch.manual_seed(0)
    settings = {"vocab_size": len(words), **SIZES, **own, **changes}
    config = getattr(transformers, f"{name}Config")(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    return LanguageModel(model.eval(), words)
