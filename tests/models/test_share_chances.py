"""P(the next turn is a photo) where nobody says who speaks next, for LLMs that take any mask and
for those that read one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import language_of

from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.evaluation.measures_photochat import rendered_moments
from showtell.models import gold
from showtell.models.gold import exchanged, large_products, share_chances
from showtell.recipes import small
from showtell.recipes.talking import text_model


def chat(number: int, share: int, num_turns: int) -> Dialogue:
    turns = []
    for k in range(num_turns):
        speaker = (USER, AGENT)[(k * k + number) % 2]
        element = f"turn {k} of {number}, lovely weather"
        photo = Photo(id=f"p{number}", caption="Objects in the photo: Dog, Cake")
        turns.append(Turn(speaker=speaker, elements=(photo if k == share else element,)))
    return Dialogue(id=str(number), turns=tuple(turns))


@pytest.fixture(scope="module", params=["llama", "windowed", "alibi", "alibi_by_place"])
def model(request):
    texts = [f" turn {k} of {k}, lovely weather Objects in the photo: Dog, Cake" for k in range(9)]
    tokenizer = small.train_dialogue_tokenizer(texts, vocabulary=300)
    return text_model(language_of(tokenizer, request.param)).eval()


@pytest.fixture(scope="module")
def rows(model):
    return rendered_moments(model.renderer, [chat(k, 2 + k, 6 + k) for k in range(4)])


def next_chances(model, ids: list[int]) -> torch.Tensor:
    hidden = model.language.hidden(model.language.embed(torch.tensor([ids])), None)
    return model.language.head(hidden[0, -1]).float().softmax(-1).double()


@torch.no_grad()
def test_the_one_pass_agrees_with_the_sum_over_speakers_written_out(model, rows):
    found = share_chances(model, rows)
    roles, img = model.renderer.roles, model.renderer.img
    slow, spoken = [], []
    for row in rows:
        for place in row.moments:
            chances = []
            for naming in (row, exchanged(model, row)):
                before = next_chances(model, naming.ids[: place.index])
                speaks = {
                    s: before[t] / sum(before[r] for r in roles.values()) for s, t in roles.items()
                }
                shares = {
                    s: next_chances(model, [*naming.ids[: place.index], t])[img]
                    for s, t in roles.items()
                }
                said = next(s for s, t in roles.items() if t == naming.ids[place.index])
                chances.append((sum(speaks[s] * shares[s] for s in roles), shares[said]))
            slow.append(float(sum(c for c, _ in chances)) / 2)
            spoken.append(float(sum(c for _, c in chances)) / 2)
    np.testing.assert_allclose(found.marginal_M, slow, rtol=1e-4)
    np.testing.assert_allclose(found.spoken_M, spoken, rtol=1e-4)


def test_neither_batching_nor_the_names_of_the_speakers_nor_the_future_matter(model, rows):
    found = share_chances(model, rows, batch_size=4)
    alone = share_chances(model, rows, batch_size=1)
    named = share_chances(model, [exchanged(model, row) for row in rows])
    np.testing.assert_allclose(found.marginal_M, alone.marginal_M, rtol=1e-4)
    np.testing.assert_allclose(found.marginal_M, named.marginal_M, rtol=1e-4)
    cut = rendered_moments(model.renderer, [chat(k, 2 + k, 3 + k) for k in range(4)])
    np.testing.assert_allclose(share_chances(model, cut).marginal_M, found.marginal_M, rtol=1e-4)


def test_the_moments_stand_in_the_order_of_the_dialogues(model, rows):
    found = share_chances(model, rows, batch_size=2)
    assert found.row_M.tolist() == [k for k in range(4) for _ in range(2 + k)]
    assert found.shared_M.tolist() == [j == 1 + k for k in range(4) for j in range(2 + k)]


@torch.no_grad()
def test_words_have_the_chances_that_a_slow_loop_gives_them(model, rows):
    found = share_chances(model, rows).word_nll
    wanted: dict[tuple[int, int], float] = {}
    for b, row in enumerate(rows):
        for naming in (row, exchanged(model, row)):
            starts = [start for start, _, _ in naming.openings]
            stops = [*starts[1:], len(naming.ids)]
            for k, ((_, at, _), stop) in enumerate(zip(naming.openings, stops, strict=True)):
                words = range(at, stop - 1)  # the last token is the turn's end
                if k and naming.ids[at] != model.renderer.img:
                    nll = [-next_chances(model, naming.ids[:t])[naming.ids[t]].log() for t in words]
                    wanted[b, k] = wanted.get((b, k), 0.0) + float(sum(nll)) / 2
    assert found.keys() == wanted.keys()
    for place, nll in wanted.items():
        assert found[place] == pytest.approx(nll, rel=1e-4)


def test_only_a_large_llm_reads_in_bfloat16_and_then_nearly_the_same(model, rows, monkeypatch):
    plain = share_chances(model, rows)
    with large_products(model):
        assert not torch.is_autocast_enabled("cpu")
    monkeypatch.setattr(gold, "LARGE", 0)
    rough = share_chances(model, rows)  # a CPU without bfloat16 products stays with float32
    np.testing.assert_allclose(rough.marginal_M, plain.marginal_M, rtol=0.1)
    assert rough.token_nll == pytest.approx(plain.token_nll, rel=0.01)
