"""``showtell demo``: three conversations with the shipped model, in the terminal and as a page.

The user's lines are fixed (here and in the photo world's talk); what the agent says, when it shares
a photo and what is on it is generated live. The third conversation repeats the first one's request
in the negative: same model, same seed, no photo.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from showtell.agent.page import LEAD, write_page
from showtell.agent.session import Session, png_bytes
from showtell.agent.terminal import ASIDE, turn_lines
from showtell.data.photos import photo_image
from showtell.data.storage import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.models.dialogue_model import PhotoDialogueModel
    from showtell.models.respond import Responder

THANKS = ("haha, amazing! how is your sister?", "i love it, thanks! any news?")
AFTER_TELLING = ("haha, thanks for telling me! how is your sister?", "ok, thanks! any news?")
SHOWING = ("look at this", "guess where i am", "want to see what i'm looking at?")
QUESTIONS = ("what do you see in it?", "quick quiz: how many?", "what time of day would you say?")

Lines = list[tuple[str, list["Image"]]]  # what the user says: words with photos beside them


def scripts(seed: int) -> list[tuple[str, str, Lines]]:
    """Title, subtitle and the user's side of the three: asks for a photo, shows one, wants none."""
    from showtell.data.world import NEGATED, OPENINGS, open_world

    rng = random.Random(seed)
    number = rng.randrange(len(OPENINGS))
    photo = photo_image(open_world("world:photos:test")[seed % 1000].photos[0])
    asks: Lines = [(OPENINGS[number], []), (rng.choice(THANKS), [])]
    shows = [(rng.choice(SHOWING), [photo]), (rng.choice(QUESTIONS), [])]
    declines: Lines = [(NEGATED[number], []), (rng.choice(AFTER_TELLING), [])]
    return [
        ("Show me, please", "The user asks for a photo.", asks),
        ("What do you see?", "The user shows one; the agent sees pixels and no caption.", shows),
        ("The same, but please don't", "The first request in the negative, same seed.", declines),
    ]


def run_demo(
    model: PhotoDialogueModel | Responder, *, seed: int, out: Path, console: Console
) -> Path:
    """Hold, print and write the three conversations; the path of the page."""
    console.print(
        f"Three conversations with {model.name}, seed {seed}: the user's lines are fixed,\n"
        "the agent's words, moments and photos are generated now."
    )
    start = time.perf_counter()
    held, num_photos = [], 0
    for number, (title, subtitle, lines) in enumerate(scripts(seed), start=1):
        session = Session(model, seed=seed)
        for text, photos in lines:
            session.say(text, photos)
        files: dict[str, Path] = {}
        for photo in (photo for turn in session.turns for photo in turn.photos):
            if photo.id in session.images:
                path = out / f"conversation-{number}-photo-{len(files) + 1}.png"
                files[photo.id] = write_atomically(path, png_bytes(photo, session.images[photo.id]))
        console.print("", Text(title, "bold"), Text(subtitle, ASIDE), sep="\n")
        for turn, p_share in zip(session.turns, session.p_share, strict=True):
            for line in turn_lines(turn, session.images, console, files=files, p_share=p_share):
                console.print(line)
        held.append((title, subtitle, session))
        num_photos += len(files)
    lead = f"Three conversations with a small model. {LEAD}"
    page = write_page(out / "index.html", held, lead=lead)
    console.print(
        f"\nWrote {page} (open it in a browser) and {num_photos} of its photos beside it\n"
        f"in {time.perf_counter() - start:.1f} s. Another page: make demo SEED={seed + 1}\n"
        f"Chat yourself: {chat_command()}"
    )
    return page


def chat_command() -> str:
    """The command as it can be typed here, with the environment's path if it lies below."""
    command, here = Path(sys.executable).parent / "showtell", Path.cwd()
    short = command.relative_to(here) if command.is_relative_to(here) else command
    return f"{short} chat"
