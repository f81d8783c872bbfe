"""The papers' trainings at the papers' sizes, data and parts. None was run: ``--dry-run`` says what
each takes, and docs/training.md how to start it on several GPUs.

    NAME            as the paper says            NAME_release    as its authors' code has it
"""

from __future__ import annotations

from dataclasses import replace

from showtell.config import override
from showtell.models.adapters import LoraConfig
from showtell.papers import e2e, gill, minigpt5
from showtell.recipes.hub_parts import Parts
from showtell.recipes.systems import (
    DIALOGUES_END_TO_END,
    DIALOGUES_PIPELINE,
    GILL_CAPTIONS,
    PHOTO_ENCODER_CAPTIONS,
    VOKENS_ALIGNMENT,
    VOKENS_LEARNING,
)

_SD2 = "stabilityai/stable-diffusion-2-1-base"
_BLIP2 = "Salesforce/blip2-flan-t5-xxl"
_LLAMA_VISION = "meta-llama/Llama-3.2-11B-Vision-Instruct"
_CC3M = "cc3m:data/cc3m/GCC-training.tsv"

# ------------------------------------------------------------------------------ 2408.08650 (PSDG)

PSDG_PARTS = Parts(
    language="meta-llama/Llama-2-7b-chat-hf",
    painter=_SD2,
    vision=_BLIP2,
    projection="new",
    num_steps=20,
)
# BLIP-2's Q-Former comes pretrained; its new projection to Llama learns from captions first
PSDG_SEEING = replace(PHOTO_ENCODER_CAPTIONS, base="runs/psdg_parts/model", data=_CC3M)
PHOTOCHAT_E2E = replace(
    DIALOGUES_END_TO_END,
    base="runs/psdg_seeing/model",
    data="photochat:train",
    adapter="lora",
    lora=LoraConfig(rank=32, alpha=32, dropout=0.1, targets=("q_proj", "k_proj", "v_proj")),
)
PHOTOCHAT_E2E_RELEASE = override(PHOTOCHAT_E2E, e2e.ABLATIONS["release"])
PHOTOCHAT_PIPELINE = replace(
    PHOTOCHAT_E2E,
    bridge=DIALOGUES_PIPELINE.bridge,
    photo_encoder=DIALOGUES_PIPELINE.photo_encoder,
    stages=DIALOGUES_PIPELINE.stages,
)
PSDG_V2_PARTS = replace(PSDG_PARTS, language=_LLAMA_VISION, vision=_LLAMA_VISION, projection=None)
PHOTOCHAT_E2E_V2 = replace(PHOTOCHAT_E2E, base="runs/psdg_v2_parts/model")
DIALOGCC_E2E = replace(PHOTOCHAT_E2E, data="dialogcc:data/dialogcc/train.json")
DIALOGCC_E2E_RELEASE = override(DIALOGCC_E2E, e2e.ABLATIONS["release"])

# ------------------------------------------------------------------------- 2310.02239 (MiniGPT-5)

MINIGPT5_PARTS = Parts(
    language="lmsys/vicuna-7b-v1.5",
    painter=_SD2,
    vision=_BLIP2,
    projection="models/pretrained_minigpt4.pth",
)
CC3M_UAS = replace(VOKENS_ALIGNMENT, base="runs/minigpt5_parts/model", data=_CC3M)
CC3M_UAS_RELEASE = replace(CC3M_UAS, bridge=minigpt5.RELEASE)
VIST_MLS = replace(VOKENS_LEARNING, base="runs/cc3m_uas/model")
VIST_MLS_RELEASE = override(
    replace(VIST_MLS, base="runs/cc3m_uas_release/model", bridge=minigpt5.RELEASE),
    [each for each in minigpt5.ABLATIONS["release"] if each.startswith("stage.")],
)
_ON_MMDIALOG = ("data=mmdialog:data/mmdialog/train", "stage.form=dialogue")
MMDIALOG_MLS = override(VIST_MLS, _ON_MMDIALOG)
MMDIALOG_MLS_RELEASE = override(VIST_MLS_RELEASE, _ON_MMDIALOG)

# ------------------------------------------------------------------------------ 2305.17216 (GILL)

GILL_PARTS = Parts(
    language="facebook/opt-6.7b",
    painter="stable-diffusion-v1-5/stable-diffusion-v1-5",
    vision="openai/clip-vit-large-patch14",
    photo_encoder="linear",
    num_photo_tokens=4,
)
CC3M_GILL = replace(GILL_CAPTIONS, base="runs/gill_parts/model", data=_CC3M)
CC3M_GILL_RELEASE = override(CC3M_GILL, gill.ABLATIONS["release"])
