"""An answer as chat completions, in three dialects of photos.

    images     delta.images or message.images, each once, whole, with its index (the default)
    parts      content is a list of parts
    markdown   a link in the text, never base64

Streams name what goes on in a field "showtell" of a chunk, which other clients let pass: "due" (a
photo was decided on), "preview", "photo", "note", "end".
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from showtell.serve.wire import Dialect

if TYPE_CHECKING:
    from PIL.Image import Image

DONE = "data: [DONE]\n\n"
WAITING = ": still here\n\n"


@dataclass(frozen=True, kw_only=True)
class PhotoOut:
    """A photo as clients get it: ``url`` below this server, for who has the key; ``link``: of its
    address for anybody who is given that."""

    id: str
    origin: str
    caption: str
    seed: int | None
    data: bytes
    url: str
    link: str
    hits: Sequence[tuple[str, float]] = ()

    def address(self, base: str) -> str:
        """Where anybody may get it; ``base``: the server's own address."""
        return f"{base}p/{self.link}"

    @property
    def base64(self) -> str:
        return base64.b64encode(self.data).decode()

    @property
    def data_uri(self) -> str:
        return f"data:image/png;base64,{self.base64}"

    @property
    def told(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "origin": self.origin,
            "caption": self.caption,
            "alt": self.caption or "a photo",
            "seed": self.seed,
            "url": self.url,
            "hits": [{"id": id, "score": round(score, 3)} for id, score in self.hits],
        }


def preview_base64(image: Image) -> str:
    """A small JPEG of a preview."""
    data = io.BytesIO()
    image.convert("RGB").save(data, format="JPEG", quality=70)
    return base64.b64encode(data.getvalue()).decode()


def spoken(text: str, *, held: str, begun: bool) -> tuple[str, str]:
    """(what of a piece is told now, what is held back): blanks and line feeds wait for words behind
    them, and before the first words (``begun``) there are none."""
    text = held + text if begun else text.lstrip()
    kept = text.rstrip()
    return kept, text[len(kept) :]


def event_line(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


@dataclass(kw_only=True)
class ChatOut:
    """One answer on the wire of chat completions."""

    id: str
    model: str
    base: str
    dialect: Dialect = "images"
    created: int = field(default_factory=lambda: int(time.time()))
    _parts: list[dict[str, Any]] = field(default_factory=list)
    _images: list[dict[str, Any]] = field(default_factory=list)
    _text: str = ""
    _break: str = ""  # a line feed that counts only if words follow
    _began: bool = False

    # ------------------------------------------------------------------------------ as a stream

    def words(self, text: str) -> list[str]:
        """Chunks of a piece of text."""
        said = self._said(text)
        if not said:
            return []
        content: Any = [{"type": "text", "text": said}] if self.dialect == "parts" else said
        return [self._chunk({"content": content})]

    def photo(self, photo: PhotoOut) -> list[str]:
        """Chunks of a photo: whole, once."""
        told = {"event": "photo", **photo.told}
        if self.dialect == "markdown":
            said = self._said(("\n\n" if self._text else "") + self._markdown(photo) + "\n\n")
            return [self._chunk({"content": said}, told=told)]
        part = self._photo_part(photo)
        delta = {"content": [part]} if self.dialect == "parts" else {"images": [part]}
        return [self._chunk(delta, told=told)]

    def event(self, told: Mapping[str, Any]) -> str:
        return self._chunk({}, told=told)

    def end(
        self, *, usage: Mapping[str, Any] | None, told: Mapping[str, Any] | None = None
    ) -> list[str]:
        """The last chunks. ``usage``: None where it was not asked for."""
        last = [self._chunk({}, finish="stop", told=told)]
        if usage is not None:
            last.append(
                event_line({**self._head("chat.completion.chunk"), "choices": [], "usage": usage})
            )
        return [*last, DONE]

    def _chunk(
        self,
        delta: Mapping[str, Any],
        *,
        finish: str | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> str:
        if not self._began:
            delta, self._began = {"role": "assistant", **delta}, True
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if told is not None:
            chunk["showtell"] = told
        return event_line(chunk)

    # --------------------------------------------------------------------------------- as a whole

    def whole(self, *, usage: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
        """All that ``words`` and ``photo`` were told."""
        message: dict[str, Any] = {"role": "assistant", "content": self._text.strip()}
        if self.dialect == "parts":
            message["content"] = self._parts
        elif self.dialect == "images" and self._images:
            message["images"] = self._images
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage,
            "showtell": told,
        }

    @property
    def text(self) -> str:
        """The text that a client gets, which it may send back."""
        return self._text.strip()

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _said(self, text: str) -> str:
        """What of a piece is told now (``spoken``)."""
        kept, self._break = spoken(text, held=self._break, begun=bool(self._text))
        if not kept:
            return ""
        self._text += kept
        if self._parts and self._parts[-1]["type"] == "text":
            self._parts[-1]["text"] += kept
        else:
            self._parts.append({"type": "text", "text": kept.lstrip()})
        return kept

    def _photo_part(self, photo: PhotoOut) -> dict[str, Any]:
        part: dict[str, Any] = {"type": "image_url", "image_url": {"url": photo.data_uri}}
        self._parts.append(part)
        if self.dialect == "images":
            part = {**part, "index": len(self._images)}
        self._images.append(part)
        return part

    def _markdown(self, photo: PhotoOut) -> str:
        alt = "".join(c for c in photo.told["alt"] if c not in "[]()!\\`<>\n\r")
        return f"![{alt}]({photo.address(self.base)})"
