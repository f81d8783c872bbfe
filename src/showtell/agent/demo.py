"""``make demo``: three conversations with the shipped model, in the terminal and as a page.

The user's lines are committed (here and in world/talk.py); what the agent says, when it shares a
photo and what is on it is generated live. The third conversation repeats the first one's request in
the negative: same model, same seed, no photo.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.agent.exits import exit_code_of
from showtell.agent.page import Conversation, write_page
from showtell.agent.session import ChatModel, Session, png_bytes
from showtell.agent.terminal import Screen, photo_lines, screen_of, text_lines
from showtell.data.storage import write_atomically
from showtell.dialogue import USER, Photo, Turn

if TYPE_CHECKING:
    from PIL.Image import Image


TITLES = (  # of the openings in world/talk.py, in their order
    "Two red dogs at sunset",
    "Mia in the rain",
    "Luna under the table",
    "Three yellow ducks",
    "A blue boat at night",
    "Biscuit on the table",
    "A pink cactus",
    "Two pink cakes",
    "Leo in the snow",
    "Three white rabbits",
    "The orange bus",
    "A purple robot",
)
THANKS = (
    "haha, amazing! how is your sister?",
    "wow, so cute! what are you up to this weekend?",
    "i love it, thanks! any news?",
    "no way, that's funny! how's it going over there?",
)
AFTER_TELLING = (
    "haha, thanks for telling me! how is your sister?",
    "good story! what are you up to this weekend?",
    "ok, thanks! any news?",
)
SHOWING = (
    "look at this",
    "guess where i am",
    "want to see what i'm looking at?",
    "check this out!",
)
QUESTIONS = (
    "what do you see in it?",
    "quick quiz: how many?",
    "what time of day would you say?",
    "how does the weather look to you?",
    "which color do you see?",
)


def converse(
    model: ChatModel,
    script: Sequence[Sequence[Turn]],
    *,
    title: str,
    subtitle: str,
    seed: int,
    images: Mapping[str, Image] | None = None,
) -> Conversation:
    """Let the model answer each group of the user's turns; ``images`` are the user's own."""
    session = Session(model, seed=seed)
    for turns in script:
        ids = [photo.id for turn in turns for photo in turn.photos]
        session.say_turns(turns, images={id: (images or {})[id] for id in ids})
    return Conversation(
        title=title,
        subtitle=subtitle,
        turns=session.turns,
        p_share=tuple(session.p_share),
        images=session.images,
    )


def three_conversations(model: ChatModel, *, seed: int) -> list[Callable[[], Conversation]]:
    """The three, to be held one after the other: asked, shown, asked not to."""
    from photoworld.drawing import draw
    from photoworld.scenes import sample_scene
    from photoworld.talk import NEGATED, OPENINGS

    rng = random.Random(seed)
    number = rng.randrange(len(OPENINGS))
    thanks, showing = rng.choice(THANKS), rng.choice(SHOWING)
    question, after_telling = rng.choice(QUESTIONS), rng.choice(AFTER_TELLING)
    scene = sample_scene(rng)
    photo = Photo(id="user-photo", origin="user", labels={"scene": scene.as_dict()})

    def says(*elements: str | Photo) -> list[Turn]:
        return [Turn(speaker=USER, elements=(element,)) for element in elements]

    def asked() -> Conversation:
        return converse(
            model,
            [says(OPENINGS[number]), says(thanks)],
            title=TITLES[number],
            subtitle="The user asks for a photo.",
            seed=seed,
        )

    def seen() -> Conversation:
        return converse(
            model,
            [says(showing, photo), says(question)],
            title="What do you see?",
            subtitle="The user shows one; the agent sees its pixels, and no caption.",
            seed=seed,
            images={photo.id: draw(scene)},
        )

    def not_asked() -> Conversation:
        return converse(
            model,
            [says(NEGATED[number]), says(after_telling)],
            title="The same, but please don't",
            subtitle="The first request in the negative, with the same seed.",
            seed=seed,
        )

    return [asked, seen, not_asked]


def print_conversation(
    conversation: Conversation, screen: Screen, write: Callable[[str], None], *, files: dict
) -> None:
    """Turn by turn, P(share) beside the agent's; ``files`` says where photos were written."""
    write("")
    write(screen.style(f"{conversation.title}", "bold"))
    write(screen.style(conversation.subtitle, "dim"))
    for turn, p_share in zip(conversation.turns, conversation.p_share, strict=True):
        text = turn.text
        if text or p_share is not None:
            text = text or "(shares a photo)"
            for line in text_lines(turn.speaker, text, screen, p_share=p_share):
                write(line)
        for photo in turn.photos:
            image = conversation.images.get(photo.id)
            for line in photo_lines(
                photo, image, screen, indent=10, where=files.get((id(conversation), photo.id))
            ):
                write(line)


def run_demo(
    model: ChatModel, *, seed: int, out: Path, screen: Screen, write: Callable[[str], None]
) -> Path:
    """Hold, print and write the three conversations; the path of the page."""
    write(f"Three conversations with {model.name}, seed {seed}: the user's lines are fixed,")
    write("the agent's words, moments and photos are generated now.")
    start = time.perf_counter()
    conversations, num_photos = [], 0
    for number, hold in enumerate(three_conversations(model, seed=seed), start=1):
        conversation = hold()
        files = {}
        for k, photo in enumerate((p for t in conversation.turns for p in t.photos), start=1):
            if photo.id in conversation.images:
                path = out / f"conversation-{number}-photo-{k}.png"
                write_atomically(path, png_bytes(photo, conversation.images[photo.id]))
                files[id(conversation), photo.id] = str(path)
                num_photos += 1
        print_conversation(conversation, screen, write, files=files)
        conversations.append(conversation)
    page = write_page(
        out / "index.html",
        conversations,
        title="Tell and show",
        lead=(
            "Three conversations with a small model that decides by itself when a photo belongs, "
            "and paints it. The bar under each of its turns is the probability, before the turn "
            "began, that it would share one."
        ),
        foot=f"Generated by {model.name}, seed {seed}. Photos marked by the agent are painted, "
        f"not taken. Chat yourself: {chat_command()}",
    )
    write("")
    write(f"Wrote {page} (open it in a browser) and {num_photos} of its photos as {out}/*.png")
    write(f"in {time.perf_counter() - start:.1f} s. Another page: make demo SEED={seed + 1}")
    write(f"Chat yourself: {chat_command()}")
    return page


def chat_command() -> str:
    """The command as it can be typed here, with the environment's path if it lies below."""
    command = Path(sys.executable).parent / "showtell"
    cwd = Path.cwd()
    short = command.relative_to(cwd) if command.is_relative_to(cwd) else command
    return f"{short} chat"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of the demonstration."""
    parser = argparse.ArgumentParser(prog="showtell demo", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="another seed, another page (0)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write (demo)")
    parser.add_argument("--model", default="mini", help="a shipped model or a directory (mini)")
    arguments = parser.parse_args(argv)

    def action() -> None:
        from showtell.models.decoder import Decoder
        from showtell.models.respond import Responder
        from showtell.papers import load_model

        print("Loading the model ...", file=sys.stderr, flush=True)
        run_demo(
            Responder(Decoder(load_model(arguments.model))),
            seed=arguments.seed,
            out=arguments.out,
            screen=screen_of(sys.stdout),
            write=lambda line: print(line, flush=True),
        )

    return exit_code_of(action)


if __name__ == "__main__":
    sys.exit(main())
