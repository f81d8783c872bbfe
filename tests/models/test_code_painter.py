"""Divter's V and F: codes, teacher forcing, writing with a cache, re-ranking, the disk."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import VQModel
from transformers import LlamaConfig, LlamaForCausalLM

from showtell.errors import CheckpointError, ConfigError
from showtell.models.code_painter import CodePainter
from showtell.models.parts import Conditioning

CAPTIONS = ["two red dogs at the beach", "a cake"]


def build(tokenizers, **settings) -> CodePainter:
    torch.manual_seed(0)
    words = tokenizers[1]
    vq = VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        num_vq_embeddings=11,
        sample_size=8,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    translator = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words) + 12,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.5,  # so that words and codes matter before any training
        )
    )
    return CodePainter(
        translator=translator, tokenizer=words, vq=vq, text_length=10, **settings
    ).eval()


@pytest.fixture
def painter(tokenizers):
    return build(tokenizers)


@pytest.fixture
def pixels():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def test_a_photo_by_its_codes_is_what_the_vq_model_makes_of_it(painter, pixels):
    codes_NL = painter.codes(pixels)
    assert codes_NL.shape == (2, 16) and painter.side == 4
    assert int(codes_NL.min()) >= 0 and int(codes_NL.max()) < 11
    with torch.no_grad():
        whole = (painter.vq(pixels * 2 - 1).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(painter.decode_codes(codes_NL), whole)


@torch.no_grad()
def test_a_code_is_foretold_from_the_words_and_the_codes_before_it_alone(painter, pixels):
    cond, codes = painter.encode_text(CAPTIONS), painter.codes(pixels)
    logits = painter.code_logits(cond, codes)
    assert logits.shape == (2, 16, 11)
    later = codes.clone()
    later[:, 7:] = (later[:, 7:] + 1) % 11
    changed = painter.code_logits(cond, later)
    torch.testing.assert_close(changed[:, :8], logits[:, :8])  # code 7 is foretold at place 7
    assert not torch.allclose(changed[:, 8:], logits[:, 8:])
    assert not torch.allclose(painter.code_logits(cond.flip(0), codes), logits)


def test_the_loss_is_the_mean_over_codes_of_what_they_were_held_unlikely_by(painter, pixels):
    cond, codes = painter.encode_text(CAPTIONS), painter.codes(pixels)
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
def test_writing_with_a_cache_draws_what_whole_passes_would(painter):
    cond = painter.encode_text(CAPTIONS)
    told = []
    painted = painter.paint(
        Conditioning(cond_NSC=cond),
        num_steps=1,
        guidance=1.0,
        seeds=[5, 6],
        callback=lambda step, codes: told.append((step, codes.shape)),
    )
    assert told[0] == (1, (2, 1)) and told[-1] == (16, (2, 16))
    for row, seed in enumerate((5, 6)):  # alone, without a cache
        die, codes = torch.Generator().manual_seed(seed), torch.zeros(1, 0, dtype=torch.long)
        for _ in range(16):
            padded = F.pad(codes, (0, 1))
            chances = painter.code_logits(cond[row : row + 1], padded)[0, -1].softmax(-1)
            codes = torch.cat([codes, torch.multinomial(chances, 1, generator=die)[None]], 1)
        torch.testing.assert_close(painter.decode_codes(codes)[0], painted[row])


@torch.no_grad()
def test_of_several_photos_the_best_ranked_is_kept(tokenizers):
    painter = build(tokenizers, num_samples=4)
    conditioning = Conditioning(cond_NSC=painter.encode_text(CAPTIONS))

    def paint():
        return painter.paint(conditioning, num_steps=1, guidance=1.0, seeds=[1, 2])

    with pytest.raises(ConfigError, match="nothing to rank them by"):
        paint()
    seen = []

    def redness(photos, cond_NSC):
        seen.append(photos)
        return photos[:, 0].mean((1, 2))

    painter.rank = redness
    kept = paint()
    all_SN = torch.stack(seen)
    assert len(seen) == 4 and not torch.equal(seen[0], seen[1])
    best = all_SN[:, :, 0].mean((2, 3)).argmax(0)
    assert torch.equal(kept, torch.stack([all_SN[best[n], n] for n in range(2)]))


def test_another_codebook_than_the_translators_is_refused(tokenizers):
    painter = build(tokenizers)
    with pytest.raises(ConfigError, match="words, SEP and 11 codes"):
        CodePainter(
            translator=painter.translator,
            tokenizer=tokenizers[0],
            vq=painter.vq,
            text_length=10,
        )


@torch.no_grad()
def test_it_comes_back_from_disk_as_it_was(painter, tmp_path):
    painter.save_pretrained(tmp_path)
    again = CodePainter.from_pretrained(tmp_path).eval()
    assert not list(tmp_path.rglob("*.bin")) and str(tmp_path) not in "".join(
        path.read_text() for path in tmp_path.rglob("*.json")
    )
    painted = [
        one.paint(
            Conditioning(cond_NSC=one.encode_text(CAPTIONS)),
            num_steps=1,
            guidance=1.0,
            seeds=[4, 5],
        )
        for one in (painter, again)
    ]
    assert torch.equal(*painted)
    (tmp_path / "vq" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="copy or train it again"):
        CodePainter.from_pretrained(tmp_path)
