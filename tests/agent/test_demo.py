"""The demonstration: three conversations, printed and written, another seed another page."""

import pytest

from photoworld.talk import NEGATED, OPENINGS
from showtell.agent.demo import TITLES, main, run_demo
from showtell.agent.fakes import KeywordModel
from showtell.agent.terminal import Screen

PLAIN = Screen(columns=80, colour=False, truecolour=False, blocks=True)


def demo(out, seed):
    lines = []
    page = run_demo(KeywordModel(), seed=seed, out=out, screen=PLAIN, write=lines.append)
    return page, lines


def test_it_writes_a_page_and_photos_and_says_how_to_chat(tmp_path):
    page, lines = demo(tmp_path, 0)
    text = "\n".join(lines)
    assert page.read_text().count('<section class="card"') == 3
    assert page.read_text().count("<img ") == len(list(tmp_path.glob("*.png"))) >= 2
    assert str(page) in text and lines[-1].endswith("showtell chat")
    assert text.count("P(share)") >= 4


@pytest.mark.parametrize("seed", range(4))
def test_negating_the_request_takes_the_photo_away(tmp_path, seed):
    page, _ = demo(tmp_path, seed)
    first, second, third = page.read_text().split('<section class="card"')[1:]
    assert 'class="photo painted"' in first and 'class="photo user"' in second
    assert "<img" not in third


def test_another_seed_gives_another_page_and_the_same_seed_the_same(tmp_path):
    pages = [
        demo(tmp_path / name, seed)[0].read_text() for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert pages[0] == pages[1] != pages[2]


def test_every_title_names_the_subject_of_its_opening():
    assert len(TITLES) == len(OPENINGS) == len(NEGATED) >= 8
    for title, *lines in zip(TITLES, OPENINGS, NEGATED, strict=True):
        subjects = [word for word in title.lower().split() if len(word) > 2 and word != "the"]
        for line in lines:
            assert sum(word in line.lower() for word in subjects) >= 2, (title, line)


def test_the_command_fails_without_a_traceback(tmp_path, monkeypatch, capsys):
    import showtell.papers
    from showtell.errors import CheckpointError

    def missing(name):
        raise CheckpointError(f"{name} is not there; train it")

    monkeypatch.setattr(showtell.papers, "load_model", missing, raising=False)
    assert main(["--out", str(tmp_path / "demo")]) == 1
    assert "Traceback" not in capsys.readouterr().err and not (tmp_path / "demo").exists()
