"""GILL in the whole model: who moves whom, one run of the LLM, and an LLM that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTModel

from conftest import build_model, collated, dialogues_with_photos
from showtell.dialogue import AGENT, USER, Dialogue, Turn
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.parts import PartSizes
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.models.respond import Responder
from showtell.papers.gill import Gill, GillConfig
from showtell.prompt import IGNORED, Renderer, RendererConfig

NUM_TOKENS = 4


def gill_model(tokenizers, *, freeze: bool = True, **choices) -> PhotoDialogueModel:
    """The tiny model with GILL's parts: linear photo_encoder, new rows, Gill. ``freeze`` as the
    paper does: all but the rows, the photo encoder's map and the bridge."""
    words, pieces = tokenizers
    base = build_model(tokenizers, bridge="dvtm")
    torch.manual_seed(1)
    language, painter = base.language, base.painter
    photo_encoder = LinearPhotoEncoder(
        vision=ViTModel(
            ViTConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                image_size=64,
                patch_size=16,
            ),
            add_pooling_layer=False,
        ),
        num_tokens=3,
        language_width=language.width,
    )
    config = GillConfig(
        num_tokens=NUM_TOKENS, album_width=8, width=16, num_layers=1, num_heads=2, **choices
    ).fitted(
        PartSizes(
            model="tiny",
            language_width=language.width,
            photo_width=photo_encoder.feature_width,
            tower=painter.text,
        )
    )
    if freeze:
        for part in (language, painter):
            part.requires_grad_(False)
    language.grow_vocabulary(config.tokens, seed=0)
    bridge = Gill(config, tokenizer=language.tokenizer, features=photo_encoder.features)
    return PhotoDialogueModel(
        language=language,
        photo_encoder=photo_encoder,
        bridge=bridge,
        painter=painter,
        renderer=Renderer(
            language.tokenizer,
            RendererConfig(
                num_photo_tokens=3,
                span_tokens=bridge.span_tokens,
                span_trained=bridge.span_trained,
            ),
        ),
        name="tiny",
        decoding=Decoding(num_steps=2, max_new_tokens=6),
    ).eval()


@pytest.fixture(scope="module")
def dialogues() -> Sequence[Dialogue]:
    return dialogues_with_photos(3)


def moved(module: nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("loss", ["g", "r"])
def test_photo_loss_reaches_llm_and_photo_encoder_through_gill(tokenizers, rng, dialogues, loss):
    """With the LLM free to move. As published it is frozen: the next test."""
    model = gill_model(tokenizers, freeze=False)
    model(collated(model, dialogues), generator=rng)[loss].backward()
    assert moved(model.language.model) > 0
    assert moved(model.language.new_tokens) > 0
    assert moved(model.photo_encoder.project) > 0
    assert moved(model.photo_encoder.vision) == 0
    assert moved(model.painter) == 0


@pytest.mark.parametrize("loss", ["g", "r"])
def test_photo_loss_reaches_the_new_rows_and_the_linear_map_through_a_frozen_llm(
    tokenizers, rng, dialogues, loss
):
    """What GILL trains: W_cap, the r rows, the bridge. The LLM lets the gradient through."""
    model = gill_model(tokenizers)
    model(collated(model, dialogues), generator=rng)[loss].backward()
    assert moved(model.language.model) == 0
    gradient_nD = model.language.new_tokens.input_nD.grad
    assert (gradient_nD.abs().sum(1) > 0).all()  # each of the r tokens is read
    assert moved(model.photo_encoder.project) > 0
    assert moved(model.photo_encoder.vision) == moved(model.painter) == 0


def test_the_painters_own_loss_reaches_the_painter_as_well(tokenizers, rng, dialogues):
    model = gill_model(tokenizers, painter_loss=True)
    model.painter.unet.requires_grad_(True)
    model(collated(model, dialogues), generator=rng)["v"].backward()
    assert moved(model.painter.unet) > 0 and moved(model.photo_encoder.project) > 0


def test_generation_and_retrieval_share_one_run_of_the_llm(tokenizers, rng, dialogues, monkeypatch):
    model = gill_model(tokenizers)
    batch = collated(model, dialogues)
    runs = []
    run = model.language.hidden
    monkeypatch.setattr(model.language, "hidden", lambda *a, **k: runs.append(1) or run(*a, **k))
    losses = model(batch, generator=rng)
    assert set(losses) == {"t", "moment", "g", "r"}
    assert len(runs) == 1
    assert set(losses) == set(model.loss_counts(batch)) - {"caption"}


def test_of_the_tokens_of_a_photo_the_first_alone_is_learnt_as_text(tokenizers, dialogues):
    model = gill_model(tokenizers)
    batch = collated(model, dialogues)
    ids = model.language.token_ids(model.bridge.span_tokens)
    learnt = batch.labels_BT[batch.labels_BT != IGNORED].tolist()
    assert learnt.count(ids[0]) == len(batch.captions) > 0
    assert not set(ids[1:]) & set(learnt)
    assert (batch.ids_BT == ids[-1]).sum() == len(batch.captions)


def test_without_the_new_tokens_the_llm_is_the_base_to_the_bit(tokenizers, rng, dialogues):
    model = gill_model(tokenizers)
    language = model.language
    ids_BT = torch.randint(len(tokenizers[0]), (3, 20), generator=rng)

    def base_logits() -> torch.Tensor:
        with torch.no_grad():
            return language.model(input_ids=ids_BT).logits

    def grown_logits() -> torch.Tensor:
        with torch.no_grad():
            return language.head(language.hidden(language.embed(ids_BT), None))

    before = base_logits()
    old = before.shape[-1]
    assert grown_logits().shape[-1] == old + NUM_TOKENS
    assert torch.equal(grown_logits()[..., :old], before)
    # and after training: everything that may move, with decay, has moved
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=1e-2, weight_decay=0.1)
    rows_nD = language.new_tokens.input_nD.detach().clone()
    for _ in range(2):
        sum(model(collated(model, dialogues), generator=rng).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not torch.equal(language.new_tokens.input_nD, rows_nD)
    assert torch.equal(base_logits(), before)
    assert torch.equal(grown_logits()[..., :old], before)


def test_padding_and_company_in_a_batch_change_no_conditioning(tokenizers, dialogues):
    model = gill_model(tokenizers)
    order = sorted(dialogues, key=lambda d: len(str(d)))
    together = collated(model, order)
    alone = collated(model, order[:1])
    assert together.ids_BT.shape[1] > alone.ids_BT.shape[1]
    with torch.no_grad():
        got, want = (
            model.bridge(
                model.gather_spans(model.states(batch), batch),
                model.painter,
                generator=torch.Generator(),
            )
            for batch in (together, alone)
        )
    for name in ("cond_NSC", "query_NE"):
        kept, own = getattr(got, name)[: len(alone.captions)], getattr(want, name)
        error = (kept - own).norm(dim=-1) / own.norm(dim=-1)
        assert float(error.max()) < 1e-5, name


def test_the_order_of_dialogues_changes_no_loss(tokenizers, rng, dialogues):
    model = gill_model(tokenizers)
    one = model(collated(model, dialogues), generator=rng)
    two = model(collated(model, list(dialogues)[::-1]), generator=rng)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=0)


def test_an_answer_conditions_the_painter_as_training_does(tokenizers, dialogues):
    """respond() reads with a cache what the batch reads at once."""
    model = gill_model(tokenizers)
    turns = (Turn(speaker=USER, elements=("show me a dog",)),)
    writing, _ = Decoder(model).read_all([turns], [{}])
    Decoder(model).open_turn(writing)
    said = Decoder(model).write_span(writing)
    rendered = model.renderer.render_turns(
        (*turns, Turn(speaker=AGENT, elements=(next(p for d in dialogues for p in d.photos),))),
        has_pixels=lambda photo: False,
    )
    with torch.no_grad():
        states_TD = model.language.hidden(model.language.embed(torch.tensor([rendered.ids])), None)
        (span,) = rendered.spans
        want_KD = states_TD[0, span.start : span.stop]
    torch.testing.assert_close(said.after_NKD[0], want_KD, rtol=1e-4, atol=1e-5)
    conditioning = model.bridge(said, model.painter, generator=torch.Generator())
    assert conditioning.query_NE is not None


def test_a_share_gives_a_photo(tokenizers):
    model = gill_model(tokenizers)
    model.decoding = Decoding(num_steps=2, max_new_tokens=6, share_threshold=0.0)
    turns = (Turn(speaker=USER, elements=("show me a dog",)),)
    reply = Responder(Decoder(model)).respond(turns, images={}, seed=5)
    (photo,) = [p for t in reply.turns for p in t.photos]
    assert reply.images[photo.id].size == (64, 64)
