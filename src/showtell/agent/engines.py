"""What speaks, and what paints from words: models of others, behind one small protocol each.

    language = open_language("http://127.0.0.1:8000/v1#NAME")  # or a folder of transformers, an id
    language.say(messages, max_tokens=60, temperature=0.7, seed=0, on_text=print).text
    language.probability(messages, ("photo", "words")).of["photo"]

``messages`` are those of a chat: {"role": "system" | "user" | "assistant", "content": text}. What a
model says is not trusted: it is bounded, its control characters are escaped, its thinking aloud
(<think>) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from showtell.errors import UsageError, printable
from showtell.models.named import named_folder
from showtell.models.speech import Thoughtless
from showtell.progress import terminal_progress

if TYPE_CHECKING:
    from PIL.Image import Image

Messages = Sequence[Mapping[str, str]]
ToldText = Callable[[str], None]
ToldStep = Callable[[int, int], None]

AT_ONCE = 16  # requests that one server is asked side by side
MAX_CHARACTERS = 4_000  # of one text that a model says
TOP_P = 0.9  # of the words that are drawn from
SPELLINGS = 6  # of a label as one token: with or without a blank before it; photo, Photo, PHOTO


@dataclass(frozen=True, kw_only=True)
class Said:
    """A text, and why it ended before its end ("" if it did not)."""

    text: str
    broken: str = ""


@dataclass(frozen=True, kw_only=True)
class Chances:
    """``of``: P(label), given that the answer is one of the labels; ``note``: how it is to be read,
    where it is not what the model's own numbers say."""

    of: Mapping[str, float]
    note: str = ""


class Language(Protocol):
    """An LLM that chats. ``max_bytes``: how much of a conversation it can be asked about."""

    name: str
    max_bytes: int

    def say(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        on_text: ToldText | None = None,
    ) -> Said: ...

    def probability(self, messages: Messages, labels: Sequence[str]) -> Chances: ...


class WordPainter(Protocol):
    """Paints what words say. ``edits``: whether it can start from a photo."""

    name: str
    edits: bool

    def paint(
        self,
        caption: str,
        *,
        seed: int,
        on_step: ToldStep | None = None,
        start: Image | None = None,
        strength: float = 1.0,
    ) -> Image:
        """The photo of a caption; from ``start``, changed by ``strength`` (0 to 1), where it edits.
        Raises EngineError."""


# -------------------------------------------------------------------------------------- to open


def open_language(name: str) -> Language:
    """An LLM by the address of its endpoint (ADDRESS#MODEL names one of several), or by any name
    that ``named_folder`` knows.

    Raises UsageError, EngineError, and what ``named_folder`` raises.
    """
    if is_address(name):
        from showtell.agent.remote_engines import RemoteLanguage

        return RemoteLanguage(name)
    folder = named_folder(name, flag="--lm", told=terminal_progress)
    from showtell.agent.local_engines import LocalLanguage

    return LocalLanguage(folder, name=name)


def open_painter(
    name: str, *, num_steps: int | None = None, guidance: float | None = None
) -> WordPainter:
    """A painter by the address of its endpoint, or as ``named_folder`` knows it; that one with
    these steps and this guidance (1: none), or those of its kind."""
    if is_address(name):
        if num_steps is not None or guidance is not None:
            raise UsageError(
                f'--steps and --guidance are of a painter in a folder, and --painter is "{name}"; '
                "a server paints as it was set up: leave them out"
            )
        from showtell.agent.remote_engines import RemotePainter

        return RemotePainter(name)
    folder = named_folder(name, flag="--painter", told=terminal_progress)
    from showtell.agent.local_engines import LocalPainter

    return LocalPainter(folder, name=name, num_steps=num_steps, guidance=guidance)


def is_address(name: str) -> bool:
    return "://" in name


# ------------------------------------------------------------------------- what both kinds share


def label_of(piece: str, labels: Sequence[str]) -> str | None:
    """The label that this token spells, if any."""
    spelt = piece.strip().casefold()
    return next((label for label in labels if label == spelt), None)


def chances(
    seen: Mapping[str, float], labels: Sequence[str], *, unseen: float = 0.0
) -> Chances | None:
    """P of each label out of the mass that was seen on it.

    A label of which nothing was seen holds ``unseen`` at most: P is then an upper bound for it, and
    a lower one for the others. None if no label was seen.
    """
    if not any(seen.get(label) for label in labels):
        return None
    mass = {label: seen.get(label) or unseen for label in labels}
    of = {label: value / sum(mass.values()) for label, value in mass.items()}
    bounds = [label for label in labels if not seen.get(label) and of[label] >= 0.005]
    note = ", ".join(f'P("{label}") is at most {of[label]:.2f}' for label in bounds)
    if note:
        note += ": it is not among the 20 likeliest answers, and a server tells no others"
    return Chances(of=of, note=note)


def chances_in_words(
    language: Language, messages: Messages, labels: Sequence[str], *, why: str
) -> Chances:
    """P as 0 or 1: what the model answers when it is asked, and nothing is known of the rest."""
    text = language.say(messages, max_tokens=8, temperature=0.0, seed=0).text
    first = re.search("|".join(rf"\b{re.escape(label)}\b" for label in labels), text.casefold())
    if first is None:
        short = " ".join(text.split())[:60]
        wanted = " or ".join(f'"{label}"' for label in labels)
        note = f'{why}; asked for {wanted} it answered "{short}", so P is not known'
        return Chances(of={}, note=note)
    return Chances(
        of={label: float(label == first[0]) for label in labels},
        note=f"{why}, so P is 0 or 1, as it answered",
    )


class Spoken:
    """A text as it comes in pieces: without thinking aloud and control characters, bounded."""

    def __init__(self, on_text: ToldText | None) -> None:
        self.on_text = on_text
        self._heard = Thoughtless()
        self.text = ""
        self.full = False

    def add(self, piece: str) -> None:
        said = self._heard.add(piece.replace("\r", ""))
        if self._heard.alone and self.on_text is None:
            self.text = ""  # all of it was thought
            said = said.lstrip()
        self._say(said)

    def end(self) -> None:
        """No more comes."""
        self._say(self._heard.end())

    def _say(self, piece: str) -> None:
        piece = printable(piece)[: MAX_CHARACTERS - len(self.text)]
        self.text += piece
        self.full = len(self.text) >= MAX_CHARACTERS
        if piece and self.on_text is not None:
            self.on_text(piece)
