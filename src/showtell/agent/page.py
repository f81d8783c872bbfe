"""Conversations as one HTML page: photos inside it as data URIs, no script, no other file.

``page.html`` beside this file holds the frame and the style; this module fills in the turns.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from showtell.data.storage import write_atomically
from showtell.dialogue import USER, Photo, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_SIZE = 256  # a 64-pixel photo enlarged smoothly; browsers would show its pixels or a blur


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What is needed to show a conversation: one P(share) a turn, None for the user's turns."""

    title: str
    turns: tuple[Turn, ...]
    p_share: tuple[float | None, ...]
    images: Mapping[str, Image] = field(default_factory=dict)
    subtitle: str = ""

    def __post_init__(self) -> None:
        if len(self.turns) != len(self.p_share):
            raise ValueError(f"{len(self.turns)} turns but {len(self.p_share)} values of p_share")


def write_page(
    path: Path, conversations: Sequence[Conversation], *, title: str, lead: str, foot: str
) -> Path:
    """Write the page atomically and return its path."""
    page = render_page(conversations, title=title, lead=lead, foot=foot)
    return write_atomically(path, page.encode())


def render_page(conversations: Sequence[Conversation], *, title: str, lead: str, foot: str) -> str:
    """The whole page. Every text is escaped; nothing in it loads anything from anywhere."""
    frame = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    cards = "\n".join(_conversation(c, number=k) for k, c in enumerate(conversations, start=1))
    return frame.substitute(
        title=html.escape(title), lead=html.escape(lead), foot=html.escape(foot), cards=cards
    )


def _conversation(conversation: Conversation, *, number: int) -> str:
    speakers = [None, *(turn.speaker for turn in conversation.turns)]
    turns = "\n".join(
        _turn(turn, p_share, conversation.images, again=turn.speaker == before)
        for before, turn, p_share in zip(
            speakers, conversation.turns, conversation.p_share, strict=False
        )
    )
    subtitle = f"<p>{html.escape(conversation.subtitle)}</p>" if conversation.subtitle else ""
    return (
        f'<section class="card" aria-labelledby="c{number}"><header>'
        f'<h2 id="c{number}">{html.escape(conversation.title)}</h2>{subtitle}</header>\n'
        f'<ol class="turns">\n{turns}\n</ol></section>'
    )


def _turn(turn: Turn, p_share: float | None, images: Mapping[str, Image], *, again: bool) -> str:
    who, name = ("user", "You") if turn.speaker == USER else ("agent", "Showtell")
    name_class = "name again" if again else "name"  # said once for the eye, always for the ear
    parts = []
    for element in turn.elements:
        if isinstance(element, Photo):
            parts.append(_photo(element, images.get(element.id)))
        elif element:
            text = html.escape(element).replace("\n", "<br>")
            parts.append(f'<p class="bubble">{text}</p>')
    if p_share is not None:
        parts.append(_bar(p_share))
    return f'<li class="{who}"><span class="{name_class}">{name}</span>{"".join(parts)}</li>'


def _photo(photo: Photo, image: Image | None) -> str:
    caption = html.escape(photo.caption, quote=True)
    if image is None:
        return (
            f'<p class="bubble described"><span aria-hidden="true">📷</span> '
            f"{caption or 'a photo that cannot be shown'}</p>"
        )
    alt = caption or ("the photo that you shared" if photo.origin == "user" else "a photo")
    words = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure class="photo {html.escape(photo.origin)}"><img src="{data_uri(image)}" '
        f'alt="{alt}" width="{SHOWN_SIZE}" height="{SHOWN_SIZE}">{words}</figure>'
    )


def _bar(p_share: float) -> str:
    percent = round(100 * max(0.0, min(1.0, p_share)))
    return (
        f'<div class="share{" high" if percent >= 50 else ""}" role="img" '
        f'aria-label="probability of sharing a photo: {percent} percent">'
        f'<span>P(share)</span><span class="track"><i style="width:{percent}%"></i></span>'
        f"<b>{p_share:.2f}</b></div>"
    )


def data_uri(image: Image) -> str:
    """The image, enlarged to 256 pixels if smaller, as a ``data:image/png`` address."""
    from PIL.Image import Resampling

    if image.width < SHOWN_SIZE:
        height = round(image.height * SHOWN_SIZE / image.width)
        image = image.resize((SHOWN_SIZE, height), Resampling.LANCZOS)
    buffer = BytesIO()
    image.convert("RGB").save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
