"""The small plots of a conversation, and what each makes of the chance that a photo follows.

An episode yields moves; whoever plays them prints them in order and, before each turn of the
agent, draws whether a photo comes instead. ``Move.level`` is the probability that holds once the
move is printed. It follows from the printed words alone: which request, question, condition or
code was said, and what was answered. Surface words are balanced on purpose: the same questions,
answers, places and words occur with and without a photo to follow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import replace
from typing import Any

from photoworld.scenes import LOOKS, Scene, photo_of, sample_scene
from photoworld.setting import CIRCUMSTANCES, FITTING, IDLE, NONE, READY, Move, Setting, agent, user
from photoworld.words import things, where_to
from showtell.dialogue import AGENT, USER, Photo, Speaker

Moves = Iterator[Move]
Episode = Callable[[Setting], Moves]


def due(ready: bool) -> float:
    return READY if ready else NONE


def linger(setting: Setting, *, ready: bool, ask: bool = True) -> Moves:
    """Small delays and second thoughts: the same words whether a photo is due or not.

    What is due stays due: this ends only when nothing is (or the dialogue does).
    """
    rng = setting.rng
    rounds = rng.choice((0, 1, 1, 2))
    may_ask = ask and not setting.refused
    while ready or rounds > 0:
        rounds -= 1
        what = rng.choices(("a_stall", "a_chat", "question"), (45, 20, 35 if may_ask else 0))[0]
        if what == "question":
            ready = yield from question(setting, ready_chance=0.65 if ready else 0.38)
            may_ask = False
            continue
        yield agent(what)
        if ask and not setting.refused and setting.chance(0.14):
            ready = not ready
            yield user("u_change" if ready else "u_cancel", level=due(ready))
        else:
            yield user("u_neutral")


def question(
    setting: Setting, *, ready_chance: float, before: tuple[str, ...] = ()
) -> Generator[Move, None, bool]:
    """A yes-or-no question of either polarity; returns whether a photo is wanted."""
    ready = setting.chance(ready_chance)
    positive = setting.chance(0.5)
    yield agent(*before, "a_q_pos" if positive else "a_q_neg", level=NONE)
    yield user("u_yes" if positive == ready else "u_no", level=due(ready))
    return ready


def follow(setting: Setting, ready: bool, *, told: str = "", ask: bool = True) -> Moves:
    """What comes after a decision: where there is no photo, what is ``told`` instead."""
    if not ready and (told or setting.chance(0.3)):
        yield agent(told or "a_okno")
        yield user("u_neutral")
    yield from linger(setting, ready=ready, ask=ask)


# ------------------------------------------------------------------- episodes about one's own photo

_REQUESTS = {  # how often, and whether a photo follows
    "ask_plain": (17, READY),
    "ask_not_tell": (19, READY),
    "ask_switch": (19, READY),
    "tell_plain": (15, IDLE),
    "tell_not_show": (21, NONE),
    "tell_switch": (19, NONE),
}


def direct(setting: Setting) -> Moves:
    """The user asks to be shown, or in much the same words to be told."""
    act = setting.rng.choices(list(_REQUESTS), [weight for weight, _ in _REQUESTS.values()])[0]
    level = _REQUESTS[act][1]
    acts = ("u_hi", act) if setting.chance(0.25) else (act,)
    yield user(*acts, level=level, obj=setting.object())
    if level != READY:
        yield agent("a_tell")
        yield user(setting.rng.choice(("u_neutral", "u_wow")), level=NONE)
    yield from linger(setting, ready=level == READY)


def offer(setting: Setting) -> Moves:
    """The agent speaks of something and offers a photo of it."""
    ready = yield from question(setting, ready_chance=0.48, before=("a_thing",))
    yield from follow(setting, ready)


def show_or_tell(setting: Setting) -> Moves:
    """Two options in either order; the answer names one by its number."""
    ready = setting.chance(0.48)
    show_first = setting.chance(0.5)
    yield agent("a_thing", "a_q_show_tell" if show_first else "a_q_tell_show")
    yield user("u_first" if show_first == ready else "u_second", level=due(ready))
    yield from follow(setting, ready, told="a_tell")


def which(setting: Setting) -> Moves:
    """Two photos to choose from."""
    rng = setting.rng
    second = setting.next_scene()
    while second.subject == setting.scene.subject:
        second = setting.next_scene()
    pair = (setting.scene, second)
    a, b = (things(s, rng, colour=s.subject not in LOOKS, count=True)[0] for s in pair)
    yield agent("a_which", np_a=(a, frozenset()), np_b=(b, frozenset()))
    choice = rng.choices((0, 1, 2), (30, 30, 40))[0]
    if choice == 2:
        yield user("u_neither", level=NONE)
        yield from follow(setting, ready=False, ask=False)
        return
    setting.begin(pair[choice])
    settles = {"subject", "count"} | ({"colour"} if pair[choice].subject not in LOOKS else set())
    yield user("u_second" if choice else "u_first", level=READY, settles=frozenset(settles))
    yield from linger(setting, ready=True, ask=False)


def condition(setting: Setting) -> Moves:
    """A request that waits until the agent is somewhere, or the weather or light has come."""
    rng = setting.rng
    if not setting.untold():  # nothing is left to wait for
        yield from direct(setting)
        return
    attribute = rng.choice(setting.untold())
    wanted = setting.object(hiding=attribute)
    yield user("u_cond", level=NONE, obj=wanted, cond=setting.phrase(f"cond_{attribute}"))
    met = setting.chance(0.5)
    acts: tuple[str, ...] = ("a_promise",)
    scene: Scene | None = None
    if setting.chance(0.5):
        yield agent(*acts)
        yield user("u_checkin")
        acts = ()
    for attempt in range(2):
        scene = None if met else setting.other(attribute)
        yield agent(*acts, "a_status", status=setting.phrase(f"status_{attribute}", scene))
        if met:
            setting.told.add(attribute)
        yield user("u_neutral", level=due(met))
        if met or attempt or setting.chance(0.5):
            break
        yield agent(rng.choice(("a_stall", "a_chat")))
        yield user("u_checkin")
        acts, met = (), setting.chance(0.5)
    yield from linger(setting, ready=met, ask=met)
    if scene is not None:  # what was last said is how things are: the condition stays unmet
        setting.told.add(attribute)
        setting.scene = scene
        setting.begin(setting.next_scene())


def bet(setting: Setting) -> Moves:
    """The user guesses; a photo is due if right, or in other games if wrong."""
    if not setting.untold():
        yield from direct(setting)
        return
    attribute = setting.rng.choice(setting.untold())
    ready, if_right = setting.chance(0.5), setting.chance(0.5)
    guessed = None if ready == if_right else setting.other(attribute)
    wanted = setting.object(hiding=attribute)
    guess = setting.phrase(f"guess_{attribute}", guessed)
    yield user("u_bet_right" if if_right else "u_bet_wrong", level=NONE, obj=wanted, guess=guess)
    yield agent("a_status", status=setting.phrase(f"status_{attribute}"))
    setting.told.add(attribute)
    yield user("u_neutral", level=due(ready))
    yield from follow(setting, ready)


def code(setting: Setting) -> Moves:
    """Two code words, one of which means a photo."""
    first = second = setting.phrase("code")
    while second == first:
        second = setting.phrase("code")
    values = {"obj": setting.object(), "code_a": first, "code_b": second}
    values["silly"] = setting.phrase("silly")
    yield user(setting.rng.choice(("u_code", "u_code_rev")), level=NONE, **values)
    yield agent("a_code", **values)
    if setting.chance(0.4):
        yield user("u_chat")
        yield agent("a_chat")
    ready = setting.chance(0.48)
    yield user("u_word", level=due(ready), word=first if ready else second)
    yield from follow(setting, ready, told="a_silly")


def vivid(setting: Setting) -> Moves:
    """The agent has its camera out before something vivid, or tells of what is long gone."""
    now, excited = setting.chance(0.6), setting.chance(0.6)
    yield agent("a_vivid" if now else "a_past")
    level = NONE if setting.refused or not now else FITTING if excited else IDLE
    yield user("u_wow" if excited else "u_meh", level=level)
    yield agent(setting.rng.choice(("a_stall", "a_chat")))
    yield user("u_neutral", level=NONE)  # the moment is gone
    yield from linger(setting, ready=False, ask=now)


def refusal(setting: Setting) -> Moves:
    """No photos for now, whatever comes; sometimes taken back."""
    setting.refused = True
    yield user("u_refuse", level=NONE)
    yield agent("a_refused")
    if setting.chance(0.35):
        yield user("u_allow")
        setting.refused = False
        yield agent("a_allowed")
    yield user("u_chat")
    yield from vivid(setting)


# ----------------------------------------------------------------------------- talk without photos


def _exchange(asked: str, answered: str, **given: Any) -> Episode:
    def episode(setting: Setting) -> Moves:
        yield user(asked, **given)
        yield agent(answered)

    return episode


photo_talk = _exchange("u_moan", "a_moan", level=NONE)  # of photos in general, with none to show
small_talk = _exchange("u_chat", "a_chat")
goodbye = _exchange("u_bye", "a_bye")


def arrival(setting: Setting) -> Moves:
    """Greetings; often the agent says where it is and how it is there."""
    if setting.chance(0.35):
        yield user("u_greet")
        yield agent("a_hello")
        return
    yield user("u_where")
    yield report(setting)


def report(setting: Setting) -> Move:
    """The agent tells one to three of its circumstances."""
    names = list(CIRCUMSTANCES)
    setting.rng.shuffle(names)
    names = names[: setting.rng.choices((1, 2, 3), (25, 60, 15))[0]]
    setting.told.update(names)
    ordered = [name for name in ("place", "weather", "time") if name in names]
    return agent("a_all" if len(names) == 3 else "_".join(["a", *ordered]))


# --------------------------------------------------------------- what a photo shows


def seen_in(scene: Scene, rng: random.Random, stated: Collection[str]) -> Move:
    """What someone says who looks at a photo: one to three things, often not in its caption."""
    sayable = ("count", "relation", *CIRCUMSTANCES, "colour")
    weights = {name: 1.0 if name in stated else 9.0 for name in sayable}
    names: set[str] = set()
    for _ in range(rng.choices((0, 1, 2), (12, 55, 33))[0]):
        left = [n for n in weights if n not in names]
        names.add(rng.choices(left, [weights[n] for n in left])[0])
    words, named = things(scene, rng, colour="colour" in names, count="count" in names)
    if "relation" in names:
        relation, both = where_to(scene, rng)
        words, named = f"{words} {relation}", named | both
    extra = [f"c_{name}" for name in CIRCUMSTANCES if name in names]
    return agent("c_main", *extra, "c_tail", seen=(words, named))


_QUESTIONS = ("q_colour", "q_count", "q_place", "q_time", "q_weather", "q_what")
_ANSWERS = ("c_colour", "c_count", "c_where", "c_when", "c_sky", "c_what")
ANSWERS = dict(zip(_QUESTIONS, _ANSWERS, strict=True))  # acts of asking about a photo


def user_photo(setting: Setting) -> Moves:
    """The user sends a photo; the agent speaks of what it sees."""
    rng = setting.rng
    scene = sample_scene(rng, novel=setting.novel)
    photo = photo_of(scene, rng, id=f"world-{setting.seed}-{setting.photos}")
    if setting.chance(0.7):
        yield user("u_pre", level=NONE)
        if setting.chance(0.45):
            yield agent("a_sure")
    yield Move(speaker=USER, photo=photo, level=NONE)
    if setting.chance(0.3):
        yield user("u_post")
    yield replace(seen_in(scene, rng, photo.labels["stated"]), about=photo)
    if setting.chance(0.5):
        asked = rng.choice(_QUESTIONS)
        yield user(asked)
        seen, named = things(scene, rng, colour=True, count=setting.chance(0.5))
        where, both = where_to(scene, rng)
        yield agent(ANSWERS[asked], about=photo, seen=(f"{seen} {where}", named | both))
    else:
        yield user("u_confirm")


def after_share(setting: Setting, photo: Photo) -> Moves:
    """Both look at the photo that the agent has just shared."""
    scene = setting.scene
    if setting.chance(0.4):
        yield agent("a_after")
    yield replace(seen_in(scene, setting.rng, photo.labels["stated"]), speaker=USER, about=photo)
    yield agent("a_glad")
    if setting.photos > 1 or setting.chance(0.75):
        return
    if setting.chance(0.6):
        yield user("u_enough", level=NONE)
        yield agent("a_chat")
        return
    kept = ["subject", "count"] + (["colour"] if scene.subject not in LOOKS else [])
    same = {name: scene.attributes[name] for name in kept if name in setting.settled}
    setting.begin(setting.next_scene(**same))
    yield user("u_another", level=READY, settles=frozenset(same))
    yield from linger(setting, ready=True)


EPISODES: dict[Episode, tuple[Speaker, int]] = {  # who begins, and how often
    direct: (USER, 28),
    offer: (AGENT, 24),
    show_or_tell: (AGENT, 12),
    which: (AGENT, 7),
    condition: (USER, 13),
    bet: (USER, 9),
    code: (USER, 4),
    vivid: (AGENT, 9),
    refusal: (USER, 5),
}
