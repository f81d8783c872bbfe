"""What clients ask, in the shapes that they send it: checked, and as turns with photos.

Nothing that was sent is left out in silence: a part of a kind that is not read is refused by name,
and what a small model does not read (a system's text, tools) is a note of the answer.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from showtell.dialogue import AGENT, USER, Element, Origin, Photo, Turn
from showtell.errors import UsageError
from showtell.models.speech import without_thoughts
from showtell.serve.outside import Outside
from showtell.serve.photos_in import is_photo_part, photo_from_part, photo_sent_back

if TYPE_CHECKING:
    from PIL.Image import Image

Dialect = Literal["images", "parts", "markdown"]
MAX_MESSAGES, MAX_PHOTOS = 2_000, 16
LOOK = "Look at this!"  # what a photo without words says
_TEXTS = ("text", "input_text", "output_text")


class Ours(BaseModel):
    """What only our clients send."""

    model_config = ConfigDict(extra="forbid")

    conversation: str | None = Field(
        None, max_length=100, description='A conversation that is kept here, or "new".'
    )
    previews: bool = Field(False, description="Whether previews of a painting are wanted.")


class ChatRequest(BaseModel):
    """/v1/chat/completions: the fields that count here; others are let pass."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, max_length=300)
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: int = Field(1, ge=1, le=1, description="One answer, always.")
    image_output: Dialect = Field(
        "images", description="How photos come: images (delta.images), parts, or markdown links."
    )
    showtell: Ours | None = None


_UNREAD = (
    *("tools", "tool_choice", "functions", "temperature", "top_p", "max_tokens", "stop"),
    *("max_completion_tokens", "response_format", "logprobs", "logit_bias", "reasoning_effort"),
)


def unread(asked: BaseModel) -> list[str]:
    """Notes on what a request asks for and nobody reads here."""
    more = asked.model_extra or {}
    return [f"{name} is not read by this agent" for name in _UNREAD if more.get(name) is not None]


@dataclass(kw_only=True)
class Said:
    """One message: who, the text, the photos."""

    speaker: Literal["user", "agent"]
    text: str
    photos: list[Image] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)  # of the agent's photos


@dataclass(kw_only=True)
class Asked:
    """What was said before, oldest first, what is said now, and what the answer should note."""

    before: list[Said]
    text: str
    photos: list[Image]
    notes: list[str]

    @property
    def all(self) -> list[Said]:
        """What was said, to the last."""
        return [*self.before, Said(speaker=USER, text=self.text, photos=self.photos)]


def asked_of(messages: Sequence[Mapping[str, Any]], *, outside: Outside) -> Asked:
    """The messages of a chat. Raises UsageError, PhotoError, FetchError."""
    said: list[Said] = []
    notes: list[str] = []
    photos_seen = 0
    for number, message in enumerate(messages, start=1):
        where = f"messages[{number - 1}]"
        role = message.get("role")
        if role in ("system", "developer", "tool", "function"):
            notes.append(f"what the {role} says is not read by this agent")
            continue
        if role not in ("user", "assistant"):
            raise UsageError(
                f"{where} has the role {role!r:.40}; wanted user, assistant or system; name one"
            )
        text, parts = _content(message.get("content"), where)
        parts += message.get("images") or []
        photos_seen += len(parts)
        if photos_seen > MAX_PHOTOS:
            raise UsageError(
                f"the messages hold more than {MAX_PHOTOS} photos; send the last ones alone"
            )
        if message.get("tool_calls"):
            notes.append("calls of tools are not read by this agent")
        if role == "assistant":
            text = without_thoughts(text)
        each = Said(speaker=USER if role == "user" else AGENT, text=text)
        for k, part in enumerate(parts, start=1):
            name = f"photo {k} of {where}"
            if each.speaker == USER:
                each.photos.append(photo_from_part(part, outside=outside, name=name))
            else:
                image, origin = photo_sent_back(part, outside=outside, name=name)
                each.photos.append(image)
                each.origins.append(origin)
        said.append(each)
    if not said or said[-1].speaker != USER:
        raise UsageError("the last message is not the user's; wanted one to answer; send it last")
    last = said.pop()
    while said and said[-1].speaker == USER:  # several in a row are one
        earlier = said.pop()
        last.text = f"{earlier.text}\n{last.text}".strip()
        last.photos = earlier.photos + last.photos
    if not last.text.strip() and not last.photos:
        raise UsageError("the last message is empty; wanted a text or a photo; say something")
    text = last.text if last.text.strip() else LOOK
    return Asked(before=said, text=text, photos=last.photos, notes=list(dict.fromkeys(notes)))


def _content(content: Any, where: str) -> tuple[str, list[Any]]:
    """(the text, the parts with a photo) of a message's content."""
    if content is None:
        return "", []
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise UsageError(
            f"{where}.content is a {type(content).__name__}; wanted a text or a list of parts"
        )
    texts, photos = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in _TEXTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "refusal":
            texts.append(str(part.get("refusal", "")))
        elif is_photo_part(part):
            photos.append(part)
        else:
            raise UsageError(
                f"{where} has a part of type {kind!r:.40}; wanted text or image_url; leave it out"
            )
    return "\n".join(texts), photos


# ------------------------------------------------------- what clients send back as text alone


def fingerprint(text: str) -> str:
    """Of a text as a client may send it back: without its pictures, blanks and case."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def turns_of(
    said: Sequence[Said], recalled: Mapping[str, Sequence[tuple[Photo, Image]]]
) -> tuple[tuple[Turn, ...], dict[str, Image]]:
    """The turns of what was said, and the photos' pixels. ``recalled``: by the fingerprint of a
    text of ours the photos that went with it; those count before what the client sends back."""
    turns: list[Turn] = []
    images: dict[str, Image] = {}
    for number, each in enumerate(said):
        shown: list[tuple[Photo, Image]] = []
        if each.speaker == AGENT:
            shown = list(recalled.get(fingerprint(each.text), ()))
        if not shown:
            origins = each.origins or ["user"] * len(each.photos)
            shown = [
                (Photo(id=f"sent-{number}-{k}", origin=origin), image)
                for k, (image, origin) in enumerate(zip(each.photos, origins, strict=True))
            ]
        elements: list[Element] = [line for line in [each.text.strip()] if line]
        for element in [*elements, *(photo for photo, _ in shown)]:
            turns.append(Turn(speaker=each.speaker, elements=(element,)))
        images |= {photo.id: image for photo, image in shown}
    return tuple(turns), images
