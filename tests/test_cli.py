"""The contract of the command line, with a model without weights."""

import errno
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

import showtell.recipes
from showtell.agent.fakes import KeywordModel
from showtell.cli import main
from showtell.errors import ConfigError


@pytest.fixture
def model(monkeypatch, tmp_path):
    model = KeywordModel()
    monkeypatch.setattr(showtell.recipes, "load_model", lambda name: model, raising=False)
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


def test_say_without_json_is_the_same_but_indented(model, capsys):
    assert main(["chat", "--say", "Hi!"]) == 0
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
    assert [image.size for image in first["images"].values()] == [(64, 64), (64, 64)]
    assert not second["turns"][-1].photos and len(second["images"]) == 2


def test_lines_are_read_from_a_pipe(model, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi!\n\nSend me a photo\n"))
    assert main(["chat", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chat", "--say", ""], "empty"),
        (["chat", "--say", "  \n"], "empty"),
        (["chat", "--say", "x" * 50_000], "50,000 characters"),
        (["chat", "--say", "a\x07b"], "U+0007"),
        (["chatt"], "Did you mean 'chat'"),
        (["chat", "--modell", "mini"], "--model"),
        (["train", "world_mini", "--set", "steps"], "KEY=VALUE"),
        (["data", "stats", "wrld:test"], 'did you mean "world"'),
        (["data", "stats", "world:tset"], 'did you mean "test"'),
        (["data", "world", "--seeds", "9-3", "--out", "x"], "first <= last"),
        (["evaluate", "mini"], "DATA"),
    ],
)
def test_misuse_is_code_2_with_a_remedy_and_no_traceback(model, capsys, arguments, says):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err and "Traceback" not in captured.err
    assert not captured.out and not model.requests


def make_photo(kind, path):
    if kind == "no image":
        path.write_text("hello")
    elif kind == "0 bytes":
        path.write_bytes(b"")
    elif kind == "60,000 px wide":
        Image.new("1", (60_000, 2)).save(path)
    elif kind == "an animation":
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])
    elif kind == "truncated":
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize(
    "kind", ["missing", "no image", "0 bytes", "60,000 px wide", "an animation", "truncated"]
)
def test_a_bad_photo_is_code_1_and_no_traceback(model, capsys, tmp_path, kind):
    path = tmp_path / "photo.png"
    make_photo(kind, path)
    assert main(["chat", "--json", "--say", "Look", "--photo", str(path)]) == 1
    captured = capsys.readouterr()
    assert "photo.png" in captured.err and not captured.out and not model.requests


def test_a_control_c_is_code_130_and_one_word(model, capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(showtell.recipes, "load_model", interrupted)
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
            [sys.executable, "-m", "showtell.cli", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "disk is full" in done.stderr and "Traceback" not in done.stderr


def test_train_passes_everything_on_and_says_what_was_written(model, capsys, monkeypatch, tmp_path):
    calls = []

    def run_recipe(name, **arguments):
        calls.append((name, arguments))
        return tmp_path / "run"

    monkeypatch.setattr(showtell.recipes, "run_recipe", run_recipe, raising=False)
    assert main(["train", "toy", "--set", "a.b=1", "--set", "c=x=y", "--out", "o", "--resume"]) == 0
    assert capsys.readouterr().out == f"Wrote {tmp_path / 'run'}\n"
    (name, arguments), *_ = calls
    assert name == "toy" and arguments["overrides"] == ["a.b=1", "c=x=y"]
    assert str(arguments["out"]) == "o" and arguments["resume"] is True

    def unknown(name, **arguments):
        raise ConfigError('unknown recipe "toy"; did you mean "toys"?')

    monkeypatch.setattr(showtell.recipes, "run_recipe", unknown)
    assert main(["train", "toy"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_recipes_are_listed(model, capsys, monkeypatch):
    recipe = SimpleNamespace(name="toy", summary="a toy", hours="0.1")
    monkeypatch.setattr(showtell.recipes, "RECIPES", {"toy": recipe}, raising=False)
    assert main(["recipes"]) == 0
    assert "a toy" in capsys.readouterr().out
    assert main(["recipes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"toy": {"summary": "a toy", "hours": "0.1"}}


def test_evaluate_prints_the_report_and_names_the_folder(model, capsys, monkeypatch):
    calls = []

    def evaluate(checkpoint, data, **arguments):
        calls.append((checkpoint, data, arguments))
        return SimpleNamespace(to_json=lambda: '{"metrics": {}}\n', to_markdown=lambda: "# report")

    fake = SimpleNamespace(evaluate=evaluate, Encoders=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "showtell.evaluation", fake)
    assert main(["evaluate", "runs/a b", "world:5-6", "--json", "--limit", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"metrics": {}}
    assert main(["evaluate", "mini", "world:test"]) == 0
    assert capsys.readouterr().out == "# report\nWrote out/mini-world-test\n"
    assert calls[0][2]["limit"] == 2 and str(calls[0][2]["out"]) == "out/runs-a-b-world-5-6"
    assert main(["evaluate", "mini", "world:test", "--limit", "0"]) == 2


def test_help_takes_less_than_a_second_of_the_processor():
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "showtell.cli", "--help"], check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 1.0


def test_it_is_also_a_module_as_torchrun_wants_it():
    done = subprocess.run(
        [sys.executable, "-m", "showtell", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("showtell ")
