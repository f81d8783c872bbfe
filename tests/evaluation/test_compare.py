"""The comparison: what is kept of answers, what they score, and what is "-"."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from conftest import build_model, dialogues_with_photos
from photoworld.talk import world_dialogue
from showtell.dialogue import AGENT, USER, Photo
from showtell.errors import DataError
from showtell.evaluation.answer import gold_answer
from showtell.evaluation.answered import ANSWERS, Answers
from showtell.evaluation.compare import COLUMNS, table_of
from showtell.evaluation.measures import attribute_values, moment_report, seeing_report
from showtell.evaluation.score import reply_values
from showtell.evaluation.score_runs import photo_scores, run_of
from showtell.evaluation.table_page import to_json, to_markdown
from showtell.evaluation.world_answers import world_answers
from showtell.evaluation.world_gold import (
    Gold,
    Readers,
    answer_places,
    photo_places,
    photos_at,
)
from showtell.metrics.paired import Difference
from showtell.models.eyes import Eyes


@pytest.fixture(scope="module")
def spoken(tokenizers, tmp_path_factory):
    """(dialogues, answers) of a tiny model."""
    model = build_model(tokenizers, bridge="dvtm")
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    dialogues = dialogues_with_photos(3)
    found = world_answers(
        model,
        dialogues,
        folder=tmp_path_factory.mktemp("spoken"),
        seed=0,
        most_texts=3,
        most_answers=2,
    )
    return dialogues, found


def changed(answers: Answers, kind: str, **said) -> Answers:
    """The answers, with other fields said in the places of a kind, or () for none of them."""
    lists = {name: iter(values) for name, values in said.items()}
    found = []
    for answer in answers.found:
        if answer.kind == kind:
            own = {name: next(values) for name, values in lists.items()}
            answer = dataclasses.replace(answer, said={**answer.said, **own})
        found.append(answer)
    return dataclasses.replace(answers, found=found)


def test_answers_come_back_from_disk_as_they_were(spoken, tmp_path):
    dialogues, found = spoken
    again = Answers.read(found.folder, dialogues, seed=0)
    assert again.found == found.found and again.facts == found.facts
    with pytest.raises(DataError, match="evaluate again"):
        Answers.read(found.folder, dialogues, seed=1)
    with pytest.raises(DataError, match="answers of 3 dialogues .* 2 are asked for"):
        Answers.read(found.folder, dialogues[:2], seed=0)
    (tmp_path / ANSWERS).write_text("{")
    with pytest.raises(DataError, match="evaluate again"):
        Answers.read(tmp_path, dialogues)


def test_there_is_something_said_at_every_place(spoken):
    dialogues, found = spoken
    photos = [t for d in dialogues for t in d.turns if t.speaker == AGENT and t.photos]
    assert len(found.of("photo")) == len(found.pixels("photo")) == len(photos)
    assert sum(answer.wanted["share"] for answer in found.of("moment")) == len(photos)
    assert len(found.of("text")) == 3 and len(found.of("answer")) == 2
    counted = zip(found.facts["words_B"], found.facts["word_nll_B"], strict=True)
    assert all(words > 0 and nll > 0 for words, nll in counted)
    lines = (found.folder / "predictions.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert len(ids) == len(set(ids)) == len(photos) + 5


def test_perplexity_of_words_counts_the_words_of_the_agents_text_turns(tokenizers, spoken):
    dialogues, found = spoken
    renderer = build_model(tokenizers, bridge="dvtm").renderer
    for dialogue, count in zip(dialogues, found.facts["words_B"], strict=True):
        said_by_agent = [t.text for t in dialogue.turns if t.speaker == AGENT and t.text]
        assert count == sum(len(renderer.words(text)) for text in said_by_agent)


def test_an_answer_is_asked_for_where_the_gold_one_holds_a_photo_if_there_is_one():
    dialogues = [world_dialogue(seed) for seed in range(40)]
    for number, k in answer_places(dialogues, seed=0, most=40):
        turns = dialogues[number].turns
        assert turns[k].speaker == AGENT and turns[k - 1].speaker == USER
        shares = any(t.photos for t in turns[1:] if t.speaker == AGENT)
        answer = gold_answer(dialogues[number], k)
        assert any(isinstance(e, Photo) for e in answer) or not shares


# ----------------------------------------------------------------------------------------- scores


class Clip:
    """An encoder in which a photo is its colours and a text its letters."""

    def texts(self, texts):
        return torch.tensor([[1.0 + t.count(c) for c in "aeiou"] for t in texts])

    def photos(self, photos):
        rows = [torch.tensor(p.resize((1, 1)).getpixel((0, 0))) for p in photos]
        return torch.nn.functional.pad(torch.stack(rows).float(), (0, 2), value=1.0)


class Reader:
    """Reads every photo as the scene that it was made of."""

    def __init__(self, scenes):
        self.scenes = scenes

    def read(self, pixels_N3HW):
        return [dict(scene) for scene in self.scenes]

    def features(self, pixels_N3HW):
        return pixels_N3HW.mean((2, 3))


@pytest.fixture
def gold(spoken):
    dialogues, _ = spoken
    agents = photos_at(dialogues, photo_places(dialogues))
    assert len(agents) < sum(len(dialogue.photos) for dialogue in dialogues)
    reader = Reader([photo.labels["scene"] for photo in agents])
    return Gold(dialogues, Readers(oracle=reader, encoder=reader, clip=Clip()))


def test_the_true_photos_score_best_and_the_gold_words_too(spoken, gold):
    _, found = spoken
    best = photo_scores(gold.pixels_N3HW, gold)
    assert best["photo.clip_i"].value() == pytest.approx(1)
    assert best["photo.attribute_accuracy_in_dialogue"].value() == 1
    own = photo_scores(found.pixels("photo"), gold)
    assert own["photo.clip_i"].value() < 1 and own["photo.kid"].value() > best["photo.kid"].value()
    perfect = found
    for kind in ("text", "seeing"):
        perfect = changed(perfect, kind, elements=[a.wanted["elements"] for a in found.of(kind)])
    shared = [float(answer.wanted["share"]) for answer in found.of("moment")]
    perfect = changed(perfect, "moment", p_share=shared)
    scored = {name: one.value() for name, one in run_of(perfect, gold).scores.items()}
    for name in (
        *("text.psdg.bleu1", "text.psdg.bleu2", "text.psdg.rouge_l", "text.similarity"),
        *("moment.f1", "moment.auprc", "seeing.accuracy"),
    ):
        assert scored[name] == pytest.approx(1), name
    assert scored["text.meteor_exact_stem"] > 0.9


def test_a_table_has_the_values_that_a_report_has(spoken, gold):
    _, found = spoken
    told = moment_report(found, seed=0) | seeing_report(found, gold, seed=0)
    told |= reply_values(found, seed=0, distinct=3, protocol="world")
    wrong = [{**gold.photos[0].labels["scene"], "place": "?"}] * len(gold.photos)
    gold.readers.oracle.scenes = wrong
    name = "attribute_accuracy_in_dialogue"
    told |= attribute_values(wrong, gold.photos, counts="determined", name=name, seed=0)
    values = {name: one.value() for name, one in run_of(found, gold).scores.items()}
    shared = values.keys() & told.keys()
    assert shared > {"moment.f1", "moment.auprc", "seeing.accuracy", f"photo.{name}"}
    assert {f"text.psdg.{row}" for row in ("bleu1", "bleu2", "rouge_l")} < shared
    assert {key: told[key].value for key in shared} == pytest.approx(
        {key: values[key] for key in shared}
    )


def test_a_captioner_sees_each_photo_once(tokenizers, monkeypatch, tmp_path):
    model, eyes = (build_model(tokenizers, bridge="pipeline") for _ in range(2))
    model.captioner, model.photo_encoder = eyes, None
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    dialogues, captions, asked = dialogues_with_photos(3), Eyes.captions, []

    def counted(self, photos, images):
        asked.extend(photo.id for photo in photos)
        return captions(self, photos, images)

    monkeypatch.setattr(Eyes, "captions", counted)
    found = world_answers(model, dialogues, folder=tmp_path, seed=0)
    shown = [p.id for d in dialogues for p in d.photos if p.origin == "user"]
    assert shown and asked == shown and found.of("photo")


def test_no_cell_is_empty_without_a_reason_and_none_is_a_zero_for_nothing(spoken, gold):
    _, found = spoken
    wordless = changed(found, "photo", elements=[[] for _ in found.of("photo")])
    wordless = changed(wordless, "answer", elements=[["hm"] for _ in found.of("answer")])
    systems = {"pipeline": [run_of(found, gold)], "silent": [run_of(wordless, gold)]}
    num = len(gold.photos)
    table = table_of(systems, against="pipeline", absent={"gone": "no recipe"}, num_photos=num)
    for name, row in table.items():
        assert set(row) == {column.name for column in COLUMNS}
        for column, cell in row.items():
            assert (cell.value is None) == bool(cell.reason), (name, column)
    assert table["silent"]["photo.clip_i"].value is None
    assert "2,000" in table["pipeline"]["photo.fid"].reason
    page = to_markdown(table, title="t", against="pipeline", notes=["n"], passport={"a": "b"})
    assert page.splitlines()[2].startswith("For researchers")
    assert "Differences" not in page  # there are none, so there is no head for them
    perplexity = table["silent"]["text.word_perplexity"]
    tested = Difference(value=0.5, low=0.25, high=0.75, p=0.01, detectable=0.3, n=9)
    table["silent"]["text.word_perplexity"] = dataclasses.replace(perplexity, against=tested)
    page_with_one = to_markdown(table, title="t", against="pipeline", notes=["n"], passport={})
    assert "## Differences to pipeline" in page_with_one
    assert "| silent | 0.500 [0.250, 0.750], p 0.010, sees 0.300 |" in page_with_one
    assert "- gone: not run: no recipe" in page and "- silent: it shows no photo" in page
    plain = json.loads(to_json(table, notes=["n"], passport={"a": "b"}))
    assert plain["rows"]["silent"]["text.word_perplexity"]["against"] == vars(tested)
    assert plain["passport"] == {"a": "b"}
