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

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.agent.engines import Language, ToldText
from showtell.agent.memory import remembered, sees_none
from showtell.agent.prompts import prompts
from showtell.agent.when import Reading, When, logit, sigma
from showtell.agent.which import Which
from showtell.dialogue import AGENT, USER, Turn
from showtell.errors import DataError, EngineError, UsageError
from showtell.models.reply import (
    Decision,
    Described,
    Dial,
    PhotoDue,
    PhotoHere,
    PhotoSource,
    Reply,
    Row,
    Shared,
    Tell,
    Wish,
    Words,
    silence,
)
from showtell.models.speech import Agreeing

if TYPE_CHECKING:
    from PIL.Image import Image

THRESHOLD = 0.5
MAX_TOKENS = 80  # of what it says
MAX_DESCRIPTION = 300  # characters
MAX_DESCRIPTION_TOKENS = 40
MAX_TURN = 1_000  # characters of one turn of the talk that the LLM reads


@dataclass(frozen=True, kw_only=True)
class Calibration(Reading):
    """How P(share) is read, and the ``threshold`` that is enough of it then."""

    threshold: float = THRESHOLD


class ZeroShot:
    """An LLM, and where its photos come from. ``calibration``: how its P(share) is read."""

    sees = False

    def __init__(
        self,
        language: Language,
        *,
        photos: PhotoSource | None = None,
        threshold: float = THRESHOLD,
        calibration: Calibration | None = None,
    ) -> None:
        self.language = language
        self.photos = photos or Which()
        self.calibration = calibration or Calibration(threshold=threshold)
        self.threshold = self.calibration.threshold
        self.when = When(threshold=self.threshold)

    @property
    def name(self) -> str:
        return self.language.name

    @property
    def paints(self) -> bool:
        """Whether words may become a photo that no album has."""
        return self.photos.paints

    @property
    def at_once(self) -> int:
        """Answers that may be asked for side by side: one where an engine is of this process."""
        engines = (self.language, self.photos)
        return min(int(getattr(engine, "at_once", 1)) for engine in engines)

    @property
    def card(self) -> dict[str, Any]:
        return dict(prompts()["card"])

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image],
        seed: int,
        tell: Tell = silence,
        dial: Dial | None = None,
    ) -> Reply:
        """One turn of the agent: words, and a photo where one is due. Raises nothing of an engine;
        ``notes`` say what went wrong."""
        began = time.perf_counter()
        kept = self.kept(turns)
        reply = Reply(dropped_turns=len(turns) - len(kept))
        wish = remembered(self.when.wish(turns), turns, images, sees_none)
        wish = replace(wish, album=dial.album if dial else "")
        tell = Agreeing(tell, wish=wish, able=self.paints, turns=turns)
        row = Row(context=turns, seed=seed, reply=reply, wish=wish, tell=tell)
        if wish.instead:
            row.say_wished()
            tell.end(reply)
            return reply
        shared: list[Shared] = []
        description, decision, down = "", Decision(share=False), False
        try:
            chance = self._chance(kept, reply.notes)
            decision = self.when.decide(chance, turns=turns, wish=wish, dial=dial or row.dial)
            if decision.share:
                tell(PhotoDue(id=row.photo_id, decision=decision))
                description = self._description(kept, wish)
            else:
                description = "" if wish.share is False else _late(turns, images)
            if description or wish.same:
                shared = self._photos(row, description, decision, began)
        except EngineError as error:
            down = error.down
            reply.notes.append(str(error))
        photos = [each.photo for each in shared if each.photo is not None]

        def told(piece: str) -> None:
            if reply.seconds_to_first_word is None:
                reply.seconds_to_first_word = time.perf_counter() - began
            tell(Words(text=piece))

        text = ""
        if not down:
            state = wish.known + _state(shared[0] if shared else None, description)
            text = self._words(kept, state, seed, told, reply.notes)
        if not text and not photos:
            text = prompts()["itself"]["silent"]
            told(text)
        told("\n")
        reply.turns.append(Turn(speaker=AGENT, elements=(*([text] if text else []), *photos)))
        reply.decided(decision)
        if decision.offer and not photos:
            row.say(decision.offer, reason="it was offered")
        elif len(photos) < len(shared) and photos:  # there is one, and no other
            row.say(shared[-1].instead, reason="there is no other photo")
        tell.end(reply)
        reply.notes = list(dict.fromkeys(reply.notes))  # of one server, that fails twice alike
        return reply

    # ----------------------------------------------------------------------------------- steps

    def _chance(self, turns: Sequence[Turn], notes: list[str]) -> float | None:
        """P(share); None where it is not known."""
        labels = prompts()["labels"]
        found = self.language.probability(asked("decide", turns), (labels["share"], labels["tell"]))
        if found.note:
            notes.append(found.note)
        chance = found.of.get(labels["share"])
        return None if chance is None else self.calibration(chance)

    def _photos(self, row: Row, description: str, decision: Decision, began: float) -> list[Shared]:
        """What becomes of the photos that are due: as many as were asked for, until one is not
        here."""
        reply = row.reply
        shared: list[Shared] = []
        for _ in range(row.wish.count):
            due = row.photo_id
            if shared:
                row.tell(PhotoDue(id=due, decision=decision))
            came = row.wish.same
            if came is None:
                row.tell(Described(id=due, words=description))
                came = self.photos.share(
                    description,
                    wish=row.wish,
                    photo_id=due,
                    seed=row.photo_seed,
                    shown=row.shown,
                    notes=reply.notes,
                    on_step=row.stepped,
                )
            shared.append(came)
            if came.hits:
                reply.hits[came.photo.id if came.photo else due] = came.hits
            if came.photo is None or came.image is None:
                break
            here = PhotoHere(due=due, photo=came.photo, image=came.image, hits=came.hits)
            row.tell(here)
            reply.images[came.photo.id] = came.image
            reply.seconds_to_photo = time.perf_counter() - began
        return shared

    def _description(self, turns: Sequence[Turn], wish: Wish) -> str:
        if wish.same is not None and wish.same.photo is not None:
            return wish.same.photo.caption or "the photo that your friend has sent"
        if wish.caption:
            return wish.caption
        said = self.language.say(
            asked("describe", turns), max_tokens=MAX_DESCRIPTION_TOKENS, temperature=0.0, seed=0
        )
        described = one_line(said.text)
        return wish.amend(described) if wish.amend else described

    def _words(
        self,
        turns: Sequence[Turn],
        state: str,
        seed: int,
        on_text: ToldText,
        notes: list[str],
    ) -> str:
        """What it says with the photo, or without one; "" if it says nothing. ``state``: what has
        become of the photo."""
        messages = to_say(turns, state)
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

    def kept(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """The last turns that fit into what the LLM reads, the last one always."""
        room, first = self.language.max_bytes, len(turns)
        while first and (room := room - len(line_of(turns[first - 1]).encode()) - 4) >= 0:
            first -= 1
        return turns[min(first, len(turns) - 1) :]


def _state(shared: Shared | None, description: str) -> str:
    """What the LLM is told has become of the photo."""
    say = prompts()["say"]
    if shared is None:
        return str(say["words"])
    if shared.photo is None:
        return str(say["none"]).format(description=description)
    if shared.image is None:
        return str(say["late"]).format(description=description)
    said = description if shared.photo.origin == "painted" else shared.photo.caption or description
    return str(say["sent"]).format(description=said)


def prompts_digest() -> str:
    """Of all that the LLM is told: a calibration holds for it alone."""
    told = {name: each for name, each in prompts().items() if name not in ("itself", "card")}
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def read_calibration(path: Path, *, lm: str) -> Calibration:
    """What ``experiments/photochat.py`` has found out about ``lm`` on held-out dialogues. Raises
    DataError for another file, UsageError for one of another LLM or of other prompts."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = ("threshold", "scale", "bias")
        told = Calibration(**{name: float(found[name]) for name in names})
        sound = all(map(math.isfinite, vars(told).values())) and 0 <= told.threshold <= 1
        of = (str(found["lm"]), str(found["prompts"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f'the calibration "{path}" cannot be read ({type(error).__name__}: {error}); wanted '
            "calibration.json as experiments/photochat.py writes it; name that"
        ) from error
    if not sound:
        raise DataError(
            f'the calibration "{path}" holds numbers that are none; wanted scale, bias and a '
            "threshold from 0 to 1; make it again with experiments/photochat.py"
        )
    if of != (lm, prompts_digest()):
        raise UsageError(
            f'the calibration "{path}" is of {of[0]}, prompts {of[1]}; wanted {lm}, prompts '
            f"{prompts_digest()}; make one with experiments/photochat.py --lm {lm}"
        )
    return told


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
            logits.append(logit(chance))
        means.append(sum(logits) / len(logits))
    above, below = means
    return sigma((above + below) / 2) if above > below else THRESHOLD


def one_line(text: str) -> str:
    """What a description says: its first line with words; "" without any."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = " ".join(line.split()).strip("\"'*` ")[:MAX_DESCRIPTION]
    return line if re.search(r"\w", line) else ""


def asked(step: str, turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The messages that ask about the talk so far, or its last turns."""
    speakers = prompts()["speakers"]
    last = turns[-prompts()[step].get("last_turns", len(turns)) :]
    return _put(step, "\n".join(f"{speakers[turn.speaker]}: {line_of(turn)}" for turn in last))


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


def to_say(turns: Sequence[Turn], state: str = "") -> list[dict[str, str]]:
    """The messages whose answer is what it says next; ``state``: of a photo that goes with it."""
    system = (prompts()["say"]["system"] + state).strip()
    return [{"role": "system", "content": system}, *as_chat(turns)]


def as_chat(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The talk as messages that take turns, as templates want them; the user's first."""
    messages: list[dict[str, str]] = []
    for turn in turns:
        role = "user" if turn.speaker == USER else "assistant"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + line_of(turn)
        else:
            messages.append({"role": role, "content": line_of(turn)})
    return messages if messages[0]["role"] == "user" or len(messages) == 1 else messages[1:]


def line_of(turn: Turn) -> str:
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
