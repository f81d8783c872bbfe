"""Every measure of PhotoChat's table is its definition, computed here another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from conftest import words_alone
from showtell.data.photochat import moment_positions
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError
from showtell.evaluation import photochat_runs as runs
from showtell.evaluation.measures_photochat import objects
from showtell.metrics.text import text_scores

THINGS = ["Dog, Cake", "Cat", "Sea, Boat, Dog", "Human face"]


def talk(number: int) -> Dialogue:
    """A share at turn 2 to 4 of 6."""
    share = 2 + number % 3
    photo = Photo(id=f"p{number}", caption=f"Objects in the photo: {THINGS[number % 4]}")
    turns = [
        Turn(
            speaker=(USER, AGENT)[(k + k // 3 + number) % 2],
            elements=(photo if k == share else f"turn {k} of talk {number}, so nice",),
        )
        for k in range(6)
    ]
    return Dialogue(id=str(number), turns=tuple(turns))


TALKS = [talk(number) for number in range(12)]
LABELS = np.array([p.shares for d in TALKS for p in moment_positions(d)], dtype=float)


@pytest.fixture(scope="module")
def model():
    return words_alone(
        f" turn {k} of talk {k}, so nice Objects in the photo: Dog" for k in range(9)
    )


def test_moments_are_scored_at_the_threshold_and_calibrated_by_other_dialogues():
    raw = np.random.default_rng(0).random(len(LABELS)) * 0.2 + 0.3 * LABELS
    calibration = runs.Calibration.of(TALKS, raw.tolist())
    logits = calibration.scale * np.log(raw / (1 - raw)) + calibration.bias
    chances = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(calibration(raw), chances, rtol=1e-6)
    assert calibration(raw).mean() == pytest.approx(LABELS.mean(), abs=1e-3)  # Platt's own law
    found = runs.moment_scores(TALKS, raw.tolist(), calibration)
    value = {name: scores.value() for name, scores in found.items()}
    chosen = chances >= calibration.threshold - 1e-12
    assert value["moment.f1"] == pytest.approx(f1_score(LABELS, chosen))
    assert value["moment.auprc"] == pytest.approx(average_precision_score(LABELS, raw))
    assert value["moment.brier"] == pytest.approx(np.mean((chances - LABELS) ** 2))
    gaps = [
        abs((LABELS - chances)[(chances * 15).astype(int) == k].sum()) / len(LABELS)
        for k in range(15)
    ]
    assert value["moment.ece"] == pytest.approx(sum(gaps))
    best = max(f1_score(LABELS, chances >= t) for t in chances)
    assert value["moment.f1"] == pytest.approx(best)
    of = found["moment.f1"].dialogue_N.tolist()
    assert of == [b for b, d in enumerate(TALKS) for _ in moment_positions(d)]


def test_replies_are_scored_as_their_protocol_does_and_grouped_by_dialogue():
    places = runs.text_places(TALKS, most=20)
    assert len(places) == 20 and all(k > 0 and not TALKS[b].turns[k].photos for b, k in places)
    assert len(runs.text_places(TALKS)) == 12 * 4
    said = [f"turn {k} is nice, so" for _, k in places]
    gold = [TALKS[b].turns[k].text for b, k in places]
    found = runs.reply_scores(TALKS, places, said)
    whole = text_scores(said, gold, protocol="psdg")
    assert found["text.psdg.bleu1"].value() == pytest.approx(whole.bleu[0])
    assert found["text.psdg.bleu2"].value() == pytest.approx(whole.bleu[1])
    assert found["text.psdg.rouge_l"].value() == pytest.approx(whole.rouge_l)
    assert runs.merit(found) == pytest.approx(np.mean([*whole.bleu[:2], whole.rouge_l]))


def test_perplexity_is_by_words_and_not_by_tokens():
    nll = [{k: 7.0 * (k + 1) for k in range(1, 6)} for _ in TALKS]
    total = sum(
        nll[b][k] for b, d in enumerate(TALKS) for k in range(1, 6) if not d.turns[k].photos
    )
    words = 12 * 4 * 7  # turn 1 of talk 1, so nice
    found = runs.perplexity_scores(TALKS, nll)["text.perplexity_per_word"].value()
    assert found == pytest.approx(math.exp(total / words))


def test_objects_are_a_list_or_known_names_in_free_words():
    known = runs.objects_of(TALKS)
    assert known == {"dog", "cake", "cat", "sea", "boat", "human face"}
    assert objects("two dogs, and a human face: it is a caterpillar", known) == {
        "dog",
        "human face",
    }
    assert objects("Objects in the photo: Dog, Zebra", known) == {"dog", "zebra"}
    said = ["dogs at sea"] * 11 + ["Objects in the photo: Human face"]
    f1 = {"Dog, Cake": 0.5, "Cat": 0.0, "Sea, Boat, Dog": 0.8, "Human face": 0.0}
    wanted = [f1[THINGS[n % 4]] for n in range(11)] + [1.0]
    found = runs.description_scores(TALKS, said, known=known)["description.object_f1"]
    assert found.rows_NS[:, 0].tolist() == pytest.approx(wanted)


def test_a_description_asks_the_gold_ones_and_equals_stand_before_it():
    def encoder(texts):  # letters as vectors
        return torch.tensor(
            [[text.lower().count(c) + 0.01 for c in "abcdegknost"] for text in texts]
        )

    gold = [d.photos[0].caption for d in TALKS]
    found = runs.search_scores(TALKS, gold, encoder=encoder)
    # each of the four lists belongs to three photos: the last of three equals comes third
    for name in ("bm25", "encoder"):
        values = [found[f"description.{name}.r{k}"].value() for k in (1, 5, 10)]
        assert values == [0.0, 1.0, 1.0]
    alone = runs.search_scores(TALKS[:4], gold[:4], encoder=encoder)
    assert alone["description.bm25.r1"].value() == alone["description.encoder.r1"].value() == 1.0
    wrong = runs.search_scores(TALKS[:4], [*gold[1:4], gold[0]], encoder=None)
    assert wrong["description.bm25.r1"].value() == 0.0 and len(wrong) == 3
    other = runs.search_scores(TALKS[:4], ["?"] * 4, encoder=encoder, encoded=gold[:4])
    assert other["description.encoder.r1"].value() == 1.0
    assert runs.listed(gold[0]) == "Dog, Cake"


def test_contexts_are_what_was_said_before_the_photo():
    whole, last = runs.contexts_of(TALKS[:3]), runs.contexts_of(TALKS[:3], last=1)
    assert whole[0] == "turn 0 of talk 0, so nice turn 1 of talk 0, so nice"
    assert last == [f"turn {1 + n} of talk {n}, so nice" for n in range(3)]


def test_a_model_tells_every_position_and_one_that_cannot_is_refused(model):
    talks = runs.ModelTalks(model)
    found = talks.read(TALKS[:4], words=True)
    assert [len(one.chances) for one in found] == [2, 3, 4, 2]
    assert [set(one.word_nll) for one in found] == [
        {k for k in range(1, 6) if k != share} for share in (2, 3, 4, 2)
    ]
    alone = talks.read(TALKS[1:2], words=False)
    assert alone[0].chances == pytest.approx(found[1].chances, rel=1e-4)
    assert not alone[0].word_nll
    cases = [(d.turns[:3], d.turns[3].speaker) for d in TALKS[:3]]
    short = runs.DECODINGS["most likely, at least 8"]
    assert talks.replies(cases, short, seed=0) == talks.replies(cases, short, seed=5)
    drawn = runs.DECODINGS["temperature 1"]
    both = talks.replies(cases, drawn, seed=3)
    assert talks.replies(cases[1:], drawn, seed=4) == both[1:]
    assert len(talks.descriptions(TALKS[:5])) == 5
    long = Dialogue(
        id="long",
        turns=tuple(
            Turn(speaker=(USER, AGENT)[k % 2], elements=(f"turn {k} of talk {k}, so nice" * 3,))
            for k in range(60)
        ),
    )
    with pytest.raises(DataError, match="dialogue long: .* tells [0-9]+ of 59 share moments"):
        talks.read([long], words=False)
