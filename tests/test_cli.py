"""The contract of the command line, with a model without weights."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from PIL import Image

import showtell.papers
import showtell.recipes
from keyword_model import KeywordModel
from showtell.agent import home
from showtell.cli import main
from showtell.config import override
from showtell.data.storage import locked
from showtell.recipes.registry import Recipe


@pytest.fixture
def model(monkeypatch, tmp_path):
    model = KeywordModel()
    monkeypatch.setattr(showtell.papers, "load_model", lambda name: model)
    monkeypatch.setattr(home, "home_is_here", lambda *, say: False)
    monkeypatch.chdir(tmp_path)
    return model


def test_say_with_json_prints_one_object_a_line_with_ordered_parts(model, capsys, tmp_path):
    code = main(
        ["chat", "--say", "Hi!", "--say", "Send me a photo please", "--json", "--seed", "3"]
    )
    out = capsys.readouterr().out
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert [part["type"] for part in first["parts"]] == ["text"]
    assert [part["type"] for part in second["parts"]] == ["text", "photo"]
    photo = second["parts"][1]
    assert set(photo) == {"type", "id", "path", "origin", "caption", "seed"}
    assert photo["origin"] == "painted"
    with Image.open(tmp_path / photo["path"]) as image:
        assert image.size == (64, 64)
    assert 0 <= first["p_share"] < second["p_share"] <= 1
    assert first["seconds_to_photo"] is None
    assert first["seconds_to_first_word"] > 0 and second["seconds_to_photo"] > 0
    assert main(["chat", "--say", "Hi!"]) == 0  # the same, indented
    out = capsys.readouterr().out
    assert json.loads(out)["parts"] and len(out.splitlines()) > 3


def test_photos_go_with_the_first_line(model, capsys, tmp_path):
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (90, 70), colour).save(tmp_path / name)
    code = main(["chat", "--say", "Look", "--say", "Nice", "--photo", "a.png", "--photo", "b.png"])
    assert code == 0
    first, second = model.requests
    assert [turn.text for turn in first["turns"]] == ["Look", "", ""]
    assert [turn.photos[0].path for turn in first["turns"][1:]] == ["a.png", "b.png"]
    assert [image.size for image in first["images"].values()] == [(90, 70), (90, 70)]
    assert not second["turns"][-1].photos and len(second["images"]) == 2


def test_lines_are_read_from_a_pipe(model, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi!\n\nSend me a photo\n"))
    assert main(["chat", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


MISUSE = [
    ("", 2, "Usage: showtell"),
    ("chatt", 2, "Did you mean 'chat'"),
    ("data", 2, "Usage: showtell data"),
    ("chat --modell mini", 2, "--model"),
    ("chat --say=", 2, "empty"),
    ("chat --say=hi --seed=-1", 2, "--seed"),
    ("chat --say=hi --photo=none.png", 1, "none.png is not there"),
    ("chat --say=hi --photo=file", 1, "file is not a photo"),
    ("chat --say=hi --device=gpu", 2, "wanted cpu, cuda"),
    ("chat --say=hi --model=minni", 1, 'did you mean "mini"'),
    ("chat --say=hi --model=full", 1, "no showtell.json"),
    ("chat --say=hi --photos-dir=file/x", 1, "Not a directory"),
    ("chat --say=hi --dial=ofer", 2, 'did you mean "offer"'),
    ("chat --say=hi --budget=ten", 2, "wanted N/TURNS"),
    ("chat --say=hi --cost=3", 2, "wanted UNWANTED:MISSED"),
    ("demo --out=file/x", 1, "Not a directory"),
    ("recipes --jsno", 2, "--json"),
    ("recipes world_minni", 2, 'did you mean "world_mini"'),
    ("train", 2, "RECIPE"),
    ("train world_minni", 2, 'did you mean "world_mini"'),
    (
        "train world_mini --seed 99999999999999999999999999",
        2,
        "--seed is 99999999999999999999999999",
    ),
    ("train world_mini --set stage.batch_size=0", 2, "batch_size is 0; wanted 1 or more"),
    ("train world_mini --set no.such=1", 2, "no.such"),
    ("train world_mini --out full", 2, "--resume"),
    ("train world_mini --out file", 2, "is a file"),
    ("evaluate mini wrld:test", 2, 'did you mean "world"'),
    ("evaluate mini world:test --limit 0", 2, "--limit"),
    ("evaluate mini world:test --out file", 2, "is a file"),
    ("score none.jsonl none.jsonl", 1, "none.jsonl"),
    ("score file file --protocol psgd", 2, 'did you mean "psdg"'),
    ("score file file --out file/x", 1, "Not a directory"),
    ("album add full --into file --model mini", 2, "is a file"),
    ("album list none", 1, "none"),
    ("data show world:5-6 2", 2, "last has the index 1"),
    ("data pack world:5-6 --out=", 2, "--out is empty"),
    ("data pack world:9-3 --out new", 2, "first <= last"),
    ("data pack world:5-6 --out file/x", 1, "Not a directory"),
    ("data pack world:5-6 --out full", 1, "not empty"),
    ("data fetch photocat", 2, 'did you mean "photochat"'),
    ("judge export none.jsonl none.jsonl", 1, "none.jsonl"),
    ("judge export file file --out full", 2, "is a directory"),
    ("album list bad%1B[31m", 1, "bad\\u001b[31m"),
]


@pytest.mark.parametrize(("line", "code", "says"), MISUSE, ids=[line for line, _, _ in MISUSE])
def test_misuse_is_one_clear_line_and_no_traceback(tmp_path, monkeypatch, capsys, line, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("here")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("here")
    assert main([unquote(word) for word in line.split()]) == code
    out, err = capsys.readouterr()
    assert says in err and not out and "Traceback" not in err
    assert says.startswith("Usage:") or err.count("\n") == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", err)
    assert {p.name for p in tmp_path.rglob("*")} == {"file", "full", "kept"}  # nothing is left


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("evaluate mini world:test --limit 1 --out out", "out"),
        ("score file file --out out", "out"),
        ("judge score file --key file --out out", "out"),
        ("data pack world:5-6 --out out", ".out.part"),
        ("demo --out out", "out"),
    ],
)
def test_a_place_where_another_process_is_at_work_is_refused(
    model, tmp_path, capsys, line, place, monkeypatch
):
    (tmp_path / "file").write_text("{}")
    with locked(tmp_path / place):
        assert main(line.split()) == 1
    assert "another process is at work" in capsys.readouterr().err and not model.requests


def test_a_control_c_is_code_130_and_one_word(model, capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(showtell.papers, "load_model", interrupted)
    assert main(["chat", "--say", "Hi!"]) == 130
    assert capsys.readouterr().err.strip() == "showtell: stopped"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_an_error_of_the_disk_is_code_1_with_a_remedy(model, capfd, monkeypatch, number):
    def full(*args, **kwargs):
        raise OSError(number, os.strerror(number), "model.safetensors")

    monkeypatch.setattr(showtell.recipes, "run_recipe", full, raising=False)
    assert main(["train", "world_mini"]) == 1
    err = capfd.readouterr().err
    assert "model.safetensors" in err and "Traceback" not in err


def test_a_full_stdout_is_code_1_and_no_traceback():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "showtell", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "disk is full" in done.stderr and "Traceback" not in done.stderr


def test_train_passes_everything_on_and_says_what_was_written(model, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(
        showtell.recipes, "run_recipe", lambda name, **more: calls.append((name, more)) or "run"
    )
    assert main(["train", "toy", "--set", "a.b=1", "--set", "c=x=y", "--out", "o", "--resume"]) == 0
    assert capsys.readouterr().out == "Wrote run\n"
    (name, given), *_ = calls
    assert (name, given["overrides"], given["resume"]) == ("toy", ["a.b=1", "c=x=y"], True)
    assert str(given["out"]) == "o"


def test_recipes_are_listed(model, capsys, monkeypatch):
    monkeypatch.setattr(showtell.recipes, "RECIPES", {"toy": Recipe("toy", "toys", "a toy")})
    assert main(["recipes"]) == 0
    assert "a toy" in capsys.readouterr().out
    assert main(["recipes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"toy": {"summary": "a toy"}}


@pytest.mark.parametrize("name", sorted(showtell.recipes.RECIPES))
def test_a_recipe_explains_every_key_and_prints_it_as_set_takes_it(name, capsys):
    assert main(["recipes", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    if len(lines) % 2:  # of stages
        assert "by the name stage" in lines.pop()
    settings, meanings = lines[::2], lines[1::2]
    assert len(settings) > 3 and all(meaning.strip() for meaning in meanings)
    config = showtell.recipes.config_of(name)
    for setting in settings:
        assert override(config, [setting]) == config, setting


def test_evaluate_prints_the_report_names_the_folder_and_hands_on_encoders(
    model, capsys, monkeypatch
):
    calls = []

    def evaluate(checkpoint, data, **arguments):
        calls.append(arguments)
        return SimpleNamespace(to_json=lambda: '{"metrics": {}}\n', to_markdown=lambda: "# report")

    monkeypatch.setattr("showtell.evaluation.evaluate", evaluate)
    few = ["--limit", "2", "--clip", "c", "--lpips", "l"]
    assert main(["evaluate", "runs/a b", "world:5-6", "--json", *few]) == 0
    assert json.loads(capsys.readouterr().out) == {"metrics": {}}
    assert main(["evaluate", "mini", "world:test"]) == 0
    assert capsys.readouterr().out == "# report\nWrote out/mini-world-test\n"
    assert calls[0]["limit"] == 2 and str(calls[0]["out"]) == "out/runs-a-b-world-5-6"
    given = vars(calls[0]["encoders"]).copy()
    assert given.pop("clip") == "c" and str(given.pop("lpips")) == "l"
    assert len(given) == 5 and set(given.values()) == {None}


@pytest.mark.parametrize("verbs", [[], ["album"], ["data"], ["judge"]])
def test_each_verb_is_told_in_one_line_that_is_whole(verbs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*verbs, "--help"]) == 0
    told = capsys.readouterr().out.partition("Commands:")[2]
    assert told and "..." not in told


# ------------------------------------------------------------------------------- as a process


@pytest.mark.parametrize(
    "arguments", [["--help"], ["recipes"], ["data", "doctor", "--help"], ["data", "stats", "x:y"]]
)
def test_what_needs_no_model_is_quick_and_loads_no_torch(arguments):
    code = (
        "import sys; from showtell.cli import main; main(sys.argv[1:]); "
        "print(sorted({'torch', 'transformers', 'diffusers'} & set(sys.modules)))"
    )
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    after = os.times()
    spent = after.children_user + after.children_system
    assert done.stdout.splitlines()[-1] == "[]"
    assert spent - before.children_user - before.children_system < 1.0


def test_a_reader_that_has_seen_enough_is_no_failure():
    with subprocess.Popen(
        [sys.executable, "-m", "showtell", "recipes"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert process.wait() == 0 and process.stderr.read() == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(closed):
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m showtell recipes {closed}'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr


INTERRUPTED = """
import os, signal, sys
class Hook:
    def find_spec(self, name, *rest):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Hook())
from showtell.__main__ import run
sys.exit(run())
"""


@pytest.mark.parametrize(
    "module",
    ["showtell.cli", "typer", "showtell.errors", "showtell.agent.chat", "torch", "torch.nn"],
)
def test_ctrl_c_while_modules_are_imported_is_code_130_and_no_traceback(module, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "chat", "--json"],
        input="",
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=60,
    )
    assert done.returncode == 130 and done.stderr in ("", "showtell: stopped\n")
