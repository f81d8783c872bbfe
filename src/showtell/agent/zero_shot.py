"""ZeroShot: when to share a photo, and which, asked of any LLM; nothing is trained.

    decide     P(the LLM answers "photo", and not "words")
    describe   what the photo should show, in one line
    retrieve   from the album, by these words; or
    paint      where there is a painter
    say        the words that go with it, or without it

It answers a session as a Responder does. What the LLM is told stands in prompts.toml. A photo that
its painter does not deliver is late: it stays in the talk without pixels, and is tried again with
the next answer. An LLM that cannot be reached leaves a sentence of the agent's own.
"""

from __future__ import annotations

import math
import re
import time
import tomllib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.agent.engines import Language, ToldStep, ToldText, WordPainter
from showtell.dialogue import AGENT, USER, Element, Photo, Turn
from showtell.errors import EngineError, PhotoError
from showtell.models.reply import Reply

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.album.find import Finder

THRESHOLD = 0.5
MAX_TOKENS = 80  # of what it says
MAX_DESCRIPTION = 300  # characters
MAX_TURN = 1_000  # characters of one turn of the talk that the LLM reads
WORDS, SENT, LATE, NONE = "words", "sent", "late", "none"  # what becomes of a photo, in prompts.say


class PhotosInWords:
    """An album that is asked in words, and the folder that its photos lie in."""

    def __init__(self, finder: Finder, folder: Path) -> None:
        self.finder, self.folder = finder, folder

    def find(self, words: str, *, without: Collection[str]) -> tuple[Photo, Image] | None:
        """The best photo for the words that can be read, one ``without`` these ids if there is any;
        None if no photo reaches the finder's cut-off."""
        from showtell.data.photos import load_photo

        find = partial(self.finder.find, words, top_k=3)
        for hit in [*find(without=without), *find()]:
            photo = self.finder.album.photo(hit, folder=self.folder)
            with suppress(PhotoError):  # it was moved, or is damaged
                return photo, load_photo(photo.path or "")
        return None


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What became of a photo that was due: ``state`` (SENT, LATE, NONE)."""

    state: str
    description: str
    photo: Photo | None = None
    image: Image | None = None


class ZeroShot:
    """An LLM, and what it may share photos from. ``threshold``: the P(share) that is enough."""

    sees = False

    def __init__(
        self,
        language: Language,
        *,
        painter: WordPainter | None = None,
        album: PhotosInWords | None = None,
        threshold: float = THRESHOLD,
    ) -> None:
        self.language = language
        self.painter = painter
        self.album = album
        self.threshold = threshold

    @property
    def name(self) -> str:
        return self.language.name

    @property
    def card(self) -> dict[str, Any]:
        return dict(prompts()["card"])

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image],
        seed: int,
        on_text: ToldText | None = None,
        on_photo_step: ToldStep | None = None,
    ) -> Reply:
        """One turn of the agent: words, and a photo where one is due. Raises nothing of an engine;
        ``notes`` say what went wrong."""
        began = time.perf_counter()
        kept = self._kept(turns)
        reply = Reply(dropped_turns=len(turns) - len(kept))
        shared = _Shared(state=WORDS, description="")
        chance, down = None, False
        try:
            chance = self._chance(kept, reply.notes)
            if chance is not None and chance >= self.threshold:
                description = self._description(kept)
            else:
                description = _late(turns, images)
            if description:
                shared = self._share(description, turns, seed, on_photo_step, reply.notes)
        except EngineError as error:
            down = error.down
            reply.notes.append(str(error))
        if shared.image is not None and shared.photo is not None:
            reply.images[shared.photo.id] = shared.image
            reply.seconds_to_photo = time.perf_counter() - began

        def told(piece: str) -> None:
            if reply.seconds_to_first_word is None:
                reply.seconds_to_first_word = time.perf_counter() - began
            if on_text is not None:
                on_text(piece)

        text = "" if down else self._words(kept, shared, seed, told, reply.notes)
        if not text and shared.photo is None:
            text = prompts()["itself"]["silent"]
            told(text)
        told("\n")
        elements: tuple[Element, ...] = (
            *([text] if text else []),
            *([shared.photo] if shared.photo else []),
        )
        reply.turns.append(Turn(speaker=AGENT, elements=elements))
        reply.p_share.append(chance)
        reply.notes = list(dict.fromkeys(reply.notes))  # of one server, that fails twice alike
        return reply

    # ----------------------------------------------------------------------------------- steps

    def _chance(self, turns: Sequence[Turn], notes: list[str]) -> float | None:
        """P(share); None where it is not known."""
        labels = prompts()["labels"]
        found = self.language.probability(
            _asked("decide", turns), (labels["share"], labels["tell"])
        )
        if found.note:
            notes.append(found.note)
        return found.of.get(labels["share"])

    def _description(self, turns: Sequence[Turn]) -> str:
        said = self.language.say(_asked("describe", turns), max_tokens=40, temperature=0.0, seed=0)
        line = next((line for line in said.text.splitlines() if line.strip()), "")
        line = " ".join(line.split()).strip("\"'*` ")[:MAX_DESCRIPTION]
        return line if re.search(r"\w", line) else ""

    def _share(
        self,
        description: str,
        turns: Sequence[Turn],
        seed: int,
        on_step: ToldStep | None,
        notes: list[str],
    ) -> _Shared:
        """A photo of the description: found, painted, late, or none."""
        if self.album is not None:
            shown = {photo.id for turn in turns for photo in turn.photos}
            if (found := self.album.find(description, without=shown)) is not None:
                photo, image = found
                said = photo.caption or description
                return _Shared(state=SENT, description=said, photo=photo, image=image)
        if self.painter is None:
            where = "the album has none" if self.album else "there is no album and no painter"
            notes.append(f'a photo was due ("{description}"), and {where}')
            return _Shared(state=NONE, description=description)
        photo = Photo(
            id=f"painted-{seed}-{len(turns)}", caption=description, origin="painted", seed=seed
        )
        try:
            image = self.painter.paint(description, seed=seed, on_step=on_step)
        except EngineError as error:
            notes.append(f'the photo is late ("{description}"): {error}')
            return _Shared(state=LATE, description=description, photo=photo)
        return _Shared(state=SENT, description=description, photo=photo, image=image)

    def _words(
        self,
        turns: Sequence[Turn],
        shared: _Shared,
        seed: int,
        on_text: ToldText,
        notes: list[str],
    ) -> str:
        """What it says with the photo, or without one; "" if it says nothing."""
        say = prompts()["say"]
        system = say["system"] + say[shared.state].format(description=shared.description)
        messages = [{"role": "system", "content": system.strip()}, *_as_chat(turns)]
        try:
            said = self.language.say(
                messages, max_tokens=MAX_TOKENS, temperature=0.7, seed=seed, on_text=on_text
            )
        except EngineError as error:
            notes.append(str(error))
            return ""
        if said.broken:
            notes.append(f"the answer broke off: {said.broken}")
        return said.text

    def _kept(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """The last turns that fit into what the LLM reads, the last one always."""
        room, first = self.language.max_bytes, len(turns)
        while first and (room := room - len(_line(turns[first - 1]).encode()) - 4) >= 0:
            first -= 1
        return turns[min(first, len(turns) - 1) :]


@cache
def prompts() -> dict[str, Any]:
    """prompts.toml."""
    return tomllib.loads(Path(__file__).with_name("prompts.toml").read_text(encoding="utf-8"))


def threshold_of(language: Language) -> float:
    """The P(share) from which a photo is due: half-way, in logits, between what the LLM says of the
    example chats in which a photo comes next and of those in which words do. THRESHOLD where that
    says nothing. Raises EngineError for an LLM that is not there."""
    labels, decide = prompts()["labels"], prompts()["decide"]
    means = []
    for kind in ("photo_next", "words_next"):
        logits = []
        for talk in decide[kind]:
            try:
                found = language.probability(
                    _put("decide", talk), (labels["share"], labels["tell"])
                )
            except EngineError as error:
                if error.down:
                    raise
                return THRESHOLD
            chance = found.of.get(labels["share"], 0.0)
            if found.note or not 0 < chance < 1:
                return THRESHOLD
            logits.append(math.log(chance / (1 - chance)))
        means.append(sum(logits) / len(logits))
    above, below = means
    return 1 / (1 + math.exp(-(above + below) / 2)) if above > below else THRESHOLD


def _asked(step: str, turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The messages that ask about the talk so far, or its last turns."""
    speakers = prompts()["speakers"]
    last = turns[-prompts()[step].get("last_turns", len(turns)) :]
    return _put(step, "\n".join(f"{speakers[turn.speaker]}: {_line(turn)}" for turn in last))


def _put(step: str, talk: str) -> list[dict[str, str]]:
    """A step's question about a talk, after its examples."""
    prompt = prompts()[step]
    messages = [{"role": "system", "content": prompt["system"]}]
    for example in prompt.get("examples", ()):
        asked = prompt["user"].format(conversation=example["conversation"])
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": example["answer"]})
    asked = prompt["user"].format(conversation=talk)
    return [*messages, {"role": "user", "content": asked}]


def _as_chat(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The talk as messages that take turns, as templates want them; the user's first."""
    messages: list[dict[str, str]] = []
    for turn in turns:
        role = "user" if turn.speaker == USER else "assistant"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + _line(turn)
        else:
            messages.append({"role": role, "content": _line(turn)})
    return messages if messages[0]["role"] == "user" or len(messages) == 1 else messages[1:]


def _line(turn: Turn) -> str:
    """A turn on one line: no text can pass for another turn."""
    photos = prompts()["photos"]
    kind = photos["yours" if turn.speaker == USER else "mine"]
    parts = [
        e if isinstance(e, str) else kind.format(description=e.caption or "of mine")
        for e in turn.elements
    ]
    line = " ".join(" ".join(parts).split())
    return line if len(line) <= MAX_TURN else line[: MAX_TURN - 3] + "..."


def _late(turns: Sequence[Turn], images: Mapping[str, Image]) -> str:
    """The description of the last photo that was not delivered, nor another of it; else ""."""
    mine = [photo for turn in turns if turn.speaker == AGENT for photo in turn.photos]
    came = {photo.caption for photo in mine if photo.id in images}
    late = [p.caption for p in mine if p.origin == "painted" and p.id not in images]
    return late[-1] if late and late[-1] not in came else ""
