"""Who moves whom: the law that the project rests on; and that answering walks the same line."""

from __future__ import annotations

import torch

from conftest import build_model, collated, dialogues_with_photos, responder_of
from keyword_model import words_to
from showtell.batch import to_image, to_pixels
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.models import eyes as answering
from showtell.models.dialogue_model import share_logit


def moved(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def test_text_loss_moves_the_photo_encoder_and_never_the_painter(tiny_model, rng):
    batch = collated(tiny_model, dialogues_with_photos(3))
    tiny_model(batch, generator=rng)["t"].backward()
    assert moved(tiny_model.photo_encoder) > 0
    assert moved(tiny_model.painter) == 0


def test_spans_hold_the_caption_and_the_states_around_it(tiny_model):
    batch = collated(tiny_model, dialogues_with_photos(2))
    states = tiny_model.states(batch)
    spans = tiny_model.gather_spans(states, batch)
    for n, caption in enumerate(spans.captions):
        ids = spans.ids_NK[n][spans.mask_NK[n]].tolist()
        assert tiny_model.language.tokenizer.decode(ids).strip() == caption
        row, start = int(batch.span_row_N[n]), int(batch.span_start_N[n])
        torch.testing.assert_close(spans.before_NKD[n, 0], states.hidden_BTD[row, start - 1])
        torch.testing.assert_close(spans.after_NKD[n, 0], states.hidden_BTD[row, start])


def test_share_logit_is_the_log_odds_of_img():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    odds = share_logit(logits, 2).sigmoid()
    torch.testing.assert_close(odds, logits.softmax(-1)[:, 2])


def test_text_is_told_while_it_is_written(tiny_model):
    responder = responder_of(tiny_model, share_threshold=1.1, max_turns=1)
    pieces: list[str] = []
    turns = (Turn(speaker=USER, elements=("hi",)),)
    reply = responder.respond(turns, images={}, seed=1, tell=words_to(pieces))
    told, text = "".join(pieces[:-1]).strip(), reply.turns[0].text
    assert pieces[-1] == "\n"
    assert text.startswith(told) and told
    assert reply.seconds_to_first_word is not None and reply.seconds_to_photo is None


def test_painting_by_bfloat16_products_is_asked_for_and_near(tiny_model, monkeypatch):
    captions, painter = ["a red dog at the beach", "two cats"], tiny_model.painter
    exact = responder_of(tiny_model).paint_captions(captions, seeds=[3, 4])
    monkeypatch.setattr("showtell.runtime.multiplies_bfloat16", lambda device: True)
    assert torch.equal(responder_of(tiny_model).paint_captions(captions, seeds=[3, 4]), exact)
    monkeypatch.setattr(painter, "bfloat16_products", True)
    near = responder_of(tiny_model).paint_captions(captions, seeds=[3, 4])
    assert near.dtype == exact.dtype and not torch.equal(near, exact)
    assert float((near - exact).abs().mean()) < 0.01
    monkeypatch.setattr("showtell.runtime.multiplies_bfloat16", lambda device: False)
    assert torch.equal(responder_of(tiny_model).paint_captions(captions, seeds=[3, 4]), exact)


def test_pixels_survive_the_way_to_an_image_and_back():
    pixels = torch.rand(3, 5, 7)
    torch.testing.assert_close(to_pixels(to_image(pixels)), pixels, atol=1 / 255, rtol=0)


def test_a_captioner_speaks_for_the_users_photos_only(tokenizers):
    model, eyes = (build_model(tokenizers, bridge="pipeline") for _ in range(2))
    model.captioner = eyes
    photo = next(
        p for d in dialogues_with_photos(1) for t in d.turns if t.speaker == USER for p in t.photos
    )
    own = Photo(id="own", caption="kept", origin="painted", labels=photo.labels)
    turns = (Turn(speaker=USER, elements=(photo,)), Turn(speaker=AGENT, elements=(own,)))
    images = {photo.id: photo_image(photo), own.id: photo_image(photo)}
    (told,) = responder_of(model).describe_all([turns], [images])
    assert [told[0].photos[0].caption] == responder_of(eyes).captions([photo], [images[photo.id]])
    assert told[1].photos[0].caption == "kept"
    assert responder_of(model).describe_all([turns], [{}]) == [
        turns
    ]  # nothing of it is there to see


def test_photos_of_many_dialogues_are_described_as_each_alone(tokenizers, monkeypatch):
    model, eyes = (build_model(tokenizers, bridge="pipeline") for _ in range(2))
    model.captioner = eyes
    contexts = [d.turns for d in dialogues_with_photos(4)]
    contexts.append(contexts[0] + contexts[1])  # several photos in one, whose ids come again
    images = [{p.id: photo_image(p) for turn in c for p in turn.photos} for c in contexts]
    responder = responder_of(model)
    alone = [responder.describe_all(contexts[n : n + 1], images[n : n + 1])[0] for n in range(5)]
    monkeypatch.setattr(answering, "CAPTIONS_AT_ONCE", 3)  # so that there are several batches
    assert responder.describe_all(contexts, images) == alone
    said = [p.caption for c in alone for t in c for p in t.photos if p.origin == "user"]
    gold = [p.caption for c in contexts for t in c for p in t.photos if p.origin == "user"]
    assert len(said) > 3 and said != gold
    model.captioner = None
    assert responder.describe_all(contexts, images) == contexts
