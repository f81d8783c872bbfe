"""What each recipe is: told without loading any of it."""

from __future__ import annotations

from collections.abc import Mapping

SUMMARIES: Mapping[str, str] = {
    "world_base": "VAE, painter, LM and photo encoder of the photo world: every other run's start",
    "world_mini": "the end-to-end model of 2408.08650 (Q-Former, LLM, DVTM, latent diffusion)",
    "world_paper": "the same with the paper's settings: 5e-5, stops by dev BLEU-2 and FID",
    "world_pipeline": "its pipeline baseline: captions as strings, parts trained apart",
    "world_v2": "2408.08650 v2: the LLM attends to photos by cross-attention (Llama-Vision)",
    "world_vokens": "MiniGPT-5 (2310.02239): generative vokens, LoRA; two stages",
    "world_vokens_prefix": "the same with prefix tuning in place of LoRA",
    "world_gill": "GILL (2305.17216): a frozen LLM whose tokens paint, or search an album",
    "world_retrieval": "the same without a painter: every photo comes from the album",
    "world_text": "words only: the same dialogues, a photo is what the agent says of it",
    "world_divter": "the baseline Divter (2110.08515): descriptions as strings, photos as codes",
    "world_stories": "MiniGPT-5 on the world's stories: texts and photos, step by step; LoRA",
    "world_stories_prefix": "the same with prefix tuning",
    "world_stories_text": "its baseline: an LLM fine-tuned on the stories' texts",
    "world_stories_painter": "its baseline: a painter fine-tuned on the stories",
    "world_gill_captions": "GILL on captioned photos, as MiniGPT-5's table 6 has it",
    "world_long": "the end-to-end model on dialogues of 20 to 80 turns",
    "world_codes": "Divter's image side: VQ codes of photos, a translator to them, a ranker",
    "world_contrastive": "a small CLIP of the world: CLIP-I, CLIP-T and retrieval, offline",
    "parts": "a base put together from folders of transformers and diffusers",
    "dialogues": "a model trained on any data: dialogues, stories, captions, with photos",
    "dialogues_end_to_end": "2408.08650 on such data, with the paper's settings",
    "dialogues_pipeline": "its pipeline baseline on such data",
    "dialogues_divter": "Divter on such data, its translator trained before or not",
    "photo_encoder_captions": "what sees photos, from captions alone",
    "vokens_alignment": "MiniGPT-5's first stage, on captioned photos",
    "vokens_learning": "MiniGPT-5's second stage, on stories or dialogues",
    "gill_captions": "GILL on captioned photos",
    "photo_codes": "Divter's image side on photos of any data: VQ codes, a translator to them",
    "photochat_small": "dialogue, share moment and photo description on PhotoChat's real dialogues",
    "photochat_retrieval": "the dialogue finds the photo's description: BM25 + a dual encoder",
    "photos_contrastive": "a small CLIP of real photos in a folder, from scratch; not shipped",
    "photos_captioner": "ViT, Q-Former and LM that caption real photos, from scratch; not shipped",
    "photos_painter": "a 64-px text-to-photo painter of real photos, from scratch; not shipped",
}
