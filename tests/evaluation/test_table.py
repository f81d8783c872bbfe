"""The comparison: one command over tiny models, interrupted and resumed; jobs; what is "-"."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from conftest import build_model, dialogues_with_photos
from photoworld.talk import world_dialogue
from showtell.dialogue import AGENT, USER, Photo
from showtell.errors import ConfigError, DataError, UsageError
from showtell.evaluation import outputs as said
from showtell.evaluation.scored import Gold, Instruments, photo_scores, run_scores
from showtell.evaluation.table import COLUMNS, Run, table_of
from showtell.evaluation.table_page import from_json, to_json, to_markdown
from showtell.evaluation.world import share_moments
from showtell.evaluation.world_photos import spoken_photos
from showtell.metrics.paired import Difference
from showtell.models.checkpoint import save_model
from showtell.models.respond import Responder
from showtell.runtime import device_label

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import jobs  # noqa: E402
import world_table  # noqa: E402

ROWS = ("GILL", "pipeline", "retrieval only", "text only")
ABSENT = world_table.Row(name="never written", recipe="world_never")


# ------------------------------------------------------------------------------------- the whole


def stop_once(monkeypatch, place: str) -> None:
    """Ctrl-C, the next time that the function at ``place`` is called."""
    module, _, name = place.rpartition(".")
    true = getattr(importlib.import_module(module), name)

    def stopped(*args, **kwargs):
        monkeypatch.setattr(place, true)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stopped)


def test_one_command_writes_the_table_though_it_was_stopped_twice(
    tmp_path, tokenizers, monkeypatch, capsys
):
    base = tmp_path / "base"
    recipe = {"name": "tiny", "config": {}}
    save_model(build_model(tokenizers, bridge="pipeline"), base, recipe=recipe)
    monkeypatch.setattr(world_table, "ROWS", (*world_table.ROWS, ABSENT))
    command = ["dry", "--base", str(base), "--runs", str(tmp_path / "runs"), "--workers", "0"]
    command += ["--out", str(tmp_path / "out")]
    for name in (*ROWS, ABSENT.name):
        command += ["--only", name]
    begun: list[tuple[str, ...]] = []
    call = world_table.call_here
    monkeypatch.setattr(
        world_table, "call_here", lambda arguments: begun.append(arguments) or call(arguments)
    )
    # within the first training, when its stage is done; then within an evaluation
    for place in (
        "showtell.recipes.world_dialogue.share_threshold",
        "showtell.evaluation.outputs.spoken_photos",
    ):
        stop_once(monkeypatch, place)
        with pytest.raises(KeyboardInterrupt):
            world_table.main(command)
        assert not (tmp_path / "out").exists()
    assert world_table.main(command) == 1  # one row could not be run

    jobs_begun = ["answer" if "answer" in a else a[3] for a in begun]
    assert jobs_begun.count("world_gill") == 2 and sum("--resume" in a for a in begun) == 1
    assert jobs_begun.count("world_pipeline") == 1 and jobs_begun.count("answer") == len(ROWS) + 1

    rows = json.loads((tmp_path / "out" / "world.json").read_text())["rows"]
    assert rows["GILL"]["retrieval.r1"]["value"]["value"] is not None
    for name in ("pipeline", "text only"):
        cell = rows[name]["retrieval.r1"]
        assert cell["value"] is None and "no query" in cell["reason"]
    assert rows["text only"]["photo.kid"] == {
        "value": None,
        "reason": "it shows no photo",
        "against": None,
        "runs": [],
    }
    assert rows["text only"]["moment.f1"]["against"]["n"] == 12
    assert all(cell["against"] is None for cell in rows["pipeline"].values())
    assert "world_never" in rows[ABSENT.name]["moment.f1"]["reason"]
    assert rows["the true photos, through the VAE"]["photo.clip_i"]["value"]["n"] == 8
    trained = {n: rows[n]["cost.trained"]["value"]["value"] for n in ROWS}
    assert 0 < trained["text only"] < rows["text only"]["cost.parameters"]["value"]["value"] + 1
    page = (tmp_path / "out" / "world.md").read_text()
    assert f"| device | {device_label()}, 1 job at a time |" in page
    assert "never written: not run" in page and "through the VAE" in page
    for name in ("world.png", "examples.png"):
        Image.open(tmp_path / "out" / name).verify()
    capsys.readouterr()


def test_an_unknown_row_gets_a_suggestion():
    with pytest.raises(UsageError, match='did you mean "pipeline"'):
        world_table.main(["dry", "--only", "pipelin"])


def test_every_row_has_its_own_name_and_the_one_that_all_are_held_against_is_there():
    names = [jobs.slug(row.name) for row in world_table.ROWS]
    assert len(set(names)) == len(names)
    assert world_table.PIPELINE in [row.name for row in world_table.ROWS]


def test_rows_from_two_devices_are_said_to_be(tmp_path):
    devices = {"pipeline": "CPU with bfloat16", "GILL": "CPU with bfloat16", "Divter": "GPU 3"}
    for name, device in devices.items():
        file = tmp_path / "jobs" / f"{jobs.slug(f'{name}, seed 7')}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"arguments": [], "device": device}))
    told = world_table.devices_of(tmp_path, ["pipeline", "GILL"], seed=7)
    assert told == "CPU with bfloat16"
    told = world_table.devices_of(tmp_path, devices, seed=7)
    assert told == "CPU with bfloat16: pipeline; GILL. GPU 3: Divter"


# ---------------------------------------------------------------------------------------- outputs


@pytest.fixture(scope="module")
def spoken(tokenizers, tmp_path_factory):
    """(dialogues, outputs) of a tiny model."""
    model = build_model(tokenizers, bridge="dvtm")
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    dialogues = dialogues_with_photos(3)
    found = said.outputs_of(model, dialogues, data="tiny", seed=0, most_replies=3, most_answers=2)
    return dialogues, found


def test_outputs_come_back_from_disk_as_they_were(spoken, tmp_path):
    _, found = spoken
    found.save(tmp_path)
    again = said.Outputs.load(tmp_path)
    for field in dataclasses.fields(found):
        one, other = getattr(found, field.name), getattr(again, field.name)
        same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        assert same, field.name
    (tmp_path / said.OUTPUTS).write_text("{")
    with pytest.raises(DataError, match="evaluate again"):
        said.Outputs.load(tmp_path)


def test_there_is_something_said_at_every_place(spoken):
    dialogues, found = spoken
    photos = [t for d in dialogues for t in d.turns if t.speaker == AGENT and t.photos]
    assert len(found.captions) == len(found.photos_N3HW) == len(photos)
    assert sum(found.shared_M) == len(photos)
    assert len(found.replies) == 3 and len(found.answers) == 2
    assert found.photos_N3HW.dtype == torch.uint8
    assert all(
        words > 0 and nll > 0 for words, nll in zip(found.words_B, found.word_nll_B, strict=True)
    )


def test_perplexity_of_words_counts_the_words_of_the_agents_text_turns(tokenizers, spoken):
    dialogues, found = spoken
    renderer = build_model(tokenizers, bridge="dvtm").renderer
    for dialogue, count in zip(dialogues, found.words_B, strict=True):
        said_by_agent = [t.text for t in dialogue.turns if t.speaker == AGENT and t.text]
        assert count == sum(len(renderer.words(text)) for text in said_by_agent)


def test_an_answer_is_asked_for_where_the_gold_one_holds_a_photo_if_there_is_one():
    dialogues = [world_dialogue(seed) for seed in range(40)]
    places = said.answer_places(dialogues, seed=0, most=40)
    for number, k in places:
        turns = dialogues[number].turns
        assert turns[k].speaker == AGENT and turns[k - 1].speaker == USER
        shares = any(t.photos for t in turns[1:] if t.speaker == AGENT)
        answer = said.gold_answer(dialogues[number], k)
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
    scenes = [p.labels["scene"] for d in dialogues for t in d.turns for p in t.photos]
    agents = [
        t.photos[0].labels["scene"]
        for d in dialogues
        for t in d.turns
        if t.speaker == AGENT and t.photos
    ]
    assert len(agents) < len(scenes)
    reader = Reader(agents)
    instruments = Instruments(oracle=reader, encoder=reader, clip=Clip())
    return Gold(dialogues, instruments, seed=0, most_replies=3)


def test_the_true_photos_score_best_and_the_gold_words_too(spoken, gold):
    _, found = spoken
    best = photo_scores(gold.photos_N3HW, gold)
    assert best["photo.clip_i"].value() == pytest.approx(1)
    assert best["photo.attribute_accuracy_in_dialogue"].value() == 1
    own = photo_scores(found.photos_N3HW.float() / 255, gold)
    assert own["photo.clip_i"].value() < 1 and own["photo.kid"].value() > best["photo.kid"].value()
    perfect = dataclasses.replace(
        found,
        replies=list(gold.texts),
        comments=[case.gold for case in gold.comments],
        p_share_M=[float(shared) for shared in found.shared_M],
    )
    scored = {name: one.value() for name, one in run_scores(perfect, gold).items()}
    for name in (
        *("text.psdg.bleu1", "text.psdg.bleu2", "text.psdg.rouge_l", "text.similarity"),
        *("moment.f1", "moment.auprc", "seeing.accuracy"),
    ):
        assert scored[name] == pytest.approx(1), name
    assert scored["text.meteor_exact_stem"] > 0.9


def test_a_captioner_sees_each_photo_once(tokenizers, monkeypatch):
    model, eyes = (build_model(tokenizers, bridge="pipeline") for _ in range(2))
    model.captioner, model.photo_encoder = eyes, None
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    dialogues, captions, asked = dialogues_with_photos(3), Responder.captions, []

    def counted(self, photos, images):
        asked.extend(photo.id for photo in photos)
        return captions(self, photos, images)

    monkeypatch.setattr(Responder, "captions", counted)
    found = said.outputs_of(model, dialogues, data="tiny", seed=0, most_answers=0)
    shown = [p.id for d in dialogues for p in d.photos if p.origin == "user"]
    assert shown and asked == shown
    # each reader, left to itself, finds the same
    assert share_moments(model, dialogues).p_share_M.tolist() == found.p_share_M
    alone = spoken_photos(model, dialogues, seed=0)
    assert [order.caption for order in alone.orders] == found.captions
    assert torch.equal(said.as_bytes(alone.pixels_N3HW), found.photos_N3HW)


def test_outputs_of_other_dialogues_are_refused(spoken, gold):
    _, found = spoken
    with pytest.raises(DataError, match="Evaluate the system again"):
        run_scores(dataclasses.replace(found, num_dialogues=7), gold)


def test_no_cell_is_empty_without_a_reason_and_none_is_a_zero_for_nothing(spoken, gold):
    _, found = spoken
    wordless = dataclasses.replace(
        found,
        photos_N3HW=None,
        answer_photos_N3HW=None,
        answers=[dataclasses.replace(a, elements=("hm",)) for a in found.answers],
    )
    systems = {
        "pipeline": [Run(outputs=found, costs={})],
        "silent": [Run(outputs=wordless, costs={})],
    }
    table = table_of(systems, gold, against="pipeline", absent={"gone": "no recipe"})
    for name, row in table.items():
        assert set(row) == {column.name for column in COLUMNS}
        for column, cell in row.items():
            assert (cell.value is None) == bool(cell.reason), (name, column)
    assert table["silent"]["photo.clip_i"].value is None
    assert "2,000" in table["pipeline"]["photo.fid"].reason
    page = to_markdown(table, title="t", against="pipeline", notes=["n"], passport={"a": "b"})
    assert "Differences" not in page  # there are none, so there is no head for them
    perplexity = table["silent"]["text.word_perplexity"]
    tested = Difference(value=0.5, low=0.25, high=0.75, p=0.01, detectable=0.3, n=9)
    table["silent"]["text.word_perplexity"] = dataclasses.replace(perplexity, against=tested)
    page_with_one = to_markdown(table, title="t", against="pipeline", notes=["n"], passport={})
    assert "## Differences to pipeline" in page_with_one
    assert "| silent | 0.500 [0.250, 0.750], p 0.010, sees 0.300 |" in page_with_one
    assert "- gone: not run: no recipe" in page and "- silent: it shows no photo" in page
    plain = to_json(table, notes=["n"], passport={"a": "b"})
    assert from_json(plain) == (table, {"a": "b"})


# ------------------------------------------------------------------------------------------- jobs


def job(folder: Path, name: str, code: str, *needs: str) -> jobs.Job:
    goal = folder / f"{name}.goal"
    text = f"import pathlib, sys, time; goal = pathlib.Path({str(goal)!r}); {code}"
    return jobs.Job(name=name, arguments=("-c", text), out=goal, goal=goal, needs=needs)


def test_jobs_run_once_after_what_they_need_and_a_failure_takes_only_its_own_with_it(tmp_path):
    console = Console(file=io.StringIO())
    todo = [
        job(
            tmp_path, "late", "assert goal.with_name('early.goal').exists(); goal.touch()", "early"
        ),
        job(tmp_path, "early", "print('step 3/4'); goal.touch()"),
        job(tmp_path, "bad", "sys.exit('showtell: error: the disk is full')"),
        job(tmp_path, "orphan", "goal.touch()", "bad"),
    ]
    runner = jobs.Runner(tmp_path, workers=2)
    runner.run(todo, console=console)
    assert set(runner.failed) == {"bad", "orphan"}
    assert runner.failed["orphan"] == "it failed: the disk is full"
    assert jobs.record_of(tmp_path, "early")["peak_memory_bytes"] > 1e6
    before = (tmp_path / "early.goal").stat().st_mtime_ns
    again = jobs.Runner(tmp_path, workers=2)
    again.run(todo, console=console)
    assert (tmp_path / "early.goal").stat().st_mtime_ns == before
    assert len(jobs.seconds_spent(tmp_path)) == 2


def test_what_was_begun_otherwise_is_not_gone_on_with(tmp_path):
    console = Console(file=io.StringIO())
    one = job(tmp_path, "one", "goal.mkdir()")
    jobs.Runner(tmp_path, workers=1).run([one], console=console)
    other = dataclasses.replace(one, arguments=("-c", "pass"), goal=tmp_path / "one.goal" / "never")
    with pytest.raises(ConfigError, match="begun with other settings"):
        jobs.Runner(tmp_path, workers=1).run([other], console=console)


def test_what_a_process_said_last_is_its_progress(tmp_path):
    log = tmp_path / "log"
    log.write_text("end_to_end 20/120 12/s t 1.0\nown photos 3/1,200\nhm\n")
    one = jobs.Running(job=None, process=None, log=log)
    assert one.progress() == ("own photos", 3, 1200)
    log.write_text("nothing yet\n")
    assert one.progress()[0] == ""


def test_a_stop_ends_the_processes_that_were_begun(tmp_path, monkeypatch):
    console = Console(file=io.StringIO())
    slow = job(tmp_path, "slow", "time.sleep(60); goal.touch()")
    began = time.monotonic()

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        jobs.Runner(tmp_path, workers=1).run([slow], console=console)
    assert time.monotonic() - began < 30 and not slow.done


def test_a_job_that_an_earlier_call_left_at_work_is_not_begun_twice(tmp_path):
    slow = job(tmp_path, "slow", "time.sleep(60)")
    left = jobs.Runner(tmp_path, workers=1)._start(slow)
    try:
        with pytest.raises(ConfigError, match="still at work"):
            jobs.Runner(tmp_path, workers=1).run([slow], console=Console(file=io.StringIO()))
    finally:
        left.process.kill()
        left.process.wait()


def test_a_row_whose_settings_no_recipe_knows_is_not_run_and_says_so():
    assert "did you mean" in world_table.impossible("world_mini", ["perceptrom=caption"])
    assert world_table.impossible("world_mini", ["photo_encoder=caption"]) == ""


def test_a_page_names_no_folder_of_a_machine():
    shown = world_table.without_folders("--base /home/me/runs/base/model --out docs/results")
    assert shown == "--base base/model --out docs/results"


@pytest.mark.parametrize("name", world_table.SIZES)
def test_every_row_of_every_size_has_a_recipe_that_knows_its_settings(name, tmp_path):
    todo, _ = world_table.jobs_of(
        world_table.SIZES[name], world_table.ROWS, runs=tmp_path, base=None
    )
    assert [job.name for job in todo if job.impossible] == []
    names = [job.name for job in todo]
    assert len(set(names)) == len(names) and {n for job in todo for n in job.needs} <= set(names)
