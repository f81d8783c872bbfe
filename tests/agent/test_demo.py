"""The demonstration: three conversations, printed and written, another seed another page."""

import io

import pytest

from keyword_model import KeywordModel
from showtell.agent.demo import mini_talks, run_demo
from showtell.agent.terminal import console_of


def demo(out, seed):
    console = console_of(io.StringIO())
    page = run_demo([(KeywordModel(), mini_talks(seed))], seed=seed, out=out, console=console)
    return page, console.file.getvalue()


def test_it_writes_a_page_and_photos_and_says_how_to_chat(tmp_path):
    page, text = demo(tmp_path, 0)
    assert page.read_text().count('<section class="card"') == 3
    assert page.read_text().count("<img ") == len(list(tmp_path.glob("*.png"))) >= 2
    assert str(page) in text and text.rstrip().endswith("showtell chat")
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
