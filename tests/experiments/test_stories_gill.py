"""The small experiments of MiniGPT-5 and GILL: each script from training to its table, on next to
nothing; stopped and run again it trains and paints nothing anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gill_checks
import gill_context
import long_worlds
import minigpt5_stories
import minigpt5_table1
import minigpt5_table4
import minigpt5_table5
import minigpt5_table6
import minigpt5_tables23
import pytest
import runner
import torch

from conftest import build_model
from photoworld.long import long_dialogue
from photoworld.scenes import TEST_SEEDS
from photoworld.stories import STEPS, determined_only_by, world_story
from photoworld.talk import world_dialogue
from showtell.dialogue import AGENT
from showtell.errors import DataError, UsageError
from showtell.evaluation.compare import Cell
from showtell.evaluation.score_runs import photo_scores
from showtell.evaluation.table_page import to_json
from showtell.evaluation.world_gold import Gold, Readers
from showtell.metrics.blind_page import export_page
from showtell.metrics.intervals import Value
from showtell.models.checkpoint import save_model
from showtell.models.parts import painter_sizes
from showtell.papers.forms import readable
from showtell.papers.minigpt5 import SYSTEM

STORIES = [world_story(seed) for seed in TEST_SEEDS[:12]]


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory) -> Path:
    """A tiny world_base."""
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={})
    return folder


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Intervals of fewer draws."""
    monkeypatch.setattr("showtell.metrics.intervals.RESAMPLES", 20)


def run(script, base: Path, runs: Path, *only: str) -> None:
    rows = [word for name in only for word in ("--only", name)]
    assert script.main(["--tiny", "--base", str(base), "--runs", str(runs), *rows]) == 0


def rows_in(runs: Path, name: str) -> dict:
    return json.loads((runs / f"{name}.json").read_text())["rows"]


def refuse(*args, **kwargs):
    raise AssertionError("this was done already")


# ------------------------------------------------------------------------------------ whole runs


def test_table_1_compares_contexts_and_goes_on_where_it_stopped(base, tmp_path, monkeypatch):
    only = (runner.ZERO_SHOT, "vokens, LoRA")
    published = Path("docs/results", f"{minigpt5_table1.NAME}.json")
    before = published.stat().st_mtime_ns if published.exists() else None
    run(minigpt5_table1, base, tmp_path, *only)
    found = rows_in(tmp_path, minigpt5_table1.NAME)
    assert list(found) == [
        "painter, zero-shot; no context",
        "painter, zero-shot; text",
        *(f"vokens, LoRA; {head}" for head in minigpt5_table1.CONTEXTS.values()),
    ]
    for cells in found.values():
        assert cells["photo.kid"]["value"]["n"] == 12
        assert cells["story.only_photos"]["value"]["low"] is not None
        assert cells["photo.clip_i"]["reason"] == "no CLIP was named (--clip)"
        assert cells["photo.fid"]["reason"] == "12 photos; wanted 2,000 or more"
    monkeypatch.setattr(runner, "run_recipe", refuse)
    monkeypatch.setattr(runner, "load_model", refuse)
    run(minigpt5_table1, base, tmp_path, *only)
    assert rows_in(tmp_path, minigpt5_table1.NAME) == found
    assert (published.stat().st_mtime_ns if published.exists() else None) == before


def test_rows_go_on_from_the_alignment_of_table_6(base, tmp_path):
    run(minigpt5_table6, base, tmp_path / "six", minigpt5_table6.VOKENS)
    aligned = tmp_path / "six" / "vokens-seed-{seed}" / "model"
    told = ["--tiny", "--base", str(base), "--runs", str(tmp_path / "one")]
    only = ["--only", "vokens, LoRA", "--only", "vokens, without UAS"]
    assert minigpt5_table1.main([*told, *only, "--aligned", str(aligned)]) == 0
    later, alone = (tmp_path / "one" / f"vokens-{name}-seed-0" for name in ("lora", "without-uas"))
    start = f"base={str(aligned).format(seed=0)}"
    assert start in (later / "row.json").read_text()
    assert start not in (alone / "row.json").read_text()
    for folder in (later, alone):
        assert not (folder / "alignment").exists()
        assert (folder / "learning").is_dir()


def test_tables_2_and_3_measure_every_photo_and_every_text_but_the_first(base, tmp_path):
    only = ("vokens, LoRA", "LLM, fine-tuned")
    run(minigpt5_tables23, base, tmp_path, *only)
    (photos,) = rows_in(tmp_path, minigpt5_tables23.TABLE2).values()
    assert photos["photo.kid"]["value"]["n"] == 12 * STEPS
    texts = rows_in(tmp_path, minigpt5_tables23.TABLE3)
    assert set(texts) == set(only)
    for cells in texts.values():
        assert cells["text.psdg.rouge_l"]["value"]["n"] == 12 * (STEPS - 1)


def test_table_4_has_two_stages_beside_vokens_and_a_page_for_people(base, tmp_path, capsys):
    rows = (minigpt5_table4.TWO_STAGES, minigpt5_table4.VOKENS)
    only = [word for name in rows for word in ("--only", name)]
    told = ["--tiny", "--base", str(base), "--runs", str(tmp_path), "--people", "5", *only]
    assert minigpt5_table4.main(told) == 0
    found = rows_in(tmp_path, minigpt5_table4.NAME)
    assert list(found) == [
        minigpt5_table4.TWO_STAGES,
        minigpt5_table4.VOKENS,
        minigpt5_table4.GOLD,
    ]
    assert found[minigpt5_table4.VOKENS]["photo.kid"]["value"]["n"] == 12 * (STEPS - 1)
    assert found[minigpt5_table4.GOLD]["coherence.shown"]["value"]["value"] > 0.5
    assert found[minigpt5_table4.GOLD]["photo.kid"]["reason"] == "it shows no photo"
    assert found[minigpt5_table4.GOLD]["coherence.clip"]["reason"] == "no CLIP was named (--clip)"
    *_, a, b, _, context, _, _ = capsys.readouterr().out.splitlines()[-1].split()
    page = export_page(Path(a), Path(b), tmp_path / "judge.html", context=context, seed=0)
    assert page.page.stat().st_size > 10_000
    said = [json.loads(line) for line in Path(a).read_text().splitlines()]
    assert [len(record["elements"]) for record in said] == [2] * 5
    read = Path(context.removeprefix("showtell:")).read_text()
    assert SYSTEM not in read  # that is for the LLM alone


def test_two_stages_paint_the_own_text_after_the_gold_ones_before_it(monkeypatch):
    read = []
    monkeypatch.setattr(runner, "painted_texts", lambda model, texts: read.extend(texts))

    class Bench:
        def trained(self, row, seed):
            return row.name

        def opener(self, run):
            return lambda: run

    (two_stages, *_) = minigpt5_table4.SYSTEMS
    run, _, paint = minigpt5_table4.makers(Bench(), two_stages, 0, STORIES[:2])
    own = [f"own {number}" for number in range(2 * (STEPS - 1))]
    paint(own)
    gold = [turn.text for turn in STORIES[1].turns]
    assert run == minigpt5_stories.LLM.name
    assert read[STEPS] == ". ".join(["own 5", gold[1], gold[0]])
    assert len(read) == len(own)


def test_gills_checks_have_k_visual_tokens_and_a_language_model_of_their_own(base, tmp_path):
    other = tmp_path / "other" / "model"
    other.parent.mkdir()
    shutil.copytree(base, other)
    runs = ["--tiny", "--base", str(base), "--runs", str(tmp_path / "runs")]
    rows = ["language model: other", gill_checks.ON_DIALOGUES, "k = 1, a linear map"]
    only = [word for name in (gill_checks.GILL, *rows) for word in ("--only", name)]
    assert gill_checks.main([*runs, *only, "--language", f"other={other}"]) == 0
    checks = rows_in(tmp_path / "runs", gill_checks.NAME)
    assert list(checks) == [gill_checks.GILL, rows[0]]
    same = checks[gill_checks.GILL]["retrieval.mrr"]
    assert same["value"]["n"] == 12  # the photo of each of --tiny's captions
    other_mrr = checks[rows[0]]["retrieval.mrr"]
    assert other_mrr == same | {"against": other_mrr["against"]}  # a copy of the base
    tokens = rows_in(tmp_path / "runs", gill_checks.TOKENS)
    assert list(tokens) == [*rows[1:], gill_checks.DUAL, gill_checks.DUAL_GOLD]
    assert tokens[rows[2]]["retrieval.r1"]["value"]["n"] > 0
    assert tokens[gill_checks.DUAL]["retrieval.r1"]["reason"] == "not run: no --clip was named"
    settings = json.loads((tmp_path / "runs" / "k-1-a-linear-map-seed-0" / "row.json").read_text())[
        "settings"
    ]["settings"]
    assert "photo_tokens=1" in settings and "photo_encoder=linear" in settings
    with pytest.raises(UsageError, match="wanted NAME=BASE"):
        gill_checks.main([*runs, "--language", str(other)])


def test_a_dual_encoder_looks_for_the_photo_that_the_words_are_about():
    dialogues = [world_dialogue(seed) for seed in TEST_SEEDS[:12]]
    words = gill_checks.words_before_photos(dialogues)
    gold = Gold(dialogues, Readers())
    assert len(words) == len(gold.places) > 0
    first = dialogues[gold.places[0][0]].turns
    k = next(k for k, turn in enumerate(first) if turn.speaker == AGENT and turn.photos)
    assert words[0].startswith(first[k - 1].text) and first[0].text in words[0]

    class Numbered:  # the n-th text is nearest to the n-th photo, but for the last two
        def photos(self, photos):
            return torch.eye(len(photos))

        def texts(self, texts):
            count = len(texts)
            return torch.eye(count)[[*range(count - 2), count - 1, count - 2]]

    found = gill_checks.retrieval_scores(Numbered(), words, gold)
    assert found["retrieval.r1"].value() == pytest.approx(1 - 2 / len(words))


def test_table_5_has_its_rows_from_the_comparison(tmp_path):
    clip_i = Value(value=0.5, low=0.4, high=0.6, n=9, unit="")
    blank = Cell(value=None, reason="nothing to measure")
    cells = dict.fromkeys((column.name for column in minigpt5_table5.COLUMNS), blank)
    told = cells | {"photo.clip_i": Cell(value=clip_i, runs=(0.5,))}
    page = to_json({"GILL": cells, "Divter": told}, notes=(), passport={"base": "mini"})
    comparison, out = tmp_path / "world.json", ["--out", str(tmp_path)]
    comparison.write_text(page)
    assert minigpt5_table5.main(["--comparison", str(comparison), *out]) == 0
    found = rows_in(tmp_path, minigpt5_table5.NAME)
    assert list(found) == ["Divter"]
    assert found["Divter"]["photo.clip_i"]["value"]["value"] == 0.5
    assert found["Divter"]["photo.kid"]["reason"] == "nothing to measure"
    passport = json.loads((tmp_path / f"{minigpt5_table5.NAME}.json").read_text())["passport"]
    assert passport["the comparison's base"] == "mini"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "there is no comparison at .*world_table.sh quick"),
        ("{}", "not a table .*world_table.sh quick"),
        ('{"rows": {"GILL": {}}, "passport": {}}', "none of the rows vokens, LoRA"),
    ],
)
def test_table_5_says_what_is_wrong_with_a_comparison(page, message, tmp_path):
    comparison = tmp_path / "world.json"
    if page is not None:
        comparison.write_text(page)
    with pytest.raises((UsageError, DataError), match=message):
        minigpt5_table5.main(["--comparison", str(comparison), "--out", str(tmp_path)])


def test_table_6_has_gill_a_row_and_guidance_a_table(base, tmp_path, monkeypatch):
    scales = {name: s for name, s in minigpt5_table6.SCALES.items() if s in (1.0, 5.0)}
    monkeypatch.setattr(minigpt5_table6, "SCALES", scales)
    run(minigpt5_table6, base, tmp_path, "GILL", minigpt5_table6.VOKENS)
    assert list(rows_in(tmp_path, minigpt5_table6.NAME)) == ["GILL", minigpt5_table6.VOKENS]
    scaled = rows_in(tmp_path, minigpt5_table6.GUIDANCE)
    assert len(scaled) == len(minigpt5_table6.SCALES)
    values = [cells["photo.kid"]["value"]["value"] for cells in scaled.values()]
    assert len(set(values)) > 1  # the scale is heard


def test_gill_reads_more_captions_photos_and_rounds(base, tmp_path):
    run(gill_context, base, tmp_path, gill_context.GILL)
    assert len(rows_in(tmp_path, gill_context.STORIES)) == 2 * STEPS - 1
    talks = rows_in(tmp_path, gill_context.TALKS)
    assert list(talks) == ["GILL; 1 rounds", "GILL; 10 rounds"]


def test_long_worlds_are_measured_by_distance(base, tmp_path):
    run(long_worlds, base, tmp_path, long_worlds.SHORT)
    (cells,) = rows_in(tmp_path, long_worlds.NAME).values()
    asked = long_worlds.asked_in([long_dialogue(seed) for seed in TEST_SEEDS[:12]])
    counts = {
        kind: sum(
            cells[f"long.{kind}.{head}"]["value"]["n"]
            for head in long_worlds.DISTANCES
            if cells[f"long.{kind}.{head}"]["value"]
        )
        for kind in ("words", "photo", "forgotten")
    }
    assert counts["forgotten"] == len(asked) == counts["words"] + counts["photo"]


# ------------------------------------------------------------------------------- what is measured


def test_a_painter_reads_all_of_a_short_text_and_of_a_long_one_the_words_it_knows(tokenizers):
    tower = build_model(tokenizers, bridge="pipeline").painter.text
    _, room = painter_sizes(tower)
    assert readable("a red dog, at night", tower) == "a red dog, at night"
    known = "red dog at night"
    text = f"Xylophones quarrelled {known} " + "zyzzyva " * room
    assert readable(text, tower) == known
    shown = tower.tokenize([readable(text, tower)]).ids_NS
    assert torch.equal(shown, tower.tokenize([known]).ids_NS)


def test_true_photos_score_full_marks_on_what_each_source_settles():
    gold = Gold(minigpt5_stories.tasks_of(STORIES, "task_end:both"), Readers())
    counted = {
        f"story.only_{s}": [determined_only_by(story.photos[-1], s) for story in STORIES]
        for s in minigpt5_table1.SOURCES
    }
    true = photo_scores(gold.pixels_N3HW, gold, counted)
    others = photo_scores(gold.pixels_N3HW.roll(1, 0), gold, counted)
    for name in counted:
        assert true[name].value() > 0.95 > 0.8 > others[name].value()


def test_a_fact_is_right_by_its_value_alone_in_words_and_in_the_photo():
    def asked(distance: int, *, photo: bool):
        what = {"attribute": "colour", "value": "red", "told": 0, "distance": distance}
        return (0, distance + 1, what, photo)

    said = ["it's red", "red, or was it blue?", "no idea"]
    read = [{"colour": "red"}, {"colour": "pink"}]
    facts = [asked(4, photo=False), asked(4, photo=True), asked(12, photo=False)]
    facts += [asked(12, photo=True), asked(44, photo=False)]
    lost = [False, False, False, False, True]
    found = long_worlds.scored(said, read, lost, facts).scores
    value = {name: one.value() for name, one in found.items()}
    assert value["long.words.2 to 9"] == 1 and value["long.photo.2 to 9"] == 1
    assert value["long.words.10 to 19"] == 0 and value["long.photo.10 to 19"] == 0
    assert value["long.words.40 on"] == 0 and value["long.forgotten.40 on"] == 1
    assert "long.photo.40 on" not in value


def test_the_points_of_gills_curves_differ_in_what_is_read_only():
    class Bench:
        def data(self, kind):
            return STORIES

    contexts = gill_context.story_contexts(Bench())
    made = {name: [task.turns[-1] for task in tasks] for name, tasks in contexts.items()}
    assert all(turns == made["1 captions"] for turns in made.values())
    read = {name: tasks[0].turns[0] for name, tasks in contexts.items()}
    for count in range(2, STEPS + 1):
        text, both = (read[f"{count} captions{more}"] for more in ("", f" {gill_context.PHOTOS}"))
        assert len(text.elements) == count and not text.photos
        assert len(both.photos) == count - 1 and both.text == text.text


def test_photos_are_painted_once_and_kept_to_the_byte(tmp_path):
    options = runner.parser(None, runs="x").parse_args(["--runs", str(tmp_path)])
    bench, path = runner.Bench(options), tmp_path / "a.safetensors"
    first = bench.kept_photos(path, lambda: torch.rand(2, 3, 4, 4), 2)
    assert torch.equal(first, bench.kept_photos(path, refuse, 2))
