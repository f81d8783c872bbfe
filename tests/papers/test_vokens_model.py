"""Vokens in a whole model: what moves whom, what is read, said and painted, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conftest import dialogues_with_photos
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, USER, Turn
from showtell.errors import ConfigError, GenerationError
from showtell.models.adapters import LoraConfig, PrefixConfig, add_lora, add_prefix
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel, share_logit
from showtell.models.respond import Responder
from showtell.prompt import IGNORED, Renderer, RendererConfig

from .voken_models import batched, dice, voken_model


def moved(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.fixture(scope="module")
def model(tokenizers):
    """Read by all tests of this file and changed by none."""
    return voken_model(tokenizers)


@pytest.fixture(scope="module")
def talks():
    return dialogues_with_photos(3)


# ------------------------------------------------------------------------------ who moves whom


@pytest.mark.parametrize("states", ["after", "before"])
def test_photo_loss_reaches_llm_and_photo_encoder_through_vokens(tokenizers, talks, rng, states):
    model = voken_model(tokenizers, states=states)
    model(batched(model, talks), generator=rng)["ldm"].backward()
    for part in (
        model.language.model,
        model.photo_encoder,
        model.bridge.mapper,
        model.painter.unet,
    ):
        assert moved(part) > 0
    rows_n = model.language.new_tokens.input_nD.grad.abs().sum(1)
    # a state that predicts a voken has not read it: the last is read by none
    assert (rows_n > 0).tolist() == ([True] * 3 if states == "after" else [True, True, False])


def test_caption_loss_reaches_the_llm_and_never_the_painter(tokenizers, talks, rng):
    model = voken_model(tokenizers)
    losses = model(batched(model, talks), generator=rng)
    assert set(losses) == {"t", "moment", "ldm", "cap"}
    losses["cap"].backward()
    assert moved(model.language.model) > 0 and moved(model.photo_encoder) > 0
    assert moved(model.painter) == 0


def test_a_batch_without_a_photo_to_make_has_the_text_loss_only(model, rng):
    from photoworld.talk import world_dialogue

    dialogue = next(d for d in map(world_dialogue, range(99)) if not d.photos)
    assert set(model(batched(model, [dialogue]), generator=rng)) == {"t", "moment"}


# ------------------------------------------------------------------------ what is read and learnt


def test_a_photo_to_make_is_its_vokens_and_no_words(model, talks):
    renderer = model.renderer
    for dialogue in talks:
        out = renderer.render(dialogue)
        shown = renderer.tokenizer.decode(out.ids)
        assert out.spans and "[IMG]" not in shown
        for span in out.spans:
            assert tuple(out.ids[span.start : span.stop]) == renderer.span_ids
            assert span.photo.caption not in shown
        for moment in out.moments:
            assert (out.ids[moment.index + 1] == renderer.img) is moment.shared
    assert renderer.img == renderer.span_ids[0]


@pytest.mark.parametrize(
    ("supervised", "trained"), [("all", (True, True, True)), ("ends", (True, False, True))]
)
def test_which_vokens_are_learnt_as_text(tokenizers, talks, supervised, trained):
    model = voken_model(tokenizers, supervised=supervised)
    out = model.renderer.render(talks[0])
    (span, *_) = out.spans
    labels = out.labels[span.start : span.stop]
    assert tuple(label != IGNORED for label in labels) == trained
    assert all(
        label in (IGNORED, token)
        for label, token in zip(labels, model.renderer.span_ids, strict=True)
    )


def test_text_loss_counts_each_voken_once(tokenizers, talks):
    """L_text of Eq. 1 as a mean: the same sum of -log p, less the vokens that are not learnt."""
    losses, counts = {}, {}
    for supervised in ("all", "ends"):
        model = voken_model(tokenizers, supervised=supervised)
        batch = batched(model, talks[:1])
        with torch.no_grad():
            losses[supervised] = float(model(batch, generator=dice(0)[0])["t"])
            states = model.states(batch)
            spans = model.gather_spans(states, batch)
        counts[supervised] = model.loss_counts(batch)["t"]
    middle = spans.logits_NKV[:, 1].log_softmax(-1)[:, model.renderer.span_ids[1]]
    assert counts["all"] - counts["ends"] == len(middle)
    whole = losses["all"] * counts["all"]
    assert whole - losses["ends"] * counts["ends"] == pytest.approx(-float(middle.sum()), rel=1e-3)


def test_a_users_photo_without_pixels_is_still_its_caption(model):
    from showtell.dialogue import Photo

    out = model.renderer.render_turns(
        (Turn(speaker=USER, elements=(Photo(id="x", caption="a cat"),)),)
    )
    assert "[IMG] a cat[/IMG]" in model.renderer.tokenizer.decode(out.ids)
    assert not out.spans


def test_a_bridge_and_a_renderer_that_disagree_are_refused(model):
    tokens = model.bridge.span_tokens
    for config, says in (
        (RendererConfig(), "has span_tokens None and the bridge Vokens"),
        (RendererConfig(span_tokens=tokens, span_trained=(0,)), r"has span_trained \(0,\)"),
    ):
        with pytest.raises(ConfigError, match=says):
            PhotoDialogueModel(
                language=model.language,
                photo_encoder=None,
                bridge=model.bridge,
                painter=None,
                renderer=Renderer(model.language.tokenizer, config),
            )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"span_tokens": ("[IMG1]", "[NO]")}, r"tokenizer has no \[NO\]"),
        ({"span_tokens": ()}, "no such"),
        ({"span_trained": (0, 3)}, "from 0 to 2"),
    ],
)
def test_span_tokens_that_do_not_exist_are_refused(model, changes, says):
    config = replace(model.renderer.config, **changes)
    with pytest.raises(ConfigError, match=says):
        Renderer(model.language.tokenizer, config)


# --------------------------------------------------------------- padding, order, size of a batch


def test_losses_and_conditionings_do_not_depend_on_the_batch(model, talks):
    """Per-photo dice: alone, in a batch, in another order, with longer rows beside it."""
    spans = [len(model.renderer.render(d).spans) for d in talks]
    seeds = [[100 * n + k for k in range(count)] for n, count in enumerate(spans)]

    def run(order):
        batch = batched(model, [talks[n] for n in order])
        given = [seed for n in order for seed in seeds[n]]
        with torch.no_grad():
            losses = model(batch, generator=dice(*given))
            gathered = model.gather_spans(model.states(batch), batch)
            cond_NSC = model.bridge(gathered, model.painter, generator=dice(*given)).cond_NSC
        return losses, dict(zip(given, cond_NSC, strict=True)), model.loss_counts(batch)

    alone = [run([n]) for n in range(3)]
    for order in ([0, 1, 2], [2, 0, 1]):
        losses, conds, counts = run(order)
        for name in ("ldm", "cap", "t"):
            mean = sum(float(one[0][name]) * one[2][name] for one in alone) / counts[name]
            assert float(losses[name]) == pytest.approx(mean, rel=1e-5), name
        for _, own, _ in alone:
            for seed, cond_SC in own.items():
                torch.testing.assert_close(conds[seed], cond_SC, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------- answering


@pytest.mark.parametrize("adapter", [None, "lora", "prefix"])
def test_vokens_in_an_answer_have_the_states_of_training(tokenizers, talks, adapter):
    """write_span after the context is gather_spans of the teacher-forced pass."""
    model = voken_model(tokenizers)
    if adapter == "lora":
        add_lora(model.language, LoraConfig())
    elif adapter == "prefix":
        add_prefix(model.language, PrefixConfig(hidden=8))
    torch.manual_seed(0)
    for name, parameter in model.eval().named_parameters():
        if "lora_B" in name or "prefix" in name:
            torch.nn.init.normal_(parameter)
    dialogue = talks[0]
    k = next(i for i, t in enumerate(dialogue.turns) if t.speaker == AGENT and t.photos)
    context = dialogue.turns[:k]
    images = {p.id: photo_image(p) for t in context for p in t.photos}
    writing, _ = Decoder(model).read_all([context], [images])
    Decoder(model).open_turn(writing)
    p_share = share_logit(writing.logits_BV, model.renderer.img)
    said = Decoder(model).write_span(writing)

    batch = batched(model, [replace(dialogue, turns=dialogue.turns[: k + 1])])
    with torch.no_grad():
        states = model.states(batch)
        taught = model.gather_spans(states, batch)
        shares = model.share_logits(states, batch)
    assert said.ids_NK.tolist() == [list(model.renderer.span_ids)]
    for name in ("before_NKD", "after_NKD", "embeds_NKD", "logits_NKV"):
        torch.testing.assert_close(
            getattr(said, name), getattr(taught, name)[-1:], rtol=1e-4, atol=1e-5, msg=name
        )
    torch.testing.assert_close(p_share, shares[-1:], rtol=1e-4, atol=1e-4)


def test_an_answer_shares_a_photo_without_words_and_never_says_a_voken_in_a_text(tokenizers):
    model = voken_model(tokenizers)
    turns = (Turn(speaker=USER, elements=("show me a dog",)),)
    model.decoding = replace(model.decoding, share_threshold=0.0)
    one, two = (Responder(Decoder(model)).respond(turns, images={}, seed=5) for _ in range(2))
    (photo,) = [p for t in one.turns for p in t.photos]
    assert photo.caption == "" and one.images[photo.id].size == (64, 64)
    assert one.images[photo.id].tobytes() == two.images[photo.id].tobytes()
    # vokens so likely that they would be said at once if they could
    writing, _ = Decoder(model).read_all([turns], [{}])
    Decoder(model).open_turn(writing)
    with torch.no_grad():
        model.language.new_tokens.input_nD.copy_(writing.hidden_BD[0].expand(3, -1))
    Decoder(model).open_turn(opened := Decoder(model).read_all([turns], [{}])[0])
    assert int(opened.logits_BV[0].argmax()) in model.renderer.span_ids
    model.decoding = replace(model.decoding, share_threshold=1.1, max_turns=1)
    said = Responder(Decoder(model)).respond(turns, images={}, seed=5).turns[0].text
    assert "[IMG" not in said


def test_a_told_caption_is_painted_through_the_vokens(model):
    captions = ["a red dog at the beach", "two cats"]
    both = Responder(Decoder(model)).paint_captions(captions, seeds=[3, 4])
    one = Responder(Decoder(model)).paint_captions(captions[1:], seeds=[4])
    torch.testing.assert_close(both[1:], one, atol=2e-3, rtol=0)
    spans = model.spoken_spans(captions)
    assert spans.ids_NK.tolist() == [list(model.renderer.span_ids)] * 2
    assert (spans.after_NKD[0] - spans.after_NKD[1]).abs().max() > 1e-4


def test_there_is_no_caption_to_write(model):
    writing, _ = Decoder(model).read_all([(Turn(speaker=USER, elements=("hi",)),)], [{}])
    with pytest.raises(GenerationError, match="no caption to write"):
        Decoder(model).write_captions(writing)[0]
