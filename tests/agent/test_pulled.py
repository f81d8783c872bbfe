"""What a photo's loss asks of each word of its caption."""

import pytest
import torch
from PIL import Image

from conftest import bridged_model, responder_of
from keyword_model import KeywordModel
from showtell.agent.pulled import pulled_words
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import UsageError

CAPTION = "a red dog at the beach"
TURNS = (
    Turn(speaker=USER, elements=("show me a dog",)),
    Turn(speaker=AGENT, elements=("here",)),
    Turn(speaker=AGENT, elements=(Photo(id="p", caption=CAPTION, origin="painted", seed=1),)),
)
IMAGES = {"p": Image.new("RGB", (64, 64), "red")}


def test_shares_are_of_the_captions_words_and_of_the_gradient_alone(tiny_end_to_end):
    agent, steps = responder_of(tiny_end_to_end), []
    before = {key: value.clone() for key, value in tiny_end_to_end.state_dict().items()}
    found = pulled_words(agent, TURNS, IMAGES, on_step=lambda: steps.append(1))
    assert [word for word, _ in found] == CAPTION.split() and len(steps) == 8
    assert all(share > 0 for _, share in found)
    assert sum(share for _, share in found) == pytest.approx(1)
    assert found == pulled_words(agent, TURNS, IMAGES)
    other = pulled_words(agent, TURNS, {"p": Image.new("RGB", (64, 64), "blue")})
    assert other != found  # it is this photo's
    after = tiny_end_to_end.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(parameter.grad is None for parameter in tiny_end_to_end.parameters())


@pytest.mark.parametrize("bridge", ["vokens", "pipeline"])
def test_what_is_not_trained_through_its_words_says_so(tokenizers, bridge):
    model = bridged_model(tokenizers, bridge)
    with pytest.raises(UsageError, match=r"2408\.08650"):
        pulled_words(responder_of(model), TURNS, IMAGES)
    with pytest.raises(UsageError, match=r"2408\.08650"):
        pulled_words(KeywordModel(), TURNS, IMAGES)
