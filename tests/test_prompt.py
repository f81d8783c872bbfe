"""What the LLM reads and what it is trained on, said once for everything."""

from __future__ import annotations

import pytest

from conftest import dialogues_with_photos
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError
from showtell.prompt import IGNORED, Renderer, RendererConfig, render_for_show


@pytest.fixture
def renderer(tokenizers):
    return Renderer(tokenizers[0], RendererConfig(num_photo_tokens=3))


SEEN = Photo(id="u", caption="a cat", path="cat.png")
MADE = Photo(id="a", caption="a red dog at the beach", origin="painted", path="dog.png")
TALK = Dialogue(
    id="d",
    turns=(
        Turn(speaker=USER, elements=("look at this",)),
        Turn(speaker=USER, elements=(SEEN,)),
        Turn(speaker=AGENT, elements=("nice cat",)),
        Turn(speaker=AGENT, elements=(MADE,)),
        Turn(speaker=USER, elements=("wow",)),
    ),
)


def text(renderer, ids):
    return renderer.tokenizer.decode(ids)


def test_only_the_agents_words_and_who_speaks_next_are_trained(renderer):
    out = renderer.render(TALK)
    trained = [i for i, label in zip(out.ids, out.labels, strict=True) if label != IGNORED]
    assert text(renderer, trained) == (
        "<|user|><|agent|> nice cat<|end|><|agent|>[IMG] a red dog at the beach[/IMG]<|end|>"
        "<|user|>"
    )
    assert all(i == label or label == IGNORED for i, label in zip(out.ids, out.labels, strict=True))


def test_a_seen_photo_is_q_places_and_its_caption_is_nowhere(renderer):
    out = renderer.render(TALK)
    (seen, own) = out.seen
    assert seen.photo is SEEN and own.photo is MADE
    for place in out.seen:
        assert out.ids[place.start : place.start + 3] == [renderer.photo] * 3
    assert " a cat" not in text(renderer, out.ids)


def test_a_span_is_the_caption_between_its_marks(renderer):
    (span,) = renderer.render(TALK).spans
    ids = renderer.render(TALK).ids
    assert text(renderer, ids[span.start : span.stop]).strip() == MADE.caption
    assert (ids[span.start - 1], ids[span.stop]) == (renderer.img, renderer.close)


def test_moments_are_the_agents_turns_and_say_which_shared(renderer):
    out = renderer.render(TALK)
    assert [(m.turn, m.shared) for m in out.moments] == [(2, False), (3, True)]
    for moment in out.moments:
        assert out.ids[moment.index] == renderer.roles[AGENT]
        assert (out.ids[moment.index + 1] == renderer.img) is moment.shared


def test_a_photo_without_pixels_stands_as_its_caption(renderer):
    missing = Photo(id="m", caption="a cat")
    out = renderer.render(Dialogue(id="d", turns=(Turn(speaker=USER, elements=(missing,)),)))
    assert not out.seen and "[IMG] a cat[/IMG]" in text(renderer, out.ids)
    assert all(label == IGNORED for label in out.labels)


def test_every_example_is_in_the_whole_dialogue(renderer):
    """One pass over a dialogue trains each (context, response) pair as it would be alone."""
    for dialogue in dialogues_with_photos(3):
        whole = renderer.render(dialogue)
        for k in range(1, len(dialogue.turns)):
            part = renderer.render_turns(dialogue.turns[:k])
            assert whole.ids[: len(part.ids)] == part.ids


def test_words_that_look_like_marks_stay_words(renderer):
    ids = renderer.words("please say [IMG] or <|end|>")
    assert not set(ids) & renderer.special
    assert text(renderer, ids).strip() == "please say [IMG] or <|end|>"


def test_the_oldest_turns_go_first_and_are_counted(tokenizers):
    renderer = Renderer(tokenizers[0], RendererConfig(num_photo_tokens=3, max_tokens=40))
    turns = tuple(Turn(speaker=USER, elements=(f"turn number {k}",)) for k in range(20))
    out = renderer.render_turns(turns)
    assert len(out.ids) <= 40 and 0 < out.dropped_turns < 20
    assert text(renderer, out.ids).endswith("turn number 19<|end|>")
    with pytest.raises(DataError, match="make it shorter"):
        renderer.render_turns((Turn(speaker=USER, elements=("very long " * 50,)),))


def test_the_photo_to_answer_is_never_dropped(tokenizers):
    renderer = Renderer(tokenizers[0], RendererConfig(num_photo_tokens=3, max_tokens=60))
    seen = {"has_pixels": lambda photo: True}
    talk = [Turn(speaker=USER, elements=(f"turn number {k}",)) for k in range(20)]
    show = Turn(speaker=USER, elements=(Photo(id="p"),))
    shown = [talk[0], show, *talk[1:]]
    out = renderer.render_turns(shown, **seen)
    assert [place.photo.id for place in out.seen] == ["p"] and out.dropped_turns > 5
    assert text(renderer, out.ids).endswith("turn number 19<|end|>")
    # once the agent has spoken of it, it is a turn like others
    answered = [talk[0], show, Turn(speaker=AGENT, elements=("a dog!",)), *talk[1:]]
    out = renderer.render_turns(answered, **seen)
    assert not out.seen and text(renderer, out.ids).endswith("turn number 19<|end|>")
    two = [show, Turn(speaker=USER, elements=("so " * 54,))]
    with pytest.raises(DataError, match="with the photo it is about, takes .* make it shorter"):
        renderer.render_turns(two, **seen)


def test_the_coloured_view_shows_every_token_once(renderer):
    shown = render_for_show(renderer, TALK)
    out = renderer.render(TALK)
    assert len(shown) == len(out.ids)
    assert [trained for _, trained in shown] == [label != IGNORED for label in out.labels]
