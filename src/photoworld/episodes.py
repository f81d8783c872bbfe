"""The small plots of a conversation, and what each makes of the chance that a photo follows.

An episode yields moves; whoever plays them prints them in order and, before each turn of the
agent, draws whether a photo comes instead. ``Move.level`` is the probability that holds once the
move is printed. It follows from the printed words alone: which request, question, condition or
code was said, and what was answered. Surface words are balanced on purpose: the same questions,
answers, places and words occur with and without a photo to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from photoworld.facts import Phrase, things
from photoworld.scenes import LOOKS, Scene
from photoworld.setting import (
    CIRCUMSTANCES,
    FITTING,
    IDLE,
    NONE,
    READY,
    Move,
    Moves,
    Setting,
)
from showtell.dialogue import AGENT, USER, Speaker


def linger(setting: Setting, *, ready: bool, ask: bool = True) -> Moves:
    """Small delays and second thoughts: the same words whether a photo is due or not.

    What is due stays due: this ends only when nothing is (or the dialogue does).
    """
    rng = setting.rng
    rounds = rng.choice((0, 1, 1, 2))
    may_ask = ask and not setting.refused
    while ready or rounds > 0:
        rounds -= 1
        what = rng.choices(("stall", "chat", "question"), (45, 20, 35 if may_ask else 0))[0]
        if what == "question":
            ready = yield from question(setting, ready_chance=0.65 if ready else 0.38)
            may_ask = False
            continue
        yield Move(speaker=AGENT, acts=("a_stall" if what == "stall" else "a_chat",))
        if ask and not setting.refused and setting.chance(0.14):
            ready = not ready
            act = "u_change" if ready else "u_cancel"
            yield Move(speaker=USER, acts=(act,), level=READY if ready else NONE)
        else:
            yield Move(speaker=USER, acts=("u_neutral",))


def question(
    setting: Setting, *, ready_chance: float, before: tuple[str, ...] = ()
) -> Generator[Move, None, bool]:
    """A yes-or-no question of either polarity; returns whether a photo is wanted."""
    ready = setting.chance(ready_chance)
    positive = setting.chance(0.5)
    asked = "a_q_pos" if positive else "a_q_neg"
    yield Move(speaker=AGENT, acts=(*before, asked), level=NONE)
    answer = "u_yes" if positive == ready else "u_no"
    yield Move(speaker=USER, acts=(answer,), level=READY if ready else NONE)
    return ready


def follow(setting: Setting, ready: bool, *, ask: bool = True) -> Moves:
    """What comes after a decision."""
    if not ready and setting.chance(0.3):
        yield Move(speaker=AGENT, acts=("a_okno",))
        yield Move(speaker=USER, acts=("u_neutral",))
    yield from linger(setting, ready=ready, ask=ask)


# ------------------------------------------------------------------- episodes about one's own photo


def direct(setting: Setting) -> Moves:
    """The user asks to be shown, or in much the same words to be told."""
    level_by_act = {
        "ask_plain": (17, READY),
        "ask_not_tell": (19, READY),
        "ask_switch": (19, READY),
        "tell_plain": (15, IDLE),
        "tell_not_show": (21, NONE),
        "tell_switch": (19, NONE),
    }
    weights = [weight for weight, _ in level_by_act.values()]
    act = setting.rng.choices(list(level_by_act), weights)[0]
    level = level_by_act[act][1]
    acts = ("u_hi", act) if setting.chance(0.25) else (act,)
    yield Move(speaker=USER, acts=acts, level=level, values={"obj": setting.object()})
    if level != READY:
        yield Move(speaker=AGENT, acts=("a_tell",))
        heard = setting.rng.choice(("u_neutral", "u_wow"))
        yield Move(speaker=USER, acts=(heard,), level=NONE)
    yield from linger(setting, ready=level == READY)


def offer(setting: Setting) -> Moves:
    """The agent speaks of something and offers a photo of it."""
    ready = yield from question(setting, ready_chance=0.48, before=("a_thing",))
    yield from follow(setting, ready)


def show_or_tell(setting: Setting) -> Moves:
    """Two options in either order; the answer names one by its number."""
    ready = setting.chance(0.48)
    show_first = setting.chance(0.5)
    asked = "a_q_show_tell" if show_first else "a_q_tell_show"
    yield Move(speaker=AGENT, acts=("a_thing", asked))
    answer = "u_first" if show_first == ready else "u_second"
    yield Move(speaker=USER, acts=(answer,), level=READY if ready else NONE)
    if not ready:
        yield Move(speaker=AGENT, acts=("a_tell",))
        yield Move(speaker=USER, acts=("u_neutral",))
    yield from linger(setting, ready=ready)


def which(setting: Setting) -> Moves:
    """Two photos to choose from."""
    rng = setting.rng
    second = setting.next_scene()
    while second.subject == setting.scene.subject:
        second = setting.next_scene()
    pair = (setting.scene, second)
    values: dict[str, Phrase] = {
        name: (things(scene, rng, colour=scene.subject not in LOOKS, count=True)[0], frozenset())
        for name, scene in zip(("np_a", "np_b"), pair, strict=True)
    }
    yield Move(speaker=AGENT, acts=("a_which",), values=values)
    choice = rng.choices((0, 1, 2), (30, 30, 40))[0]
    if choice == 2:
        yield Move(speaker=USER, acts=("u_neither",), level=NONE)
        yield from follow(setting, ready=False, ask=False)
        return
    setting.begin(pair[choice])
    settles = {"subject", "count"} | ({"colour"} if pair[choice].subject not in LOOKS else set())
    yield Move(
        speaker=USER,
        acts=("u_second" if choice else "u_first",),
        level=READY,
        settles=frozenset(settles),
    )
    yield from linger(setting, ready=True, ask=False)


def condition(setting: Setting) -> Moves:
    """A request that waits until the agent is somewhere, or the weather or light has come."""
    rng = setting.rng
    if not setting.untold():  # nothing is left to wait for
        yield from direct(setting)
        return
    attribute = rng.choice(setting.untold())
    values = {
        "obj": setting.object(hiding=attribute),
        "cond": setting.phrase(f"cond_{attribute}"),
    }
    yield Move(speaker=USER, acts=("u_cond",), level=NONE, values=values)
    met = setting.chance(0.5)
    acts: tuple[str, ...] = ("a_promise",)
    scene: Scene | None = None
    if setting.chance(0.5):
        yield Move(speaker=AGENT, acts=acts)
        yield Move(speaker=USER, acts=("u_checkin",))
        acts = ()
    for attempt in range(2):
        scene = None if met else setting.other(attribute)
        status = {"status": setting.phrase(f"status_{attribute}", scene)}
        yield Move(speaker=AGENT, acts=(*acts, "a_status"), values=status)
        if met:
            setting.told.add(attribute)
        yield Move(speaker=USER, acts=("u_neutral",), level=READY if met else NONE)
        if met or attempt or setting.chance(0.5):
            break
        yield Move(speaker=AGENT, acts=(rng.choice(("a_stall", "a_chat")),))
        yield Move(speaker=USER, acts=("u_checkin",))
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
    values = {
        "obj": setting.object(hiding=attribute),
        "guess": setting.phrase(f"guess_{attribute}", guessed),
    }
    act = "u_bet_right" if if_right else "u_bet_wrong"
    yield Move(speaker=USER, acts=(act,), level=NONE, values=values)
    status = {"status": setting.phrase(f"status_{attribute}")}
    yield Move(speaker=AGENT, acts=("a_status",), values=status)
    setting.told.add(attribute)
    yield Move(speaker=USER, acts=("u_neutral",), level=READY if ready else NONE)
    yield from follow(setting, ready)


def code(setting: Setting) -> Moves:
    """Two code words, one of which means a photo."""
    words = code_words(setting)
    values = {
        "obj": setting.object(),
        "code_a": (words[0], frozenset[str]()),
        "code_b": (words[1], frozenset[str]()),
        "silly": setting.phrase("silly"),
    }
    act = setting.rng.choice(("u_code", "u_code_rev"))
    yield Move(speaker=USER, acts=(act,), level=NONE, values=values)
    yield Move(speaker=AGENT, acts=("a_code",), values=values)
    if setting.chance(0.4):
        yield Move(speaker=USER, acts=("u_chat",))
        yield Move(speaker=AGENT, acts=("a_chat",))
    ready = setting.chance(0.48)
    said = values["code_a" if ready else "code_b"]
    level = READY if ready else NONE
    yield Move(speaker=USER, acts=("u_word",), level=level, values={"word": said})
    if not ready:
        yield Move(speaker=AGENT, acts=("a_silly",))
        yield Move(speaker=USER, acts=("u_neutral",))
    yield from linger(setting, ready=ready)


def code_words(setting: Setting) -> tuple[str, str]:
    """Two different code words."""
    first = second = setting.phrase("code")[0]
    while second == first:
        second = setting.phrase("code")[0]
    return first, second


def vivid(setting: Setting) -> Moves:
    """The agent has its camera out before something vivid, or tells of what is long gone."""
    now, excited = setting.chance(0.6), setting.chance(0.6)
    yield Move(speaker=AGENT, acts=("a_vivid" if now else "a_past",))
    level = NONE if setting.refused or not now else FITTING if excited else IDLE
    yield Move(speaker=USER, acts=("u_wow" if excited else "u_meh",), level=level)
    yield Move(speaker=AGENT, acts=(setting.rng.choice(("a_stall", "a_chat")),))
    yield Move(speaker=USER, acts=("u_neutral",), level=NONE)  # the moment is gone
    yield from linger(setting, ready=False, ask=now)


def refusal(setting: Setting) -> Moves:
    """No photos for now, whatever comes; sometimes taken back."""
    setting.refused = True
    yield Move(speaker=USER, acts=("u_refuse",), level=NONE)
    yield Move(speaker=AGENT, acts=("a_refused",))
    if setting.chance(0.35):
        yield Move(speaker=USER, acts=("u_allow",))
        setting.refused = False
        yield Move(speaker=AGENT, acts=("a_allowed",))
    yield Move(speaker=USER, acts=("u_chat",))
    yield from vivid(setting)


# ----------------------------------------------------------------------------- talk without photos


def photo_talk(setting: Setting) -> Moves:
    """Talk about photos in general, with none to show."""
    yield Move(speaker=USER, acts=("u_moan",), level=NONE)
    yield Move(speaker=AGENT, acts=("a_moan",))


def small_talk(setting: Setting) -> Moves:
    yield Move(speaker=USER, acts=("u_chat",))
    yield Move(speaker=AGENT, acts=("a_chat",))


def goodbye(setting: Setting) -> Moves:
    yield Move(speaker=USER, acts=("u_bye",))
    yield Move(speaker=AGENT, acts=("a_bye",))


def arrival(setting: Setting) -> Moves:
    """Greetings; often the agent says where it is and how it is there."""
    if setting.chance(0.35):
        yield Move(speaker=USER, acts=("u_greet",))
        yield Move(speaker=AGENT, acts=("a_hello",))
        return
    yield Move(speaker=USER, acts=("u_where",))
    yield report(setting)


def report(setting: Setting) -> Move:
    """The agent tells one to three of its circumstances."""
    names = list(CIRCUMSTANCES)
    setting.rng.shuffle(names)
    names = names[: setting.rng.choices((1, 2, 3), (25, 60, 15))[0]]
    act = "a_all" if len(names) == 3 else "_".join(["a", *(n for n in _ORDER if n in names)])
    setting.told.update(names)
    return Move(speaker=AGENT, acts=(act,))


_ORDER = ("place", "weather", "time")


Episode = Callable[[Setting], Moves]
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
