"""What a terminal shows: photos where they can be drawn, words elsewhere, never too wide."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from keyword_model import KeywordModel
from showtell.agent.chat import TerminalChat, pasted_photos
from showtell.agent.session import Session
from showtell.agent.terminal import console_of, draws_photos, half_blocks, share_bar, turn_lines
from showtell.dialogue import AGENT, USER, Photo, Turn

GOOD = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "100"}
PHOTO = Turn(speaker=AGENT, elements=(Photo(id="p", caption="a red dog"),))
IMAGES = {"p": Image.new("RGB", (64, 64), "red")}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class AsciiTerminal(Terminal):
    encoding = "ascii"


@pytest.fixture
def console(monkeypatch):
    """Of a stream, with the environment of a good terminal, changed."""

    def make(stream=None, **changes):
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {**GOOD, **changes}.items():
            monkeypatch.setenv(name, value)
        return console_of(Terminal() if stream is None else stream)

    return make


def visible(line):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line)


def printed(console, lines):
    for line in lines:
        console.print(line)
    return console.file.getvalue()


def test_a_good_terminal_draws_photos_and_one_of_256_colours_too(console):
    screen = console()
    assert draws_photos(screen)
    out = printed(screen, turn_lines(PHOTO, IMAGES, screen, p_share=0.9))
    assert out.count("▀") == 44 * 22 and "38;2;255;0;0" in out
    last = visible(out).splitlines()[-1]  # P(share) stands beside the caption
    assert "a red dog" in last and last.endswith("P(share) █████████· 0.90")
    few = console(COLORTERM="")
    # another colour: rich keeps the codes of one that it has printed
    assert "38;5;" in printed(few, turn_lines(PHOTO, {"p": Image.new("RGB", (9, 9), "blue")}, few))


@pytest.mark.parametrize(
    ("stream", "changes"),
    [
        (io.StringIO, {}),
        (Terminal, {"NO_COLOR": "1"}),
        (Terminal, {"COLORTERM": "", "TERM": "xterm"}),
        (Terminal, {"TERM": "dumb"}),
        (Terminal, {"COLUMNS": "50"}),
        (AsciiTerminal, {}),
    ],
)
def test_others_describe_them(console, stream, changes):
    screen = console(stream(), **changes)
    lines = turn_lines(PHOTO, IMAGES, screen, files={"p": Path("p.png")})
    assert not draws_photos(screen)
    out = printed(screen, lines)
    assert "[photo: a red dog] -> p.png" in visible(out) and "▀" not in out
    assert "\x1b" not in out or screen.is_terminal  # nothing but words to a pipe


def test_half_blocks_carry_two_rows_of_pixels_each(console):
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    image.paste((9, 8, 7), (0, 1, 4, 2))
    lines = half_blocks(image, columns=4)
    assert [line.plain for line in lines] == ["▀▀▀▀", "▀▀▀▀"]
    assert "38;2;1;2;3;48;2;9;8;7m" in printed(console(), lines)


@pytest.mark.parametrize("size", [(4000, 2), (2, 4000), (1, 1)])
def test_a_photo_of_any_shape_fits_into_the_window(size):
    lines = half_blocks(Image.new("RGB", size))
    assert 1 <= len(lines) <= 44 and all(len(line) == 44 for line in lines)


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_line_is_wider_than_the_window_or_80_columns(console, columns, stream):
    screen = console(stream(), COLUMNS=str(columns))
    text = "word " * 60 + "x" * 100
    elements = (text, Photo(id="p", caption="a caption " * 12), text)
    turn = Turn(speaker=AGENT, elements=elements)
    lines = turn_lines(turn, IMAGES, screen, p_share=0.5)
    assert max(line.cell_len for line in lines) <= min(80, columns)
    assert " ".join(line.plain for line in lines).count("word") == 120


def test_wide_characters_count_as_two_and_control_characters_are_escaped(console):
    lines = turn_lines(Turn(speaker=USER, elements=("日本" * 50,)), {}, console())
    assert max(line.cell_len for line in lines) <= 80
    evil = Photo(id="p", caption="\x1b]0;title\x07\x00")
    out = printed(
        console(io.StringIO()),
        turn_lines(Turn(speaker=AGENT, elements=("\x1b[2J\x9b2J", evil)), {}, console()),
    )
    assert "\\u001b[2J\\u009b2J" in out and "\\u0000" in out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out)


def test_the_bar_grows_with_p_share(console):
    filled = [share_bar(p, console()).count("█") for p in (0.0, 0.3, 0.7, 1.0)]
    assert filled == [0, 3, 7, 10]
    assert share_bar(0.5, console(AsciiTerminal())).isascii()


# ------------------------------------------------------------------------------ a conversation


@pytest.fixture
def chat(console, tmp_path):
    def hold(lines, stream=None, model=None):
        screen = console(io.StringIO() if stream is None else stream)
        model = model or KeywordModel()
        held = TerminalChat(Session(model), photos_dir=tmp_path / "photos", console=screen)
        held.greet()
        held.run(lines)
        return model, screen.file.getvalue()

    return hold


def test_it_opens_with_three_openings_and_help(chat):
    model, out = chat([])
    assert out.count("\n  - ") == 3 and "/help" in out and model.card["limits"] in out


def test_a_conversation_streams_words_and_shows_photos(chat, tmp_path):
    _, out = chat(["Send me a photo please\n"], stream=Terminal())
    assert "Sure, \x1b" in out or "Sure,\x1b" in out or visible(out).count("Sure,") > 1
    assert "painting 2/3" in visible(out)
    assert "▀" in out and "a <red> square" in out and "0.20" in out and "0.90" in out
    assert len(list((tmp_path / "photos").glob("*.png"))) == 1


def test_the_photo_that_the_user_brings_is_drawn_too(chat, dog):
    _, out = chat([f"'{dog}' look"], stream=Terminal())
    assert out.count("▀") == 44 * 22 and "you: a photo of yours" in visible(out)
    _, out = chat([f"'{dog}' look"])
    assert "you: [photo: a photo of yours]" in out


def test_a_pipe_gets_each_word_once_and_no_codes(chat):
    _, out = chat(["Send me a photo please\n"])
    assert out.count("Sure, here you go!") == 1 and "\x1b" not in out and "painting" not in out


def test_commands_work_and_errors_do_not_end_the_conversation(chat, tmp_path):
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
        f"/save {tmp_path}/kept",
        "/save",
        f"/open {tmp_path}",
        "/seed x",
        "/photos offer 1/10 3:1",
        "/seed 4",
        "/photos",
        "/photos loud",
        "/photos usual",
        "Hi!",
        f"/open {tmp_path}/kept",
        "Bye!",
        "/quit",
        "Never said",
    ]
    model, out = chat(lines)
    out = " ".join(out.split())  # lines are wrapped where paths are long
    assert out.count("error: ") == 8
    assert out.count("(photos are offered first, and come when you say yes, at most 1 unasked") == 2
    assert out.count("(photos come when they fit)") == 1
    assert [request["turns"][0].text for request in model.requests] == [
        "Look at this",
        "Hi!",
        "Look at this",
    ]
    assert [len(request["turns"]) for request in model.requests] == [2, 1, 4]
    assert len(model.requests[0]["images"]) == 1 == len(model.requests[2]["images"])
    assert page.read_text().count("data:image/png") == 1


@pytest.mark.parametrize("word", ["quit", "QUIT\n", " exit", "/quit", "  /exit "])
def test_leaving_is_understood(chat, word):
    assert not chat([word, "Never said"])[0].requests


def test_blanks_in_front_of_a_command_do_not_matter(chat):
    model, out = chat(["  /help", "\t/seed 3"])
    assert "/photo FILE" in out and "seed 3" in out and not model.requests


@pytest.fixture
def dog(tmp_path):
    path = tmp_path / "my dog.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return path


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "'{}'",
        '"{}"',
        "{escaped}",
        "file://{quoted}",
        " '{}' ",
        "{}\n",
    ],
)
def test_a_pasted_path_is_a_photo(chat, dog, form):
    text = str(dog)
    line = form.format(text, escaped=text.replace(" ", "\\ "), quoted=text.replace(" ", "%20"))
    model, out = chat([line])
    assert len(model.requests[0]["images"]) == 1 and "error" not in out
    assert model.requests[0]["turns"][0].text == "Look at this!"


def test_words_may_follow_a_pasted_path_and_several_may_be_pasted(chat, dog):
    (line,) = [f"'{dog}' '{dog}'\n'{dog}' don't say \"no\""]
    model, _ = chat([line])
    assert len(model.requests[0]["images"]) == 3
    assert model.requests[0]["turns"][0].text == 'don\'t say "no"'


@pytest.mark.parametrize(
    "text",
    ["look at this dog.png", "dog", "don't", "a/b or c/d?", "'", "\\", "x" * 5000, "~nobody/a"],
)
def test_other_text_is_text(text):
    assert pasted_photos(text) == ([], text)


def test_a_path_that_is_not_there_is_an_error_and_not_said(chat):
    model, out = chat(["/home/nobody/dog.png", "/phto dog.png"])
    assert not model.requests and "is no command and no photo" in out
    assert 'did you mean "/photo"' in out


def test_control_c_cancels_an_answer_and_not_the_conversation(chat):
    class Slow(KeywordModel):
        def respond(self, turns, **arguments):
            if turns[-1].text == "wait":
                raise KeyboardInterrupt
            return super().respond(turns, **arguments)

    model, out = chat(["wait", "Hi!"], model=Slow(name="slow"))
    assert "(cancelled)" in out and len(model.requests) == 1
    assert [turn.text for turn in model.requests[0]["turns"]] == ["Hi!"]


# --------------------------------------------------------------------------- a real terminal

SCRIPT = """
import sys
from pathlib import Path
from keyword_model import KeywordModel
from showtell.agent.chat import TerminalChat, typed_lines
from showtell.agent.session import Session
from showtell.agent.terminal import console_of
from showtell.cli.exits import exit_code_of
model = KeywordModel()
chat = TerminalChat(Session(model), photos_dir=Path("photos"), console=console_of(sys.stdout))
code = exit_code_of(lambda: chat.run(typed_lines()))
print([request["turns"][-1].text for request in model.requests])
sys.exit(code)
"""


def typed(tmp_path, *keys):
    """Type into a chat in a pseudo-terminal; (exit code, all that it showed)."""
    outer, inner = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(inner)
    shown, keys, end = "", list(keys), time.monotonic() + 30
    again, last = end, b""
    while time.monotonic() < end:
        if time.monotonic() > again:  # a key is lost while the terminal changes its mode
            os.write(outer, last)
            again = time.monotonic() + 3
        if select.select([outer], [], [], 0.1)[0]:
            try:
                data = os.read(outer, 65536)
            except OSError:  # the other side has closed
                break
            shown += data.decode(errors="replace")
        if keys and shown.rstrip("\x1b[?204hl ").endswith("you:"):
            last = keys.pop(0)
            os.write(outer, last)
            again = end if keys else time.monotonic() + 3
            shown += " "
            time.sleep(0.1)
    os.close(outer)
    return process.wait(timeout=10), shown


def test_three_pasted_lines_are_one_message_and_ctrl_d_leaves(tmp_path):
    code, shown = typed(tmp_path, b"one\ntwo\nthree\n", b"\x04")
    assert code == 0 and "Traceback" not in shown
    assert "['one\\ntwo\\nthree']" in shown


def test_ctrl_c_at_the_prompt_stops_cleanly(tmp_path):
    code, shown = typed(tmp_path, b"\x03")
    assert code == 130 and "showtell: stopped" in shown and "Traceback" not in shown
