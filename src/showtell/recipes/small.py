"""Small configurations of the library classes: the sizes of the embedded default.

Nothing here is a model family of its own: each function fills in a transformers or diffusers
config, and the result is saved and loaded as the large models are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel, VQModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTModel,
)

from showtell.dialogue import Dialogue

IMAGE_SIZE = 64
LATENT_CHANNELS = 6
TEXT_LENGTH = 40
TEXT_WIDTH = 128
PHOTO_TOKENS = 8  # of a photo, for the LLM
DIALOGUE_TOKENS = ("<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|agent|>", "<|photo|>")


def train_painter_tokenizer(captions: Iterable[str], *, vocabulary: int = 660) -> CLIPTokenizer:
    """A CLIP tokenizer (lower-case byte-level BPE, ``</w>`` at word ends) from captions."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(r" ", "removed"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        (caption.lower() for caption in captions),
        trainers.BpeTrainer(
            vocab_size=vocabulary - 2,
            end_of_word_suffix="</w>",
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    # CLIP's own order: bytes, bytes that end a word, merges, the two marks.
    tokens = sorted(alphabet) + [c + "</w>" for c in sorted(alphabet)]
    tokens = list(dict.fromkeys(tokens + ["".join(pair) for pair in merges]))
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=TEXT_LENGTH,
    )


def train_dialogue_tokenizer(
    texts: Iterable[str], *, vocabulary: int = 4096
) -> PreTrainedTokenizerFast:
    """A byte-level BPE (GPT-2's kind) for the LLM, with the tokens that mark turns and photos."""
    marks = [*DIALOGUE_TOKENS, "[IMG]", "[/IMG]"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=marks,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        extra_special_tokens=marks[3:],
        clean_up_tokenization_spaces=False,
    )


def words_of(dialogues: Iterable[Dialogue]) -> Iterator[str]:
    """What a tokenizer of dialogues learns from: their texts, and captions where photos stand."""
    for dialogue in dialogues:
        for turn in dialogue.turns:
            yield from (" " + (e if isinstance(e, str) else e.caption) for e in turn.elements)


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,  # the library reads this as the number of heads
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )


def build_scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="epsilon",
        clip_sample=False,
    )


def build_text_tower(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_language_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    layers: int = 4,
    width: int = 256,
    heads: int | None = None,
    inner: int | None = None,
) -> LlamaForCausalLM:
    """Heads of 64 numbers each, and an MLP of three times the width, unless said."""
    heads = heads or width // 64
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=inner or 3 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_vision() -> ViTModel:
    return ViTModel(
        ViTConfig(
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=384,
            image_size=IMAGE_SIZE,
            patch_size=8,
        ),
        add_pooling_layer=False,
    )


def build_qformer(*, vision_width: int) -> Blip2QFormerModel:
    return Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=384,
            encoder_hidden_size=vision_width,
            cross_attention_frequency=1,
            vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def build_vq(*, channels: int, side: int, num_codes: int, code_width: int) -> VQModel:
    """Latents of that many channels and that side -> a quarter as many codes."""
    return VQModel(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(64, 128),
        layers_per_block=1,
        latent_channels=32,
        num_vq_embeddings=num_codes,
        vq_embed_dim=code_width,
        norm_num_groups=16,
        sample_size=side,
        mid_block_add_attention=False,
    )


def build_translator(
    tokenizer: CLIPTokenizer, *, num_codes: int, positions: int, width: int, layers: int
) -> GPT2LMHeadModel:
    """Words, a separator and codes: a GPT-2, whose positions are learnt, as a photo's are fixed."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer) + 1 + num_codes,
            n_positions=positions,
            n_embd=width,
            n_layer=layers,
            n_head=max(1, width // 32),
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    tower = {
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
    }
    text = {
        **tower,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**tower, "image_size": IMAGE_SIZE, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
