"""``showtell chat``: a conversation in the terminal, or answers as JSON objects for programs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import select
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import unquote

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from showtell.agent.page import Held, write_page
from showtell.agent.provenance import photo_file
from showtell.agent.session import Session, checked_photo, checked_text
from showtell.agent.terminal import ASIDE, HEAD, text_lines, turn_lines
from showtell.agent.when import dial_in_words, dial_of
from showtell.data.showtell_jsonl import element_as_dict
from showtell.data.storage import write_atomically
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import ShowtellError, UsageError, did_you_mean
from showtell.models.reply import Dial, Event, Preview, Words

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.models.reply import Reply

COMMANDS = {
    "/photo": ("FILE [TEXT]", "show a photo of yours (or paste its path)"),
    "/photos": ("[HOW]", "how photos come: asked, offer, proactive, 1/10, 3:1, usual"),
    "/page": ("FILE.html", "write the conversation so far as a page"),
    "/save": ("FOLDER", "keep the conversation"),
    "/open": ("FOLDER", "go on with a conversation that was kept"),
    "/new": ("", "start afresh"),
    "/seed": ("N", "start afresh with another seed"),
    "/help": ("", "this list"),
    "/quit": ("", "leave (so does Ctrl-D); Ctrl-C cancels an answer"),
}
LEAVING = ("quit", "exit", "/quit", "/exit")
_PHOTO_NAME = re.compile(r"/|\.(jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|mpo|hei[cf])$", re.IGNORECASE)


def answer_as_dict(reply: Reply, paths: dict[str, Path], notes: Sequence[str]) -> dict[str, Any]:
    """One answer as a JSON object: ordered parts, P(share), and how long it took.

    ``p_share`` is the highest of the answer's turns, ``p_share_by_turn`` has them all.
    """
    parts = []
    for element in (element for turn in reply.turns for element in turn.elements if element):
        part = element_as_dict(element)
        if isinstance(element, Photo):
            path = paths.get(element.id)
            part["path"] = None if path is None else str(path)
            del part["labels"]
        parts.append(part)
    return {
        "parts": parts,
        "p_share": max((p for p in reply.p_share if p is not None), default=None),
        "p_share_by_turn": list(reply.p_share),
        "seconds_to_first_word": reply.seconds_to_first_word,
        "seconds_to_photo": reply.seconds_to_photo,
        "notes": list(notes),
    }


def save_photos(reply: Reply, folder: Path) -> dict[str, Path]:
    """Write the photos of an answer as PNG; their paths by id. One of an album lies there."""
    return {
        photo.id: Path(photo.path)
        if photo.origin == "album" and photo.path
        else save_shared(photo, reply.images[photo.id], folder)
        for turn in reply.turns
        for photo in turn.photos
        if photo.id in reply.images
    }


def answers(
    session: Session, lines: Iterable[str], *, photos: Sequence[Path], photos_dir: Path
) -> Iterator[dict[str, Any]]:
    """The answer to each line in turn as a JSON object; photos go with the first line."""
    for k, line in enumerate(lines):
        reply = session.say(line, list(photos) if k == 0 else [])
        yield answer_as_dict(reply, save_photos(reply, photos_dir), session.notes)


def check_lines(lines: Sequence[str], photos: Sequence[Path]) -> None:
    """Refuse what the session would refuse, before a model is loaded for it."""
    from showtell.data.photos import load_photo

    for line in lines:
        checked_text(line)
    for path in photos:
        load_photo(path)


# ------------------------------------------------------------------------------- what is typed


def typed_lines(prompt: str = "     you: ") -> Iterator[str]:
    """What is typed, message by message; lines that are pasted together are one message."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (editing and history for input())
    while True:
        try:
            line = input(prompt)
            while _is_waiting(sys.stdin):
                line += "\n" + input()
        except EOFError:
            print()
            return
        yield line


def _is_waiting(stream: TextIO) -> bool:
    """Whether more has been typed, or pasted, already."""
    try:
        return bool(select.select([stream], [], [], 0.05)[0])
    except (OSError, ValueError):  # a system where only sockets can be asked
        return False


def pasted_photos(text: str) -> tuple[list[Path], str]:
    """The photo files that a message begins with, and the words after them.

    A path counts where it names a file and looks like a photo's: quoted, with escaped blanks, as
    file:// address, or as it is if the message is nothing else.
    """
    if whole := _photo_file(text.strip()):
        return [whole], ""
    paths, rest = [], text
    while rest.strip():
        path, more = _first_word(rest)
        if (file := _photo_file(path)) is None:
            break
        paths.append(file)
        rest = more
    return paths, rest.strip()


def _first_word(text: str) -> tuple[str, str]:
    """The first word as a shell reads it, and what stands behind it."""
    stream = io.StringIO(text)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return lexer.get_token() or "", stream.read()
    except ValueError:  # an apostrophe
        return text.partition(" ")[0], text.partition(" ")[2]


def _photo_file(name: str) -> Path | None:
    if name.startswith("file://"):
        name = unquote(name.removeprefix("file://").removeprefix("localhost"))
    if _PHOTO_NAME.search(name):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # too long, a NUL, no home
            path = Path(name).expanduser()
            return path if path.is_file() else None
    return None


class TerminalChat:
    """The conversation that a person holds: reads a line, streams the answer, draws photos."""

    def __init__(self, session: Session, *, photos_dir: Path, console: Console) -> None:
        self.session, self.photos_dir, self.console = session, photos_dir, console

    def greet(self) -> None:
        """Who is there, what it knows, three ways to begin."""
        card = self.session.model.card
        self._print(Text(f"showtell chat with {self.session.model.name}", "bold"))
        self._print(*text_lines(str(card.get("limits", "")), self.console))
        openings = list(card.get("openings", ()))[:3]
        if openings:
            self._print("You could begin with:")
        for opening in openings:
            self._print(*text_lines(opening, self.console, head="  - ", indent=4))
        self._print("/help lists the commands.", "")

    def run(self, lines: Iterable[str], *, photos: Sequence[Path] = ()) -> None:
        """Answer lines until they end or /quit; ``photos`` go with the first one."""
        for line in lines:
            if line.strip().lower() in LEAVING:
                return
            try:
                command, _, more = line.strip().partition("\n")
                if command.split(" ")[0] in COMMANDS:
                    self._command(*command.split(" ", 1))
                    line = more
                if line.strip():
                    pasted, text = pasted_photos(line)
                    if not pasted and text.startswith("/"):
                        word = text.split()[0]
                        hint = did_you_mean(word, COMMANDS)
                        raise UsageError(f"{word} is no command and no photo{hint}; see /help")
                    self._answer(text, [*photos, *pasted])
                    photos = ()
            except KeyboardInterrupt:
                self._print("", "(cancelled)")
            except ShowtellError as error:
                self._print(*text_lines(f"error: {error}", self.console))

    def _command(self, name: str, rest: str = "") -> None:
        rest = rest.strip()
        session = self.session
        if name == "/help":
            for command, (wants, does) in COMMANDS.items():
                self._print(f"  {f'{command} {wants}':<19} {does}")
        elif name in ("/new", "/seed"):
            if name == "/seed" and not rest.isdecimal():
                raise UsageError("/seed wants a whole number, for example /seed 7")
            self._show(Session(session.model, seed=int(rest) if name == "/seed" else session.seed))
        elif name == "/photo":
            if not rest:
                raise UsageError("/photo wants a file, for example /photo dog.png Look at him!")
            paths, text = pasted_photos(rest)
            if not paths:  # the session says what is wrong with it
                path, text = _first_word(rest)
                paths = [Path(path)]
            self._answer(text.strip(), paths)
        elif name == "/photos":
            session.dial = _set_dial(session.dial, rest.split())
            self._print(*text_lines(f"({dial_in_words(session.dial)})", self.console, style=ASIDE))
        elif name == "/page":
            page = Path(rest or "conversation.html").expanduser()
            if page.exists():
                raise UsageError(f"{page} is there already; name another file")
            title = f"A conversation with {session.model.name}"
            self._print(f"Wrote {write_page(page, [Held(title, '', session)])}")
        elif not rest:
            raise UsageError(f"{name} wants a folder, for example {name} chats/holiday")
        elif name == "/save":
            self._print(f"Wrote {session.save(Path(rest).expanduser())}")
        else:
            self._show(Session.open(session.model, Path(rest).expanduser()))

    def _show(self, session: Session) -> None:
        """Go on with another conversation: what was said in it, and that it is another one."""
        session.dial = self.session.dial
        self.session = session
        for turn, p_share in zip(session.turns, session.p_share, strict=True):
            self._print(*turn_lines(turn, session.images, self.console, p_share=p_share))
        for note in (*session.notes, f"{len(session.turns)} turns so far, seed {session.seed}"):
            self._print(*text_lines(f"({note})", self.console, style=ASIDE))

    def _answer(self, text: str, photos: Sequence[Path]) -> None:
        console, said = self.console, ""
        for number, path in enumerate(photos, start=1):  # as the agent's are
            brought = checked_photo(path, name=f"photo {number}")
            turn = Turn(speaker=USER, elements=(Photo(id="brought", origin="user"),))
            self._print(*turn_lines(turn, {"brought": brought}, console))
        with Live(
            console=console, transient=True, auto_refresh=False, redirect_stdout=False
        ) as live:

            def show(aside: str = "") -> None:
                turns = [Turn(speaker=AGENT, elements=(t,)) for t in said.split("\n") if t.strip()]
                lines = [line for turn in turns for line in turn_lines(turn, {}, console)]
                live.update(Group(*lines, Text(aside.rjust(HEAD + 16), ASIDE)), refresh=True)

            def tell(event: Event) -> None:
                nonlocal said
                if isinstance(event, Words):
                    said += event.text
                    show()
                elif isinstance(event, Preview):
                    show(f"painting {event.step}/{event.of}")

            reply = self.session.say(text or "Look at this!", list(photos), tell=tell)
        files = save_photos(reply, self.photos_dir)
        for turn, chance in zip(reply.turns, reply.p_share, strict=True):
            self._print(*turn_lines(turn, reply.images, console, files=files, p_share=chance))
        for note in self.session.notes:
            self._print(*text_lines(f"({note})", console, indent=HEAD, style=ASIDE))
        self._print("")

    def _print(self, *lines: str | Text) -> None:
        self.console.print(*lines, sep="\n")


def _set_dial(dial: Dial, words: Sequence[str]) -> Dial:
    """The dial as the words say, one after the other; "usual" undoes all. Raises UsageError."""
    for word in words:
        if word == "usual":
            dial = Dial()
        elif "/" in word:
            dial = dial_of(None, word, None, usual=dial)
        elif ":" in word:
            dial = dial_of(None, None, word, usual=dial)
        elif word != "cost":
            dial = dial_of(word, None, None, usual=dial)
    return dial


def save_shared(photo: Photo, image: Image, folder: Path) -> Path:
    """Write a shared photo as PNG into ``folder``; where another one has its name, by its digest
    too."""
    data = photo_file(photo, image)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", photo.id).strip(".-") or "photo"
    path = folder / f"{stem}.png"
    if path.exists() and path.read_bytes() != data:
        path = folder / f"{stem}-{hashlib.sha256(data).hexdigest()[:16]}.png"
    return path if path.exists() else write_atomically(path, data)
