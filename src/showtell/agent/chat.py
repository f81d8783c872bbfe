"""``showtell chat``: a conversation in the terminal, or answers as JSON objects for programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from showtell.agent.page import Conversation, write_page
from showtell.agent.session import ChatModel, Session, checked_text, save_photo
from showtell.agent.terminal import (
    MAX_COLUMNS,
    Screen,
    photo_lines,
    text_lines,
    wrapped,
)
from showtell.dialogue import AGENT, Photo
from showtell.errors import ShowtellError, UsageError

if TYPE_CHECKING:
    from showtell.models.respond import Reply

HELP = """\
  /photo FILE [TEXT]  show a photo of yours (with words beside it)
  /page FILE.html     write the conversation so far as a page
  /new                start afresh
  /seed N             start afresh with another seed
  /help               this list
  /quit               leave (so does Ctrl-D); Ctrl-C cancels an answer"""


def answer_as_dict(reply: Reply, paths: dict[str, Path], notes: Sequence[str]) -> dict[str, Any]:
    """One answer as a JSON object: ordered parts, P(share), and how long it took.

    ``p_share`` is the highest of the answer's turns, ``p_share_by_turn`` has them all.
    """
    parts: list[dict[str, Any]] = []
    for turn in reply.turns:
        for element in turn.elements:
            if isinstance(element, Photo):
                path = paths.get(element.id)
                parts.append(
                    {
                        "type": "photo",
                        "id": element.id,
                        "path": None if path is None else str(path),
                        "origin": element.origin,
                        "caption": element.caption,
                        "seed": element.seed,
                    }
                )
            elif element:
                parts.append({"type": "text", "text": element})
    return {
        "parts": parts,
        "p_share": max(reply.p_share, default=None),
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
        else save_photo(photo, reply.images[photo.id], folder)
        for turn in reply.turns
        for photo in turn.photos
        if photo.id in reply.images
    }


def answer_lines(
    model: ChatModel,
    lines: Iterable[str],
    *,
    photos: Sequence[Path],
    seed: int,
    photos_dir: Path,
    indent: int | None,
    out: TextIO,
) -> None:
    """Answer each line in turn and print one JSON object a turn; photos go with the first line."""
    session = Session(model, seed=seed)
    for k, line in enumerate(lines):
        reply = session.say(line, photos if k == 0 else ())
        answer = answer_as_dict(reply, save_photos(reply, photos_dir), session.notes)
        print(json.dumps(answer, ensure_ascii=False, indent=indent), file=out, flush=True)


def check_lines(lines: Sequence[str], photos: Sequence[Path]) -> None:
    """Refuse what the session would refuse, before a model is loaded for it."""
    from showtell.data.photos import load_photo

    for line in lines:
        checked_text(line)
    for path in photos:
        load_photo(path)


class _Flow:
    """Writes words as they come, wrapped at the width of the window, ``head`` in front."""

    def __init__(self, out: TextIO, *, width: int, head: str, indent: int) -> None:
        self.out, self.width, self.head, self.indent = out, width, head, indent
        self.started = self.open = False
        self.column, self.word = indent, ""

    def __call__(self, piece: str) -> None:
        if piece == "\n":  # the end of a turn
            self.close()
        if not piece.strip() and not self.open:
            return
        if not self.open:
            self.out.write(self.head)
            self.started = self.open = True
            self.column = self.indent
        for character in piece:
            if character.isspace():
                self._end_word()
            else:
                self.word += character
        self.out.flush()

    def close(self) -> None:
        if self.open:
            self._end_word()
            self.out.write("\n")
            self.out.flush()
            self.open = False

    def _end_word(self) -> None:
        if self.word:
            if self.column > self.indent and self.column + 1 + len(self.word) > self.width:
                self._new_line()
            space = " " if self.column > self.indent else ""
            self.out.write(space + self.word)
            self.column += len(space + self.word)
            self.word = ""

    def _new_line(self) -> None:
        self.out.write("\n" + " " * self.indent)
        self.column = self.indent


def _split_path(text: str) -> tuple[Path, str]:
    """``FILE [TEXT]``; a name with spaces stands in quotes."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"/photo: {error}; write /photo FILE or /photo 'MY FILE'") from error
    if not words:
        raise UsageError("/photo wants a file, for example /photo dog.png Look at him!")
    return Path(words[0]).expanduser(), " ".join(words[1:])


class TerminalChat:
    """The conversation that a person holds: reads a line, streams the answer, draws photos."""

    def __init__(
        self, model: ChatModel, *, seed: int, photos_dir: Path, out: TextIO, screen: Screen
    ) -> None:
        self.model, self.out, self.screen = model, out, screen
        self.photos_dir = photos_dir
        self.session = Session(model, seed=seed)

    def greet(self) -> None:
        """Who is there, what it knows, three ways to begin."""
        card = self.model.card
        self._print(self.screen.style(f"showtell chat with {self.model.name}", "bold"))
        for line in wrapped(str(card.get("limits", "")), self.screen):
            self._print(line)
        openings = list(card.get("openings", ()))[:3]
        if openings:
            self._print("You could begin with:")
        for opening in openings:
            for line in wrapped(opening, self.screen, first="  - "):
                self._print(line)
        self._print("/help lists the commands.")
        self._print("")

    def run(self, lines: Iterable[str], *, photos: Sequence[Path] = ()) -> None:
        """Answer lines until they end or /quit; ``photos`` go with the first one."""
        for line in lines:
            line = line.rstrip("\r\n")
            if not line.strip():
                continue
            try:
                if line.startswith("/"):
                    if self._command(line) == "quit":
                        return
                else:
                    self._answer(line, photos)
                    photos = ()
            except KeyboardInterrupt:
                self._print("\n(cancelled)")
            except ShowtellError as error:
                self._print(f"error: {error}")

    def _command(self, line: str) -> str | None:
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name in ("/quit", "/exit"):
            return "quit"
        if name == "/help":
            self._print(HELP)
        elif name == "/new":
            self._restart(self.session.seed)
        elif name == "/seed":
            if not rest.isdecimal():
                raise UsageError("/seed wants a whole number, for example /seed 7")
            self._restart(int(rest))
        elif name == "/photo":
            path, text = _split_path(rest)
            self._answer(text or "Look at this!", [path])
        elif name == "/page":
            self._write_page(Path(rest or "conversation.html"))
        else:
            raise UsageError(f"there is no command {name}; /help lists them")
        return None

    def _restart(self, seed: int) -> None:
        self.session = Session(self.model, seed=seed)
        self._print(f"(a new conversation, seed {seed})")

    def _write_page(self, path: Path) -> None:
        if path.exists():
            raise UsageError(f"{path} is there already; name another file")
        conversation = Conversation(
            title=f"A conversation with {self.model.name}",
            turns=self.session.turns,
            p_share=tuple(self.session.p_share),
            images=self.session.images,
        )
        write_page(
            path,
            [conversation],
            title="Tell and show",
            lead="The bar under each of the agent's turns is the probability, before the turn "
            "began, that it would share a photo.",
            foot=f"Generated by {self.model.name}, seed {self.session.seed}.",
        )
        self._print(f"Wrote {path}")

    def _answer(self, line: str, photos: Sequence[Path]) -> None:
        screen = self.screen
        flow = _Flow(
            self.out,
            width=min(MAX_COLUMNS, screen.columns),
            head=screen.style("showtell:".rjust(9), "agent") + " ",
            indent=10,
        )

        def on_text(piece: str) -> None:
            if not flow.open:
                self._erase()
            flow(piece)

        def on_photo_step(step: int, num_steps: int) -> None:
            flow.close()
            if screen.colour:
                self.out.write(f"\r{'painting'.rjust(18)} {step}/{num_steps}\x1b[K")
                self.out.flush()

        try:
            reply = self.session.say(line, photos, on_text=on_text, on_photo_step=on_photo_step)
        finally:
            flow.close()
            self._erase()
        paths = save_photos(reply, self.photos_dir)
        for turn, p_share in zip(reply.turns, reply.p_share, strict=True):
            if turn.text and not flow.started:
                for text in text_lines(AGENT, turn.text, screen, p_share=p_share):
                    self._print(text)
            for photo in turn.photos:
                path = paths.get(photo.id)
                for text in photo_lines(
                    photo,
                    reply.images.get(photo.id),
                    screen,
                    indent=10,
                    where=None if path is None else str(path),
                ):
                    self._print(text)
        if flow.started:
            values = ", ".join(f"{p:.2f}" for p in reply.p_share)
            line = f"P(share) at each turn: {values}"
            self._print(screen.style(line.rjust(min(MAX_COLUMNS, screen.columns)), "dim"))
        for note in self.session.notes:
            for text in wrapped(f"({note})", screen, indent=10):
                self._print(screen.style(text, "dim"))
        self._print("")

    def _erase(self) -> None:
        if self.screen.colour:
            self.out.write("\r\x1b[K")

    def _print(self, line: str) -> None:
        print(line, file=self.out, flush=True)
