"""Photos that the LLM attends to: the text model is kept, photos come in, and only where they may.

The bridges' tiny models, their LLM grown by a cross-attention layer whose gates stand open.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from conftest import (
    attending_model,
    build_model,
    collated,
    dialogues_with_photos,
)
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT
from showtell.errors import CheckpointError, ConfigError
from showtell.models.adapters import LoraConfig, PrefixConfig, add_lora, add_prefix
from showtell.models.checkpoint import save_model
from showtell.models.cross_attention import attended_photos, seen_on, with_cross_attention
from showtell.models.decoder import Decoder
from showtell.papers import load_folder


@pytest.fixture(scope="module")
def dialogues():
    return dialogues_with_photos(3)


@pytest.fixture(scope="module")
def open_model(tokenizers):
    return attending_model(tokenizers)


def hidden_of(model, dialogues):
    with torch.no_grad():
        return model.states(collated(model, dialogues)).hidden_BTD


def test_an_llm_with_new_layers_says_what_it_said(tokenizers, dialogues):
    base = build_model(tokenizers, bridge="dvtm")
    grown = with_cross_attention(base.language, layers=(1, 3))
    embeds_BTD = base.language.embed(torch.arange(5, 25)[None])
    assert torch.equal(grown.embed(torch.arange(5, 25)[None]), embeds_BTD)
    want = base.language.head(base.language.hidden(embeds_BTD, None))
    torch.testing.assert_close(grown.head(grown.hidden(embeds_BTD, None)), want)
    photos = attended_photos(
        torch.randn(1, 4, 32), row_P=torch.tensor([0]), start_P=torch.tensor([3]), shape=(1, 20)
    )
    torch.testing.assert_close(grown.head(grown.hidden(embeds_BTD, None, photos=photos)), want)


def test_photos_change_nothing_before_they_are_shown_and_all_after(open_model, dialogues):
    rendered = open_model.renderer.render(dialogues[0])
    first = rendered.seen[0].start
    batch = collated(open_model, dialogues[:1])
    dark = dataclasses.replace(batch, seen_pixels_P3HW=torch.zeros_like(batch.seen_pixels_P3HW))
    blind = dataclasses.replace(batch, seen_pixels_P3HW=None)
    with torch.no_grad():
        shown, black, none = (open_model.states(b).hidden_BTD[0] for b in (batch, dark, blind))
    torch.testing.assert_close(black[:first], shown[:first])
    assert (black[first:] - shown[first:]).abs().amax(-1).min() > 1e-5
    # a token that sees no photo is read as by the LLM without these layers
    torch.testing.assert_close(none[:first], shown[:first], atol=1e-5, rtol=1e-4)


def test_a_token_sees_the_photos_before_it_and_no_others():
    seen_PQD = torch.arange(1.0, 4.0)[:, None, None].expand(3, 2, 1)  # photo n holds n
    photos = attended_photos(
        seen_PQD, row_P=torch.tensor([0, 0, 2]), start_P=torch.tensor([1, 3, 0]), shape=(3, 4)
    )
    assert photos.states_BSD is not None

    def sees(b: int, t: int) -> set[float]:
        return set(photos.states_BSD[b, photos.sees_BTS[b, t], 0].tolist())

    assert [sees(0, t) for t in range(4)] == [{0.0}, {1.0}, {1.0}, {1.0, 2.0}]
    assert [sees(1, t) for t in range(4)] == [{0.0}] * 4
    assert [sees(2, t) for t in range(4)] == [{3.0}] * 4


def test_reading_on_keeps_what_was_seen_and_adds_what_is_new():
    one = attended_photos(
        torch.ones(1, 2, 1), row_P=torch.tensor([1]), start_P=torch.tensor([0]), shape=(2, 3)
    )
    _, slots_BS = seen_on(None, one, length=3)
    assert slots_BS.tolist() == [[False, False], [True, True]]
    later, slots_BS = seen_on(slots_BS, None, length=1)
    assert later.states_BSD is None
    assert later.sees_BTS[:, 0].tolist() == [[True, False, False], [False, True, True]]
    new = attended_photos(
        torch.ones(1, 2, 1), row_P=torch.tensor([0]), start_P=torch.tensor([0]), shape=(2, 1)
    )
    both, slots_BS = seen_on(slots_BS, new, length=1)
    assert both.states_BSD.shape == (2, 2, 1)  # the slot "no photo" is not written twice
    assert slots_BS.tolist() == [[False, False, True, True], [True, True, False, False]]


@pytest.mark.parametrize("gate", [0.0, 0.5])
def test_losses_reach_the_photo_encoder_where_gates_stand_open(tokenizers, dialogues, rng, gate):
    """Gates that are shut learn first."""
    model = attending_model(tokenizers, gate=gate)
    for loss in ("t", "v"):
        model.zero_grad()
        model(collated(model, dialogues[:1]), generator=rng)[loss].backward()
        layer = model.language.model.model.layers[1]
        assert float(layer.cross_attn_attn_gate.grad.abs()) > 0
        for weight in (layer.cross_attn.v_proj.weight, model.photo_encoder.project.weight):
            assert bool(weight.grad.abs().max() > 0) is (gate > 0)


def test_padding_batch_order_and_photos_of_other_rows_change_no_state(open_model, dialogues):
    wordy = dataclasses.replace(dialogues[0], turns=dialogues[0].turns[:1])  # without a photo
    rows = [*dialogues, wordy]
    together = hidden_of(open_model, rows)
    turned = hidden_of(open_model, rows[::-1])
    torch.testing.assert_close(turned.flip(0), together, rtol=1e-4, atol=1e-5)
    for number, dialogue in enumerate(rows):
        alone = hidden_of(open_model, [dialogue])[0]
        torch.testing.assert_close(together[number, : len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_answering_reads_with_a_cache_what_training_reads_at_once(open_model, dialogues):
    """Photos in the context, then one that is shared on the way, then words."""
    (dialogue,) = dialogues[:1]
    k = next(i for i, t in enumerate(dialogue.turns) if t.photos and t.speaker == AGENT)
    context, photo = dialogue.turns[:k], dialogue.turns[k].photos[0]
    images = {p.id: photo_image(p) for t in context for p in t.photos}
    decoder = Decoder(open_model)
    writing, _ = decoder.read_all([context], [images])
    decoder.open_turn(writing)
    renderer = open_model.renderer
    decoder.push(writing, [renderer.open, *renderer.words(photo.caption), renderer.close])
    decoder.push_photos(writing, [photo_image(photo)], writing.all_rows_B)
    decoder.push(writing, [open_model.renderer.end])
    whole = dataclasses.replace(dialogue, turns=dialogue.turns[: k + 1])
    want = hidden_of(open_model, [whole])[0, -1]
    torch.testing.assert_close(writing.hidden_BD[0], want, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_gives_the_same_model_back(tmp_path, open_model, dialogues):
    save_model(open_model, tmp_path / "model", recipe={})
    again = load_folder(tmp_path / "model")
    torch.testing.assert_close(hidden_of(again, dialogues), hidden_of(open_model, dialogues))


def test_parts_that_do_not_fit_are_refused(tmp_path, tokenizers, open_model):
    base = build_model(tokenizers, bridge="dvtm")
    with pytest.raises(ConfigError, match="no cross-attention layers.*with_cross_attention"):
        type(base)(
            language=base.language,
            photo_encoder=open_model.photo_encoder,
            bridge=base.bridge,
            painter=None,
            renderer=open_model.renderer,
        )
    save_model(open_model, tmp_path / "model", recipe={})
    base.language.save_pretrained(tmp_path / "model" / "language_model")
    with pytest.raises(CheckpointError, match="attend to.*parts of two models"):
        load_folder(tmp_path / "model")
    for layers in ((), (0,), (1, 1), (3,)):
        with pytest.raises(ConfigError, match="wanted different numbers from 1 to"):
            with_cross_attention(base.language, layers=layers)
    with pytest.raises(ConfigError, match="a Llama without a prefix, this is Mllama"):
        with_cross_attention(open_model.language, layers=(1,))
    with pytest.raises(ConfigError, match="cross-attention layers, whose places.*use LoRA"):
        add_prefix(open_model.language, PrefixConfig())
    add_lora(base.language, LoraConfig())
    with pytest.raises(ConfigError, match="before LoRA does"):
        with_cross_attention(base.language, layers=(1,))
