"""The dialogue finds the description: encoder, mixture, protocol, and the whole recipe."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from photochat_retrieval import evaluate_retrieval

from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import CheckpointError, ConfigError, DataError
from showtell.metrics.retrieval import ranks
from showtell.recipes import run_recipe
from showtell.recipes.description_ranker import (
    Bags,
    DescriptionEncoder,
    DescriptionRanker,
    Mixture,
    candidates_of,
    photo_query,
    vocabulary_of,
    words_of,
)
from showtell.recipes.photochat_retrieval import DescriptionTask, mixed

# what is said never holds the word of the description: only learning finds it
PAIRS = [("woof", "Dog"), ("meow", "Cat"), ("tasty", "Cake"), ("wheels", "Car"), ("leaves", "Tree")]


def dialogue(number: int, said: str, caption: str) -> Dialogue:
    photo = Photo(id=f"photo-{number}", caption=f"Objects in the photo: {caption}")
    turns = (
        Turn(speaker=USER, elements=("hello there",)),
        Turn(speaker=AGENT, elements=(f"I have some {said} here",)),
        Turn(speaker=AGENT, elements=("look", photo)),
        Turn(speaker=USER, elements=("never to be read",)),
    )
    return Dialogue(id=str(number), turns=turns)


@pytest.fixture
def dialogues():
    return [dialogue(n, *PAIRS[n % len(PAIRS)]) for n in range(20)]


@pytest.fixture
def encoder(dialogues):
    torch.manual_seed(0)
    texts = [words_of(f"{photo_query(d).text} {d.photos[0].caption}") for d in dialogues]
    return DescriptionEncoder(*vocabulary_of(texts), width=32)


def test_a_query_ends_at_the_photo_and_knows_who_shares(dialogues):
    query = photo_query(dialogues[0])
    assert query.text == "hello there I have some woof here look"
    fields = query.fields()
    assert fields["look"] == 1 and fields["woof"] == 3 and fields["hello"] == 4
    with pytest.raises(DataError, match="shares no photo"):
        photo_query(dataclasses.replace(dialogues[0], turns=dialogues[0].turns[:2]))


def test_an_untrained_encoder_is_lexical(encoder, dialogues):
    texts = ["dog", "cat", "car"]
    same = Bags.of([encoder.bag(text) for text in texts])
    cosines = (encoder(same, same) / encoder.log_scale.exp()).detach()
    assert torch.allclose(cosines.diagonal(), torch.ones(3), atol=1e-5)
    assert cosines.masked_fill(torch.eye(3).bool(), 0).abs().max() < 0.7


def test_the_other_texts_of_a_batch_do_not_change_a_score(encoder, dialogues):
    queries = [encoder.bag(photo_query(d)) for d in dialogues[:4]]
    captions = [encoder.bag(d.photos[0].caption) for d in dialogues[:4]]
    empty = encoder.bag("")  # no known word: no score, and no NaN
    together = encoder(Bags.of([empty, *queries]), Bags.of(captions))
    alone = torch.cat([encoder(Bags.of([q]), Bags.of(captions)) for q in queries])
    torch.testing.assert_close(together[1:], alone)
    assert (together[0] == 0).all()


def test_equal_descriptions_are_no_rivals(encoder, dialogues):
    task = DescriptionTask(encoder, dialogues, held=candidates_of(dialogues), drop_words=0.0)
    generator = torch.Generator().manual_seed(0)
    alike = task.losses([0, 5, 10], generator=generator)["contrastive"]
    assert alike.item() == pytest.approx(0, abs=1e-6)  # all three say "Dog"
    assert task.losses([0, 1], generator=generator)["contrastive"] > 0


def test_learning_finds_what_no_common_word_can(encoder, dialogues):
    task = DescriptionTask(encoder, dialogues, held=candidates_of(dialogues), drop_words=0.0)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        optimizer.zero_grad()
        task.losses(range(20), generator=generator)["contrastive"].backward()
        optimizer.step()
    fresh = candidates_of([dialogue(n, *pair) for n, pair in enumerate(PAIRS)])
    ranker = mixed(encoder, fresh)
    parts = ranker.parts(fresh.queries, fresh.descriptions)
    assert (ranks(parts[0], fresh.gold_Q) == 1).all()
    assert (ranks(parts[1], fresh.gold_Q) == len(PAIRS)).all()  # BM25 finds nothing
    assert ranker.mixture.encoder > 0


def test_a_ranker_comes_back_from_disk_and_a_broken_one_is_named(encoder, dialogues, tmp_path):
    ranker = DescriptionRanker(encoder, Mixture(encoder=1.0, words=0.5, pieces=0.1))
    ranker.save(tmp_path)
    asked = candidates_of(dialogues)
    again = DescriptionRanker.load(tmp_path).scores(asked.queries, asked.descriptions)
    np.testing.assert_array_equal(again, ranker.scores(asked.queries, asked.descriptions))
    (tmp_path / "ranker.json").write_text("{}")
    with pytest.raises(CheckpointError, match="showtell train photochat_retrieval"):
        DescriptionRanker.load(tmp_path)


def test_photos_shared_twice_are_one_candidate_and_gains_are_paired(encoder, dialogues):
    ranker = DescriptionRanker(encoder, Mixture(encoder=0.0, words=1.0, pieces=0.0))
    twice = [*dialogues, dataclasses.replace(dialogues[0], id="again")]
    assert len(candidates_of(twice).descriptions) == len(dialogues)
    values = evaluate_retrieval(ranker, twice, seed=0)
    # this ranker is BM25, so it gains nothing, surely
    assert values["retrieval.gain.r5"].value == values["retrieval.gain.mrr"].high == 0
    assert values["retrieval.ceiling.r1"].value == 0  # each description is four photos'
    assert values["retrieval.bm25.r1"].n == 21


def test_the_recipe_trains_and_writes_what_can_be_loaded(tmp_path):
    def record(number: int) -> dict:
        said, caption = PAIRS[number % len(PAIRS)]
        return {
            "dialogue": [
                {"message": f"some {said}", "share_photo": False, "user_id": 0},
                {"message": "", "share_photo": True, "user_id": 1},
            ],
            "dialogue_id": number,
            "photo_description": f"Objects in the photo: {caption}",
            "photo_url": f"http://example.org/{number}.jpg",
            "photo_id": f"train/{number}",
        }

    data = tmp_path / "train.jsonl"
    data.write_text("\n".join(json.dumps(record(n)) for n in range(30)))
    settings = [f"photochat={data}", "held_out=10", "width=8", "stage.batch_size=8"]
    settings += ["stage.steps=4", "stage.evaluate_every=2"]
    out = run_recipe("photochat_retrieval", overrides=settings, out=tmp_path / "o", resume=False)
    assert DescriptionRanker.load(out).mixture.encoder
    assert json.loads((out / "report.json").read_text())["measures"]["held_out_mrr"] > 0
    with pytest.raises(ConfigError, match="--set photochat=PATH"):
        run_recipe(
            "photochat_retrieval",
            overrides=[f"photochat={tmp_path}/none"],
            out=tmp_path / "p",
            resume=False,
        )
