"""``showtell demo``: conversations with the shipped models, in the terminal and as a page.

The user's lines are fixed (here and in the photo world's talk); what the agent says, when it shares
a photo and what is on it is generated live. ``home`` finds photos in the sample album; ``mini``
paints in the drawn world, and its third conversation repeats the first one's request in the
negative: same model, same seed, no photo.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.text import Text

from showtell.agent.page import LEAD, Held, write_page
from showtell.agent.provenance import photo_file
from showtell.agent.session import Answering, Session
from showtell.agent.terminal import ASIDE, turn_lines
from showtell.data.photos import photo_image
from showtell.data.storage import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.models.dialogue_model import PhotoDialogueModel

THANKS = ("haha, amazing! how is your sister?", "i love it, thanks! any news?")
AFTER_TELLING = ("haha, thanks for telling me! how is your sister?", "ok, thanks! any news?")
SHOWING = ("look at this", "guess where i am", "want to see what i'm looking at?")
GREETINGS = ("Hi! How was your weekend?", "Hey, how are you today?", "Hi there! What's new?")
ALBUM_TALKS = (
    ("Do you have a dog? I'd love to see a photo of him!", "So cute! What's his name?"),
    ("I heard you bought a toy robot. Can you show me a picture?", "Cool! Can it walk?"),
    ("Did you buy new shoes? Please send me a photo!", "They look great. Where did you get them?"),
)
QUESTIONS = ("what do you see in it?", "quick quiz: how many?", "what time of day would you say?")

Lines = list[tuple[str, list["Image"]]]  # what the user says: words with photos beside them


class Talk(NamedTuple):
    """A conversation to be held: its title, what it is, and the user's side."""

    title: str
    subtitle: str
    lines: Lines


def home_talks(seed: int) -> list[Talk]:
    """The user's side of a talk about the photos of the sample album."""
    rng = random.Random(seed)
    return [
        Talk(
            "Photos of one's own",
            "It finds photos in an album of 29; a request is met whatever P(share) is.",
            [(line, []) for line in (rng.choice(GREETINGS), *rng.choice(ALBUM_TALKS))],
        )
    ]


def mini_talks(seed: int) -> list[Talk]:
    """The user's side of three: asks for a photo, shows one, wants none."""
    from showtell.data.world import NEGATED, OPENINGS, open_world

    rng = random.Random(seed)
    number = rng.randrange(len(OPENINGS))
    photo = photo_image(open_world("world:photos:test")[seed % 1000].photos[0])
    asks: Lines = [(OPENINGS[number], []), (rng.choice(THANKS), [])]
    shows = [(rng.choice(SHOWING), [photo]), (rng.choice(QUESTIONS), [])]
    declines: Lines = [(NEGATED[number], []), (rng.choice(AFTER_TELLING), [])]
    return [
        Talk("Show me, please", "The user asks for a photo.", asks),
        Talk("What do you see?", "The user shows one; the agent sees pixels, no caption.", shows),
        Talk(
            "The same, but please don't", "The first request in the negative, same seed.", declines
        ),
    ]


def run_demo(
    agents: Sequence[tuple[PhotoDialogueModel | Answering, Sequence[Talk]]],
    *,
    seed: int,
    out: Path,
    console: Console,
) -> Path:
    """Hold, print and write the talks of each agent; the path of the page."""
    start = time.perf_counter()
    held: list[Held] = []
    num_photos = 0
    for agent, talks in agents:
        name = getattr(agent, "name", "")
        console.print(
            f"{len(talks)} conversation{'s' * (len(talks) > 1)} with {name}, seed {seed}: the "
            "user's lines are fixed,\nthe agent's words, moments and photos are generated now."
        )
        for talk in talks:
            number = len(held) + 1
            session, files = _held(agent, talk, seed=seed, out=out, number=number)
            console.print("", Text(talk.title, "bold"), Text(talk.subtitle, ASIDE), sep="\n")
            for turn, p_share in zip(session.turns, session.p_share, strict=True):
                for line in turn_lines(turn, session.images, console, files=files, p_share=p_share):
                    console.print(line)
            num_photos += len(files)
            held.append(Held(talk.title, f"{name}: {talk.subtitle}", session))
        console.print("")
    lead = f"Conversations with small models. {LEAD}"
    page = write_page(out / "index.html", held, lead=lead)
    console.print(
        f"Wrote {page} (open it in a browser) and {num_photos} of its photos beside it\n"
        f"in {time.perf_counter() - start:.1f} s. Another page: make demo SEED={seed + 1}\n"
        f"Chat yourself: {chat_command()}"
    )
    return page


def _held(
    agent: PhotoDialogueModel | Answering, talk: Talk, *, seed: int, out: Path, number: int
) -> tuple[Session, dict[str, Path]]:
    """A talk, held now, and the files of its photos by their ids."""
    session = Session(agent, seed=seed)
    files: dict[str, Path] = {}
    for text, photos in talk.lines:
        session.say(text, photos)
    for photo in (photo for turn in session.turns for photo in turn.photos):
        if photo.id in session.images:
            path = out / f"conversation-{number}-photo-{len(files) + 1}.png"
            files[photo.id] = write_atomically(path, photo_file(photo, session.images[photo.id]))
    return session, files


def chat_command() -> str:
    """The command as it can be typed here, with the environment's path if it lies below."""
    command, here = Path(sys.executable).parent / "showtell", Path.cwd()
    short = command.relative_to(here) if command.is_relative_to(here) else command
    return f"{short} chat"
