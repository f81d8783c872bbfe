"""Vision models as they lie on the hub: config.json, safetensors under the hub's own names and a
preprocessor_config.json; tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from families import SIZES
from hub_llms import hub_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AddedToken

TOWER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 16,
}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 40,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
QFORMER = {
    "vocab_size": 30,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "encoder_hidden_size": 16,
    "cross_attention_frequency": 2,
}
OPT = {
    "model_type": "opt",
    "vocab_size": 50,
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
NUM_WORDS = len(hub_tokenizer("llama3"))
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
SQUEEZED = {"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 3}
LOOKS: dict[str, dict[str, Any]] = {
    "vit": {**SQUEEZED, "feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 2},
    "clip": {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "do_resize": True,
        "size": 32,
        "do_center_crop": True,
        "crop_size": 32,
        "resample": 3,
    },
    "siglip": {**SQUEEZED, "image_processor_type": "SiglipImageProcessor"},
    "blip2": {**SQUEEZED, "image_processor_type": "BlipImageProcessor"},
    "llama_vision": {
        **SQUEEZED,
        "image_processor_type": "MllamaImageProcessor",
        "do_pad": True,
        "max_image_tiles": 4,
        "resample": 2,
    },
}
# of the hub's folders, whose look they have
FAMILIES = {
    "vit": "vit",
    "vit_classifier": "vit",
    "clip": "clip",
    "clip_vision": "clip",
    "siglip": "siglip",
    "siglip_vision": "siglip",
    "blip2": "blip2",
    "llama_vision": "llama_vision",
}


def _model(family: str) -> Any:
    t = transformers
    torch.manual_seed(0)
    if family == "vit":
        return t.ViTModel(t.ViTConfig(**TOWER))  # with a pooler, as the hub has it
    if family == "vit_classifier":
        return t.ViTForImageClassification(t.ViTConfig(**TOWER))
    if family == "clip":
        return t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=8))
    if family == "clip_vision":
        return t.CLIPVisionModel(t.CLIPVisionConfig(**TOWER))
    if family == "siglip":
        return t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=TOWER))
    if family == "siglip_vision":
        return t.SiglipVisionModel(t.SiglipVisionConfig(**TOWER))
    if family == "llama_vision":
        return _llama_vision()
    config = t.Blip2Config(
        vision_config=TOWER, qformer_config=QFORMER, text_config=OPT, num_query_tokens=5
    )
    model = t.Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    return model


def _llama_vision() -> Any:
    """As many rows of the head as words, eight more of the table; all gates are open."""
    tower = {key: value for key, value in TOWER.items() if key != "num_attention_heads"}
    tower |= {"attention_heads": 2, "num_global_layers": 1, "vision_output_dim": 48}
    tower |= {"intermediate_layers_indices": [0, 1]}
    text = {**SIZES, "num_hidden_layers": 4, "num_key_value_heads": 1, "vocab_size": NUM_WORDS}
    text |= {"cross_attention_layers": [1, 3], "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.MllamaConfig(
        vision_config=tower, text_config=text, image_token_index=NUM_WORDS
    )
    model = transformers.MllamaForConditionalGeneration(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "gate" in name.rsplit(".", 1)[-1]:
                value.normal_()
    return model


def write_hub_vision(
    folder: Path, family: str, *, dtype: torch.dtype = torch.float32
) -> tuple[Path, Any]:
    """The folder, as the hub has the family, and the library's own model of it."""
    model = _model(family).eval()
    model.to(dtype).save_pretrained(folder)
    if family == "llama_vision":
        tokenizer = hub_tokenizer("llama3")
        tokenizer.add_tokens([AddedToken("<|image|>", special=True)], special_tokens=True)
        tokenizer.save_pretrained(folder)
    look = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, **LOOKS[FAMILIES[family]]}
    (folder / "preprocessor_config.json").write_text(json.dumps(look))
    weights = load_file(folder / "model.safetensors")
    if family in ("clip_vision", "siglip_vision"):
        weights = {f"vision_model.{name}": value for name, value in weights.items()}
    if family == "clip":  # files of that time hold what is no weight
        for part, count in (("text_model", 16), ("vision_model", 5)):
            weights[f"{part}.embeddings.position_ids"] = torch.arange(count)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder, model
