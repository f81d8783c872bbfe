"""Engines behind an address: what speaks the ordinary wire of chat completions and images.

    POST ADDRESS/chat/completions     stream; or max_tokens 1 with logprobs and top_logprobs 20
    POST ADDRESS/images/generations   b64_json, or an address on the same host
    GET  ADDRESS/models               which model, unless the address ends in #MODEL

How a server is asked, and what it may do, is in endpoint.py. Ctrl-C (any exception out of
``on_text``) hangs up.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests

from showtell.agent.endpoint import MAX_BYTES, Endpoint, Files, lines, short
from showtell.agent.engines import (
    AT_ONCE,
    SPELLINGS,
    TOP_P,
    Chances,
    Messages,
    Said,
    Spoken,
    ToldStep,
    ToldText,
    chances,
    chances_in_words,
    label_of,
)
from showtell.errors import EngineError, PhotoError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PHOTO_BYTES = 50_000_000
TOP = 20  # logprobs that servers tell


class RemoteLanguage:
    """An LLM behind chat completions."""

    max_bytes = 12_000
    at_once = AT_ONCE

    def __init__(self, address: str, *, timeout_s: float = 60.0, longest_s: float = 300.0) -> None:
        """Asks the server for its model. Raises UsageError, EngineError."""
        self.endpoint = Endpoint(
            address, what="the language model", timeout_s=timeout_s, longest_s=longest_s
        )
        self.name = self.endpoint.model()
        self._tells_logprobs = True

    def say(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        on_text: ToldText | None = None,
    ) -> Said:
        """Its answer; ``on_text`` hears each piece as it comes. Where the line breaks, what was
        said until then, and why. Raises EngineError if nothing was."""
        spoken = Spoken(on_text)
        body = {
            "model": self.name,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": TOP_P,
            "seed": seed,
            "stream": True,
        }
        broken = ""
        try:
            with self.endpoint.asked(
                "POST", self.endpoint.base + "/chat/completions", body
            ) as answer:
                self._listen(answer, spoken)
                spoken.end()
        except EngineError as error:
            if not spoken.text.strip():
                raise
            broken = str(error)
        if spoken.full:
            broken = f"{self.endpoint.what} says more than fits into a turn; the rest is left out"
        return Said(text=spoken.text.strip(), broken=broken)

    def _listen(self, answer: requests.Response, spoken: Spoken) -> None:
        """The answer's text into ``spoken``, from a stream of events or at once."""
        chunks = self.endpoint.chunks(answer, max_bytes=MAX_BYTES)
        if "text/event-stream" not in answer.headers.get("Content-Type", ""):
            message = self._choice(self.endpoint.parsed(b"".join(chunks))).get("message")
            spoken.add(self._text(message))
            return
        ended = False
        for line in lines(chunks):
            if spoken.full:
                return
            if not line.startswith("data:"):
                continue  # a comment, the name of an event
            if (data := line.removeprefix("data:").strip()) == "[DONE]":
                return
            said = self.endpoint.parsed(data)
            if not said.get("choices"):
                continue  # what it used
            choice = self._choice(said)
            spoken.add(self._text(choice.get("delta")))
            ended = ended or choice.get("finish_reason") is not None
        if not ended:
            raise self.endpoint.wrong("hung up half-way")

    def probability(self, messages: Messages, labels: Sequence[str]) -> Chances:
        """From the logprobs of its first token: raw ones, of the 20 likeliest; the others are held
        to be no likelier than the last of these. Without any it is asked in words."""
        if self._tells_logprobs:
            body = {
                "model": self.name,
                "messages": list(messages),
                "max_tokens": 1,
                "temperature": 1,
                "top_p": 1,
                "logprobs": True,
                "top_logprobs": TOP,
            }
            try:
                said = self.endpoint.whole("POST", "/chat/completions", body, max_bytes=MAX_BYTES)
                top = self._top(self._choice(said))
            except EngineError as error:
                if error.code not in (400, 422, 501):  # what servers say that know no logprobs
                    raise
                top = None
            self._tells_logprobs = top is not None
            why = f"{self.name} spells no answer among its {TOP} likeliest tokens"
            if top is not None and (found := _censored(top, labels)) is not None:
                return found
        if not self._tells_logprobs:
            why = f"the server of {self.name} tells no logprobs"
        return chances_in_words(self, messages, labels, why=why)

    def _choice(self, said: Mapping[str, Any]) -> dict[str, Any]:
        choices = said.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            return choices[0]
        raise self.endpoint.wrong(f"answered without choices ({short(json.dumps(said))})")

    def _text(self, message: Any) -> str:
        """The text of a message or of a piece of one: a string, None, or parts."""
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "".join(text for text in texts if isinstance(text, str))
        if content is None and isinstance(message, dict | None):
            return ""
        if not isinstance(content, str):
            kind = type(message if not isinstance(message, dict) else content).__name__
            raise self.endpoint.wrong(f"answered a {kind} where a text belongs")
        return content

    def _top(self, choice: Mapping[str, Any]) -> list[tuple[str, float]] | None:
        """(token, chance) of the likeliest first tokens; None where the server tells none."""
        told: Any = choice.get("logprobs")
        try:
            top = told["content"][0]["top_logprobs"]
            pairs = [(entry["token"], math.exp(min(entry["logprob"], 0.0))) for entry in top]
        except (TypeError, KeyError, IndexError, OverflowError):
            return None
        sound = all(isinstance(token, str) and chance >= 0 for token, chance in pairs)
        return pairs if sound and pairs else None


def _censored(top: Sequence[tuple[str, float]], labels: Sequence[str]) -> Chances | None:
    """P of each label by the tokens that were told. One that is not among them is at most what all
    others have together, and in each of its spellings no likelier than the least that was told."""
    seen: dict[str, float] = {}
    for token, chance in top:
        if (label := label_of(token, labels)) is not None:
            seen[label] = seen.get(label, 0.0) + chance
    rest = max(0.0, 1.0 - sum(chance for _, chance in top))
    return chances(seen, labels, unseen=min(rest, SPELLINGS * min(c for _, c in top)))


class RemotePainter:
    """A painter behind images/generations, and images/edits where there is that: ``edits`` until it
    has answered that there is not."""

    at_once = AT_ONCE
    edits = True

    def __init__(self, address: str, *, timeout_s: float = 180.0, longest_s: float = 300.0) -> None:
        """Asks the server for its model. Raises UsageError, EngineError."""
        self.endpoint = Endpoint(
            address, what="the painter", timeout_s=timeout_s, longest_s=longest_s
        )
        self.name = self.endpoint.model()
        self._extras = True  # whether it takes what not all servers know

    def paint(
        self,
        caption: str,
        *,
        seed: int,
        on_step: ToldStep | None = None,
        start: Image | None = None,
        strength: float = 1.0,
    ) -> Image:
        """The photo of a caption; how much of ``start`` is changed is the server's to say. Raises
        EngineError."""
        from showtell.data.pixels import photo_from_bytes

        body: dict[str, Any] = {"model": self.name, "prompt": caption, "n": 1}
        if on_step is not None:
            on_step(0, 1)
        said: dict[str, Any] | None = None
        if start is not None and self.edits:
            try:
                said = self._asked(body, seed=seed, files={"image": _png(start)})
            except EngineError as error:
                if error.code not in (404, 405, 501):
                    raise
                self.edits = False
        data = self._bytes(said or self._asked(body, seed=seed))
        try:
            image = photo_from_bytes(data, name="the photo")
        except PhotoError as error:
            raise self.endpoint.wrong(f"sent no photo ({error})") from error
        if on_step is not None:
            on_step(1, 1)
        return image

    def _asked(
        self, body: Mapping[str, Any], *, seed: int, files: Files | None = None
    ) -> dict[str, Any]:
        path = "/images/generations" if files is None else "/images/edits"
        extras = {"response_format": "b64_json", "seed": seed} if self._extras else {}
        try:
            return self.endpoint.whole(
                "POST", path, {**body, **extras}, max_bytes=MAX_PHOTO_BYTES, files=files
            )
        except EngineError as error:
            if error.code not in (400, 422) or not self._extras:
                raise
            self._extras = False
            return self._asked(body, seed=seed, files=files)

    def _bytes(self, said: Mapping[str, Any]) -> bytes:
        """The file of the first photo, from base64 or from an address on the same host."""
        data = said.get("data")
        first = data[0] if isinstance(data, list) and data else None
        first = first if isinstance(first, dict) else {}
        if isinstance(packed := first.get("b64_json"), str) and packed:
            try:
                return base64.b64decode(packed, validate=True)
            except (binascii.Error, ValueError):
                raise self.endpoint.wrong("sent a photo that is not base64") from None
        if not isinstance(place := first.get("url"), str) or not place:
            raise self.endpoint.wrong(f"sent no photo ({short(json.dumps(said))})")
        try:
            url = urljoin(self.endpoint.base + "/", place)
            same = _host(url) == _host(self.endpoint.base)
        except ValueError:
            same = False
        if not same:
            raise self.endpoint.wrong(
                f"sent the address {short(place)}, which is not on its host, and is not followed",
                remedy="set it to send b64_json",
            )
        with self.endpoint.asked("GET", url, None) as answer:
            return b"".join(self.endpoint.chunks(answer, max_bytes=MAX_PHOTO_BYTES))


def _png(image: Image) -> tuple[str, bytes, str]:
    data = io.BytesIO()
    image.convert("RGB").save(data, format="PNG")
    return "photo.png", data.getvalue(), "image/png"


def _host(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
