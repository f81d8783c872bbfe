"""What a terminal shows: photos where they can be drawn, words elsewhere, never too wide."""

import io
import re

import pytest
from PIL import Image

from showtell.agent.chat import TerminalChat
from showtell.agent.fakes import KeywordModel
from showtell.agent.terminal import (
    Screen,
    half_blocks,
    photo_lines,
    screen_of,
    share_bar,
    text_lines,
)
from showtell.dialogue import AGENT, Photo

FULL = Screen(columns=100, colour=True, truecolour=True, blocks=True)
PLAIN = Screen(columns=80, colour=False, truecolour=False, blocks=True)
GOOD = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "100"}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class AsciiTerminal(Terminal):
    encoding = "ascii"


def visible(line):
    return re.sub(r"\x1b\[[0-9;]*[mK]", "", line)


def test_a_good_terminal_draws_photos():
    assert screen_of(Terminal(), GOOD).draws_photos


@pytest.mark.parametrize(
    ("stream", "changes"),
    [
        (io.StringIO(), {}),
        (Terminal(), {"NO_COLOR": "1"}),
        (Terminal(), {"COLORTERM": ""}),
        (Terminal(), {"TERM": "dumb"}),
        (Terminal(), {"COLUMNS": "50"}),
        (AsciiTerminal(), {}),
    ],
)
def test_others_describe_them(stream, changes):
    screen = screen_of(stream, {**GOOD, **changes})
    lines = photo_lines(
        Photo(id="p", caption="a red dog"), Image.new("RGB", (64, 64)), screen, where="p.png"
    )
    assert not screen.draws_photos
    assert "[photo: a red dog] -> p.png" in visible(" ".join(lines))


def test_half_blocks_carry_two_rows_of_pixels_each():
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    image.paste((9, 8, 7), (0, 1, 4, 2))
    lines = half_blocks(image, columns=4)
    assert [visible(line) for line in lines] == ["▀▀▀▀", "▀▀▀▀"]
    assert "38;2;1;2;3m\x1b[48;2;9;8;7m" in lines[0]
    assert all(line.endswith("\x1b[0m") for line in lines)


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
@pytest.mark.parametrize("colour", [True, False])
def test_no_line_is_wider_than_the_window_or_80_columns(columns, colour):
    screen = Screen(columns=columns, colour=colour, truecolour=colour, blocks=True)
    text = "word " * 60 + "x" * 100
    photo = Photo(id="p", caption="a caption " * 12)
    lines = text_lines(AGENT, text, screen, p_share=0.5)
    lines += photo_lines(photo, Image.new("RGB", (64, 64)), screen, indent=10)
    assert max(len(visible(line)) for line in lines) <= min(80, columns)
    assert visible(" ".join(lines)).count("word") == 60


def test_the_bar_grows_with_p_share():
    filled = [share_bar(p, PLAIN).count("█") for p in (0.0, 0.3, 0.7, 1.0)]
    assert filled == [0, 3, 7, 10]
    assert share_bar(
        0.5, Screen(columns=80, colour=False, truecolour=False, blocks=False)
    ).isascii()


def chat(tmp_path, lines, screen=PLAIN, model=None):
    out = io.StringIO()
    model = model or KeywordModel()
    conversation = TerminalChat(
        model, seed=0, photos_dir=tmp_path / "photos", out=out, screen=screen
    )
    conversation.greet()
    conversation.run(lines)
    return model, out.getvalue()


def test_it_opens_with_three_openings_and_help(tmp_path):
    model, out = chat(tmp_path, [])
    assert out.count("\n  - ") == 3 and "/help" in out and model.card["limits"] in out


def test_a_conversation_streams_words_and_shows_photos(tmp_path):
    _, out = chat(tmp_path, ["Send me a photo please\n"], screen=FULL)
    assert out.count("Sure, here you go!") == 1
    assert "▀" in out and "a <red> square" in out and "P(share) at each turn: 0.20, 0.90" in out
    assert len(list((tmp_path / "photos").glob("*.png"))) == 1


def test_commands_work_and_errors_do_not_end_the_conversation(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "my dog.png")
    page = tmp_path / "page.html"
    lines = [
        "/help",
        "/nonsense",
        "/photo /nowhere.png",
        "bell\a",
        f"/photo '{tmp_path}/my dog.png' Look at this",
        f"/page {page}",
        f"/page {page}",
        "/seed x",
        "/seed 4",
        "Hi!",
        "/quit",
        "Never said",
    ]
    model, out = chat(tmp_path, lines)
    assert out.count("error: ") == 5
    assert [request["turns"][0].text for request in model.requests] == ["Look at this", "Hi!"]
    assert len(model.requests[0]["images"]) == 1 and len(model.requests[1]["turns"]) == 1
    assert page.read_text().count("data:image/png") == 1


def test_control_c_cancels_an_answer_and_not_the_conversation(tmp_path):
    class Slow(KeywordModel):
        def respond(self, turns, **arguments):
            if turns[-1].text == "wait":
                raise KeyboardInterrupt
            return super().respond(turns, **arguments)

    model, out = chat(tmp_path, ["wait", "Hi!"], model=Slow(name="slow"))
    assert "(cancelled)" in out and len(model.requests) == 1
    assert [turn.text for turn in model.requests[0]["turns"]] == ["Hi!"]
