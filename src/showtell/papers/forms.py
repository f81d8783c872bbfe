"""Forms: a dialogue of data as the examples that a system is trained or measured on.

    dialogue               as it is, each photo a turn of its own
    undescribed            the same, and no word is said about the agent's photos (MiniGPT-5)
    shares                 each photo that the agent shares, after all that was said before it
    captions               a photo is read, and described as the agent describes one to share
    caption_pairs          GILL: a photo is read, its caption written; and the reverse
    alignment              MiniGPT-5, first stage: a caption is read, its photo made
    story                  MiniGPT-5, second stage: all tasks of a story's steps
    narration              of these tasks the ones that write a text, without their photos
    painting               each photo of a story, its caption the texts up to it, newest first
    photo_last[:ROUNDS]    VisDial as GILL has it: first the talk (its last rounds), then the photo
    story_end:CONTEXT      the last photo of a story, after the texts and photos before it; CONTEXT
                           is both, text, photos or none. GILL: plain, one after the other
    task_end:CONTEXT       the same, asked for in MiniGPT-5's words (its table 1)
    task_steps             every photo of a story, each after all before it (its table 2)
    task_tell              every text of a story, each after all before it and its photo
    task_go_on             every step of a story but the first, text and photo, after all before it

One form is for training and measuring alike; nothing is drawn by chance at a visit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import ConfigError, DataError, did_you_mean
from showtell.models.parts import TextTower
from showtell.papers.minigpt5 import (
    Step,
    alignment_dialogue,
    asked_and_answered,
    story_dialogues,
    story_task,
    undescribed,
)

Form = Callable[[Dialogue], list[Dialogue]]
CONTEXTS = ("both", "text", "photos", "none")


def form_named(text: str, *, seed: int = 0, read: Callable[[str], str] = str) -> Form:
    """The form of that name; ``seed`` chooses wordings. Raises ConfigError.

    ``read``: what of a caption the painter reads, where a form makes long ones ("painting").
    """
    name, _, argument = text.partition(":")
    simple: dict[str, Form] = {
        "dialogue": as_dialogue,
        "undescribed": lambda dialogue: [undescribed(as_dialogue(dialogue)[0])],
        "shares": shares,
        "captions": captions,
        "caption_pairs": caption_pairs,
        "alignment": lambda dialogue: _alignment(dialogue, seed=seed),
        "story": lambda dialogue: story_dialogues(dialogue.id, steps_of(dialogue), seed=seed),
        "narration": lambda dialogue: _narration(dialogue, seed=seed),
        "painting": lambda dialogue: _painting(dialogue, read=read),
        "task_steps": lambda dialogue: _tasks(dialogue, "image_only", seed=seed),
        "task_tell": lambda dialogue: _tasks(dialogue, "text_only", seed=seed)[1:],
        "task_go_on": lambda dialogue: _tasks(dialogue, "multimodal", seed=seed)[1:],
    }
    if name in simple and not argument:
        return simple[name]
    if name == "photo_last":
        if argument and not (argument.isdecimal() and int(argument)):
            raise ConfigError(f'form "{text}": wanted a number of rounds, as in photo_last:10')
        return lambda dialogue: [photo_last(dialogue, int(argument) if argument else None)]
    if name in ("story_end", "task_end"):
        if argument not in CONTEXTS:
            raise ConfigError(f'form "{text}": no such context{did_you_mean(argument, CONTEXTS)}')
        if name == "story_end":
            return lambda dialogue: [_story_end(dialogue, argument)]
        return lambda dialogue: [_task_end(dialogue, argument, seed=seed)]
    known = (*simple, "photo_last", *(f"{end}:both" for end in ("story_end", "task_end")))
    raise ConfigError(f'there is no form "{text}"{did_you_mean(text, known)}')


def as_dialogue(dialogue: Dialogue) -> list[Dialogue]:
    """The dialogue with each photo a turn of its own, without what says and shows nothing.

    So there is one share moment a turn, at a place that is the same in training and in a chat.
    """
    if all(len(t.elements) == 1 and (t.photos or t.text.strip()) for t in dialogue.turns):
        return [dialogue]
    turns = tuple(
        Turn(speaker=turn.speaker, elements=(element,), labels=turn.labels)
        for turn in dialogue.turns
        for element in turn.elements
        if isinstance(element, Photo) or element.strip()
    )
    return [replace(dialogue, turns=turns)]


def shares(dialogue: Dialogue) -> list[Dialogue]:
    """The dialogue up to each photo that the agent shares: every example ends in one."""
    (whole,) = as_dialogue(dialogue)
    return [
        replace(whole, id=f"{whole.id}-{k}", turns=whole.turns[: k + 1])
        for k, turn in enumerate(whole.turns)
        if turn.speaker == AGENT and turn.photos
    ]


def swap_speakers(dialogue: Dialogue) -> Dialogue:
    """The same dialogue with the roles exchanged: data in which neither speaker is the agent."""
    turns = tuple(
        replace(turn, speaker=USER if turn.speaker == AGENT else AGENT) for turn in dialogue.turns
    )
    return replace(dialogue, turns=turns)


def caption_dialogue(photo: Photo) -> Dialogue:
    """A photo by the user, answered by its caption: how a photo encoder learns, and captions."""
    answer = Photo(id=photo.id, caption=photo.caption)
    return asked_and_answered(f"caption-{photo.id}", [photo], [answer])


def captions(dialogue: Dialogue) -> list[Dialogue]:
    """For each captioned photo: it is read, and its caption, the fullest that it has, written
    between [IMG] and [/IMG]."""
    full = [replace(p, caption=p.labels.get("full_caption") or p.caption) for p in dialogue.photos]
    return [caption_dialogue(photo) for photo in full if photo.caption.strip()]


def caption_pairs(dialogue: Dialogue) -> list[Dialogue]:
    """For each captioned photo: it is read and its caption written; and the reverse (GILL)."""
    found = []
    for number, photo in enumerate(dialogue.photos):
        if photo.caption.strip():
            name = f"{dialogue.id}-{number}"
            found.append(asked_and_answered(f"{name}-caption", [photo], [photo.caption]))
            found.append(asked_and_answered(f"{name}-photo", [photo.caption], [photo]))
    return found


def photo_last(dialogue: Dialogue, rounds: int | None = None) -> Dialogue:
    """A talk about a photo as GILL's task has it: first its last rounds, then the agent shares the
    photo."""
    (photo, *_), (_, *talk) = dialogue.photos, dialogue.turns
    shared = Turn(speaker=AGENT, elements=(photo,))
    return replace(dialogue, turns=(*talk[-2 * (rounds or len(talk)) :], shared))


# -------------------------------------------------------------------------------------- stories


def steps_of(dialogue: Dialogue) -> list[Step]:
    """A story's steps. Raises DataError for a dialogue that is no story."""
    steps = []
    for turn in dialogue.turns:
        if len(turn.photos) != 1 or not turn.text.strip():
            raise DataError(
                f"dialogue {dialogue.id[:60]} is no story: a turn has {len(turn.photos)} photos "
                "and perhaps no text; wanted a text and a photo in each, as VIST has. Choose "
                "another form."
            )
        steps.append(Step(text=turn.text, photo=turn.photos[0]))
    return steps


def newest_first(steps: Sequence[Step], *, earlier: bool) -> str:
    """The texts that a painter reads: the last step's, then, if wanted, those before it, newest
    first, since its text tower drops what is too long at the end."""
    texts = [step.text for step in steps[::-1]]
    return ". ".join(texts if earlier else texts[:1])


def readable(text: str, tower: TextTower) -> str:
    """What a painter's text tower reads of a text: all of it, if there is room, else the words that
    its tokenizer has whole. The small one's was counted on captions, so that every other word falls
    to letters and takes the room of five that say what to paint."""
    if len(tower.tokenizer(text, verbose=False)["input_ids"]) <= tower.length:
        return text
    words = re.findall(r"\w+", text)
    pieces = tower.tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    return " ".join(word for word, ids in zip(words, pieces, strict=True) if len(ids) == 1) or text


def _alignment(dialogue: Dialogue, *, seed: int) -> list[Dialogue]:
    pairs = [(photo.caption, photo) for photo in dialogue.photos if photo.caption.strip()]
    digest = hashlib.sha256(f"{seed}\n{dialogue.id}".encode("utf-8", "surrogatepass")).digest()
    asked = int.from_bytes(digest[:4], "big") % 100 == 0  # every hundredth, wherever it stands
    seeds = (None, seed) if asked else (None,)
    return [alignment_dialogue(*pair, seed=each) for pair in pairs for each in seeds]


def _tasks(dialogue: Dialogue, kind: str, *, seed: int) -> list[Dialogue]:
    steps = steps_of(dialogue)
    return [story_task(dialogue.id, steps[: k + 1], kind, seed=seed) for k in range(len(steps))]


def _narration(dialogue: Dialogue, *, seed: int) -> list[Dialogue]:
    """What an LLM that makes no photos can learn of a story: a step's text, after its photo
    (text_only) or after none (multimodal)."""
    tasks = story_dialogues(dialogue.id, steps_of(dialogue), seed=seed)
    return [replace(task, turns=task.turns[:2]) for task in tasks if task.turns[1].text]


def _painting(dialogue: Dialogue, *, read: Callable[[str], str]) -> list[Dialogue]:
    """Each photo by its step's text, and by all texts up to it, in turn. The words are for the
    painter, which reads the caption; what the LLM hears says nothing."""
    story = steps_of(dialogue)
    found = []
    for number in range(2 * len(story)):
        steps = story[: 1 + number % len(story)]
        caption = read(newest_first(steps, earlier=bool(number % 2)))
        photo = replace(steps[-1].photo, caption=caption)
        found.append(asked_and_answered(photo.id, ["show me"], [photo]))
    return found


def _story_end(dialogue: Dialogue, context: str) -> Dialogue:
    *past, last = steps_of(dialogue)
    read: list[Element] = []
    for step in past:
        read += [step.text] if context in ("both", "text") else []
        read += [step.photo] if context in ("both", "photos") else []
    return asked_and_answered(f"{dialogue.id}-end", [*read, last.text], [last.photo])


def _task_end(dialogue: Dialogue, context: str, *, seed: int) -> Dialogue:
    task = story_task(dialogue.id, steps_of(dialogue), "image_only", seed=seed)
    asked, *answers = task.turns
    first, *past, wording = asked.elements
    kept = {"both": (str, Photo), "text": (str,), "photos": (Photo,), "none": ()}[context]
    elements = (first, *(element for element in past if isinstance(element, kept)), wording)
    return replace(task, turns=(replace(asked, elements=elements), *answers))
