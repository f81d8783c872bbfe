"""Divter's V and F: codes, teacher forcing, writing with a cache, re-ranking, the disk."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, VQModel
from families import language_of
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from showtell.errors import CheckpointError, ConfigError
from showtell.models import vq_painter as code_painter
from showtell.models.painter import decode_latents, encode_latents
from showtell.models.parts import Conditioning, caption_conditioning
from showtell.models.ranker import ClipRanker
from showtell.models.vq_painter import VqPainter

CAPTIONS = ["two red dogs at the beach", "a cake"]


def build(
    tokenizers, *, latent_channels: int | None = None, family: str = "llama", **settings
) -> VqPainter:
    """V on pixels, or on the latents of a VAE that has so many channels."""
    torch.manual_seed(0)
    words = tokenizers[1]
    vae = None
    if latent_channels is not None:
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=latent_channels,
            norm_num_groups=4,
            mid_block_add_attention=False,
            scaling_factor=1.5,
            shift_factor=0.2,
        )
    vq = VQModel(
        in_channels=latent_channels or 3,
        out_channels=latent_channels or 3,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        num_vq_embeddings=11,
        sample_size=8,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    # so spread that words and codes matter before any training
    sizes = {"vocab_size": len(words) + 12, "hidden_size": 16, "initializer_range": 0.5}
    translator = language_of(words, family, **sizes).model
    return VqPainter(
        translator=translator, tokenizer=words, vq=vq, vae=vae, text_length=10, **settings
    ).eval()


@pytest.fixture
def painter(tokenizers):
    return build(tokenizers)


@pytest.fixture
def pixels():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def test_a_photo_by_its_codes_is_what_the_vq_model_makes_of_it(painter, pixels):
    codes_NL = painter.encode_photos(pixels)
    assert codes_NL.shape == (2, 16) and painter.side == 4
    assert int(codes_NL.min()) >= 0 and int(codes_NL.max()) < 11
    with torch.no_grad():
        whole = (painter.vq(pixels * 2 - 1).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(painter.decode_photos(codes_NL), whole)


@torch.no_grad()
def test_with_a_vae_the_codes_are_of_its_latents(tokenizers):
    painter = build(tokenizers, latent_channels=2)
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    codes_NL = painter.encode_photos(pixels)
    assert codes_NL.shape == (2, 16) and painter.image_size == 16
    latents = encode_latents(painter.vae, pixels)
    assert torch.equal(painter.vq_codes(latents), codes_NL)
    rebuilt = decode_latents(painter.vae, painter.vq(latents).sample)
    torch.testing.assert_close(painter.decode_photos(codes_NL), rebuilt)


@torch.no_grad()
def test_half_precision_around_it_changes_no_code(painter, pixels):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = painter.encode_photos(pixels)
    assert torch.equal(half, painter.encode_photos(pixels))


@torch.no_grad()
def test_a_code_is_foretold_from_the_words_and_the_codes_before_it_alone(painter, pixels):
    cond, codes = painter.text.encode(CAPTIONS), painter.encode_photos(pixels)
    logits = painter.code_logits(cond, codes)
    assert logits.shape == (2, 16, 11)
    later = codes.clone()
    later[:, 7:] = (later[:, 7:] + 1) % 11
    changed = painter.code_logits(cond, later)
    torch.testing.assert_close(changed[:, :8], logits[:, :8])  # code 7 is foretold at place 7
    assert not torch.allclose(changed[:, 8:], logits[:, 8:])
    assert not torch.allclose(painter.code_logits(cond.flip(0), codes), logits)


def test_the_loss_is_the_mean_over_codes_of_what_they_were_held_unlikely_by(painter, pixels):
    cond, codes = painter.text.encode(CAPTIONS), painter.encode_photos(pixels)
    loss = painter.loss(cond, pixels, generator=torch.Generator())
    wanted = 0.0
    for row in range(2):  # one photo, one code at a time
        for place in range(16):
            logits = painter.code_logits(cond[row : row + 1], codes[row : row + 1, : place + 1])
            wanted -= float(logits[0, place].log_softmax(-1)[codes[row, place]].detach()) / 32
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert painter.translator.get_input_embeddings().weight.grad is not None
    assert all(p.grad is None for p in painter.vq.parameters())  # V is used as it is


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_writing_with_a_cache_draws_what_whole_passes_would(tokenizers, family):
    painter = build(tokenizers, family=family)
    cond = painter.text.encode(CAPTIONS)
    told = []
    painted = painter.paint(
        Conditioning(cond_NSC=cond),
        num_steps=8,
        guidance=1.0,
        seeds=[5, 6],
        callback=lambda step, codes: told.append((step, codes.shape)),
    )
    assert told == [(step, (2, 2 * step)) for step in range(1, 9)]  # two codes a step
    for row, seed in enumerate((5, 6)):  # alone, without a cache
        die, codes = torch.Generator().manual_seed(seed), torch.zeros(1, 0, dtype=torch.long)
        for _ in range(16):
            padded = F.pad(codes, (0, 1))
            chances = painter.code_logits(cond[row : row + 1], padded)[0, -1].softmax(-1)
            codes = torch.cat([codes, torch.multinomial(chances, 1, generator=die)[None]], 1)
        torch.testing.assert_close(painter.decode_photos(codes)[0], painted[row])


@torch.no_grad()
def test_of_several_photos_the_best_ranked_is_kept(tokenizers, monkeypatch):
    painter = build(tokenizers)
    conditioning = caption_conditioning(CAPTIONS, painter.text)

    def paint(told=conditioning, seeds=(1, 2)):
        return painter.paint(told, num_steps=1, guidance=1.0, seeds=seeds)

    alone = torch.stack([paint(seeds=(1 + s * 1_000_003, 2 + s * 1_000_003)) for s in range(4)])
    painter.num_samples = 4
    with pytest.raises(ConfigError, match="nothing to rank them by"):
        paint()
    seen = []

    def redness(photos, captions):
        seen.append((photos, list(captions)))
        return photos[:, 0].mean((1, 2))

    painter.rank = redness
    best = alone[:, :, 0].mean((2, 3)).argmax(0)
    wanted = torch.stack([alone[best[n], n] for n in range(2)])
    torch.testing.assert_close(paint(), wanted)
    ((photos, captions),) = seen
    assert len(photos) == 8 and captions == [c for c in CAPTIONS for _ in range(4)]
    monkeypatch.setattr(code_painter, "ROWS_AT_ONCE", 5)  # not two captions at a time
    torch.testing.assert_close(paint(), wanted)
    assert [len(photos) for photos, _ in seen[1:]] == [4, 4]
    with pytest.raises(ConfigError, match="no words were given"):
        paint(Conditioning(cond_NSC=conditioning.cond_NSC))


def ranker(tokenizer) -> ClipRanker:
    torch.manual_seed(1)
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 2}
    marks = {f"{k}_token_id": getattr(tokenizer, f"{k}_token_id") for k in ("bos", "eos", "pad")}
    clip = CLIPModel(
        CLIPConfig(
            text_config={**tower, "vocab_size": len(tokenizer), **marks},
            vision_config={**tower, "image_size": 16, "patch_size": 8},
            projection_dim=4,
        )
    )
    processor = CLIPImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    return ClipRanker(clip, tokenizer, processor)


def test_the_ranker_is_the_cosine_of_its_encoders_and_learns_nothing(tokenizers, pixels):
    rank = ranker(tokenizers[1])
    score_N = rank(pixels, CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        large = F.interpolate(pixels[row : row + 1], (16, 16), mode="bicubic", antialias=True)
        told = rank.tokenizer(caption, return_tensors="pt")
        text = rank.clip.get_text_features(**told).pooler_output
        seen = rank.clip.get_image_features(pixel_values=(large - 0.5) / 0.25).pooler_output
        assert float(score_N[row]) == pytest.approx(
            float(F.cosine_similarity(text, seen)), abs=1e-5
        )
    assert not score_N.requires_grad and not any(p.requires_grad for p in rank.parameters())


def test_another_codebook_than_the_translators_is_refused(tokenizers):
    painter = build(tokenizers)
    with pytest.raises(ConfigError, match="words, SEP and 11 codes"):
        VqPainter(
            translator=painter.translator,
            tokenizer=tokenizers[0],
            vq=painter.vq,
            text_length=10,
        )


@torch.no_grad()
@pytest.mark.parametrize("whole", [False, True])
def test_it_comes_back_from_disk_as_it_was(tokenizers, tmp_path, whole):
    settings = {"latent_channels": 2, "num_samples": 2} if whole else {}
    painter = build(tokenizers, **settings)
    painter.rank = ranker(tokenizers[1]) if whole else None
    painter.save_pretrained(tmp_path)
    again = VqPainter.from_pretrained(tmp_path).eval()
    assert not list(tmp_path.rglob("*.bin")) and str(tmp_path) not in "".join(
        path.read_text() for path in tmp_path.rglob("*.json")
    )
    assert (again.vae is not None, again.rank is not None) == (whole, whole)
    painted = [
        one.paint(caption_conditioning(CAPTIONS, one.text), num_steps=1, guidance=1.0, seeds=[4, 5])
        for one in (painter, again)
    ]
    assert torch.equal(*painted)
    (tmp_path / "vq" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="copy or train it again"):
        VqPainter.from_pretrained(tmp_path)
