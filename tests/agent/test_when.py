"""What users say about photos in so many words."""

import json
import time
from pathlib import Path

import pytest

from showtell.agent.heard import heard, plain
from showtell.agent.prompts import prompts
from showtell.agent.when import Reading, When, dial_in_words, dial_of, shift_of, wish_of
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import UsageError
from showtell.models.reply import Dial, Wish

ASKS = """
Can you send me a photo?
Do you have a picture of your dog?
I heard you have a new toy car. Can you show me a picture?
Did you buy new shoes? Please send me a photo!
I'd love to see a photo of him!
could i see him?
Show me!
show me your garden
any pics?
Got any pictures from the trip?
Send pics please
A picture, please.
Can you share some photos of the wedding
May I see it?
let me see!
Let's see. Post a picture of the cake
I don't believe you. Show me a photo!
no way, send me a pic
""".strip().splitlines()
REFUSES = """
Please don't send me any photos.
no pictures please
Stop sending photos
I do not want to see any photos.
Never show me pictures again
How was your weekend? But no photos, please.
don't show me that
Tell me about it without pictures please
Enough photos for today
""".strip().splitlines()
NEITHER = """
Hi! How was your weekend?
I took a lot of photos there.
I will send you a photo later
Let me show you my cat
Do you want to see my new bike?
So cute! What's his name?
I see.
I have a picture of it on my wall
We went to see a movie, it was great.
Nice photo!
They look great. Where did you get them?
I love taking pictures
""".strip().splitlines()


def talk(*texts: str) -> tuple[Turn, ...]:
    """The user and the agent in turn."""
    return tuple(Turn(speaker=(USER, AGENT)[k % 2], elements=(t,)) for k, t in enumerate(texts))


@pytest.mark.parametrize("text", ASKS)
def test_a_request_is_heard_and_its_words_kept(text):
    wish = wish_of(talk(text))
    assert wish.share is True and wish.words == text


@pytest.mark.parametrize("text", REFUSES)
def test_a_refusal_is_heard_and_holds_until_it_is_taken_back(text):
    assert wish_of(talk(text)).share is False
    later = [text, *["ok", "nice weather today"] * 20]
    assert wish_of(talk(*later[:-1], "so what is new?")).share is False
    assert wish_of(talk(*later[:-1], "now show me a photo")).share is True
    taken_back = (text, "ok", "now show me a photo", "here", "thanks")
    assert wish_of(talk(*taken_back)).share is None


@pytest.mark.parametrize("text", NEITHER)
def test_other_talk_about_photos_says_nothing(text):
    assert wish_of(talk(text)).share is None


def obeyed(rows):
    """Which requests and refusals were heard otherwise than they were meant, and the alarms."""
    wrong, alarms = [], []
    for row in rows:
        before = row.get("before", [])
        turns = tuple(
            Turn(speaker=who, elements=(Photo(id=f"p{k}") if said is None else said,))
            for k, (who, said) in enumerate([*before, (USER, row["text"])])
        )
        wish = wish_of(turns)
        found = {"share": wish.share, "only": wish.only, "count": wish.count}
        if row["share"] is None and wish.share is not None:
            alarms.append(row["text"])
        elif found != {"only": False, "count": 1} | {k: row[k] for k in found if k in row}:
            wrong.append((row["text"], found))
    return wrong, alarms


@pytest.mark.parametrize("half", ["dev", "held"])
def test_what_people_write_is_obeyed_with_slips_in_other_languages_and_indirectly(half):
    """The rules' author wrote "dev", another "held": at first sight 68 of its 94 and 4 alarms of
    36; what it showed was mended then."""
    lines = Path(__file__).with_name("wishes.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["half"] == half]
    said = sum(row["share"] is not None for row in rows)
    wrong, alarms = obeyed(rows)
    assert said >= 94 and len(wrong) <= 0.02 * said and not alarms, (wrong, alarms)


@pytest.mark.parametrize(
    "text",
    [
        "Only the picture, no words",
        "just the photo",
        "just a photo please",
        "Don't say anything, just show me the cat",
        "una foto por favor, sin texto",
    ],
)
def test_u2_only_the_photo_is_heard(text):
    assert wish_of(talk(text)).only and not wish_of(talk("send me a photo")).only


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("send me two", 2),
        ("dos fotos", 2),
        ("Show me 3 pictures of Rex", 3),
        ("a couple of photos, please", 2),
        ("mándame dos fotos del perro", 2),
        ("send me two more nice pics", 2),
        ("send me a photo of two dogs", 1),
        ("show me two dogs", 1),
        ("send me a photo at 5", 1),
        ("send me 800 photos", 9),
        ("send me 0 photos", 1),
    ],
)
def test_how_many_photos_are_asked_for(text, count):
    wish = wish_of(talk(text))
    assert wish.share and wish.count == count


PHOTO = Turn(speaker=AGENT, elements=(Photo(id="p"),))
OFFERS = talk("hi", "Shall I send you a picture of it?")


@pytest.mark.parametrize(
    ("before", "text", "share"),
    [
        ((PHOTO,), "cute! one more", True),
        ((PHOTO,), "otra, por favor", True),
        ((PHOTO,), "stop it", False),
        ((PHOTO,), "ya basta", False),
        ((PHOTO,), "no more questions then", None),
        (talk("hi", "hello"), "one more", None),
        (talk("hi", "hello"), "stop it", None),
        (OFFERS, "yes please", True),
        (OFFERS, "no thanks", False),
        (OFFERS, "it is late", None),
        (talk("hi", "Do you like tea?"), "yes", None),
    ],
)
def test_what_names_no_photo_is_heard_where_one_was_shown_or_offered(before, text, share):
    assert wish_of((*before, *talk(text))).share is share


@pytest.mark.parametrize(
    "text",
    ["photos are fine again", "forget what I said about no photos", "Ya puedes mandar fotos"],
)
def test_a_refusal_is_taken_back_without_a_request(text):
    assert wish_of(talk("no photos please", "ok", text)).share is None
    assert wish_of(talk("no photos please", "ok", f"{text}. Show me the cat")).share is True


def test_u9_no_more_pictures_means_none_in_the_next_20_turns_however_well_one_would_fit():
    said = [Turn(speaker=USER, elements=("no more pictures please",))]
    for _ in range(20):
        decision = decided(1.0, wish=wish_of(said))
        assert not decision.share and decision.reason == "you want no photos"
        said += talk("look what my dog did!", "he ran into the sea")[::-1]


def test_u9_enough_after_a_photo_holds_and_a_no_to_an_offer_is_for_once():
    chat = ["ok", "so what is new?"] * 20
    assert wish_of((PHOTO, *talk("stop it", *chat, "and now?"))).share is False
    assert wish_of((*OFFERS, *talk("no thanks", *chat, "and now?"))).share is None
    assert (
        wish_of(talk("no photos", "ok. Want to see it after all?", "yes", "so", "ok")).share is None
    )


def test_a_text_is_read_in_time_that_grows_with_its_length():
    began = time.process_time()
    for words in ("can you show ", "want see what how ", "no ", "a "):
        heard((words * 10_000)[:20_000])
    assert time.process_time() - began < 20  # 0.4 s each; quadratic, it was 53 s


def test_a_slip_is_mended_in_words_about_photos_alone():
    assert plain("Sned me a PHTO, plese: mañana") == "send me a photo, please: manana"
    for text in ("I post at the shop", "how is it", "stop by the spot", "the end"):
        assert plain(text) == text.casefold()


def test_a_request_is_for_the_answer_to_it_alone():
    assert wish_of(talk("Can I see a photo?", "here you are", "thanks")).share is None
    assert wish_of(talk("Send me a photo!", "Sorry, of what?", "of your dog")).share is None
    both = (*talk("Show me a photo!"), Turn(speaker=USER, elements=("please",)))
    assert wish_of(both).share is True


# ------------------------------------------------------------------------------------- the dial


OFFER = prompts()["itself"]["offer"]


def decided(p_share, *turns, wish=None, **dial):
    when, said = When(threshold=0.3), talk(*turns) if turns else ()
    wish = when.wish(said) if wish is None else wish
    return when.decide(p_share, turns=said, wish=wish, dial=Dial(**dial))


def test_by_itself_it_shares_from_the_threshold_on_and_says_why():
    assert decided(0.3).share and not decided(0.29).share and not decided(None).share
    assert decided(0.3).reason == "the chance of a photo is 30%; wanted 30%"
    assert "not known" in decided(None).reason


@pytest.mark.parametrize("kind", ["asked", "offer", "proactive"])
def test_what_the_user_says_counts_at_every_dial(kind):
    asked = decided(0.0, "send me a photo", kind=kind, most=0)
    assert asked.share and asked.reason == "you asked for a photo" and not asked.offer
    refused = decided(1.0, "no more photos, please", kind=kind)
    assert not refused.share and not refused.offer and refused.reason == "you want no photos"


def test_asked_gives_none_unasked_and_an_offer_is_taken_by_a_yes():
    assert not decided(1.0, kind="asked").share
    offered = decided(1.0, "my dog is ill", kind="offer")
    assert not offered.share and offered.offer == OFFER
    for yes in ("Yes, please!", "oh sure", "Sí, claro", "why not"):
        assert wish_of(talk("my dog is ill", OFFER, yes)).share is True
    for no in ("no thanks", "how is yours?"):
        assert wish_of(talk("my dog is ill", OFFER, no)).share is not True
    again = decided(1.0, "my dog is ill", OFFER, "he sleeps", kind="offer")
    assert not again.share and not again.offer  # nobody is asked twice in a row


def test_a_budget_counts_the_photos_of_the_last_turns():
    shown = Turn(speaker=AGENT, elements=(Photo(id="p"),))
    words = Turn(speaker=AGENT, elements=("well",))
    for turns, share in (((shown,), False), ((shown, *[words] * 3), True), ((), True)):
        decision = When(threshold=0.3).decide(
            0.9, turns=turns, wish=Wish(), dial=Dial(most=1, within=3)
        )
        assert decision.share is share


def test_a_budget_leaves_out_the_photos_that_were_asked_for():
    turns = (*talk("hi", "hello", "send me a photo"), PHOTO, *talk("thanks", "sure", "and now?"))
    dial = Dial(most=1, within=3)
    assert When(threshold=0.3).decide(0.9, turns=turns, wish=Wish(), dial=dial).share
    unasked = (*talk("hi"), PHOTO, *talk("thanks", "sure", "and now?"))
    assert not When(threshold=0.3).decide(0.9, turns=unasked, wish=Wish(), dial=dial).share


# -------------------------------------------------------------------------- calibration and cost


READING = Reading(scale=1.7, bias=-0.6)


def test_without_a_cost_a_calibration_changes_no_decision_and_what_is_told_agrees_with_it():
    chances = [k / 997 for k in range(998)]
    for threshold in (0.02, 0.29110071063041687, 0.8):
        for shift in (0.0, 0.7):
            plain, read = When(threshold=threshold), When(threshold=threshold, reading=READING)
            for p in chances:
                was, now = (
                    when.decide(p, turns=(), wish=Wish(), dial=Dial(shift=shift))
                    for when in (plain, read)
                )
                assert (now.share, now.p_share) == (was.share, p)
                assert was.chance is None and now.chance == READING(p)
                if abs(now.chance - now.threshold) > 1e-9:
                    assert now.share is (now.chance >= now.threshold)


@pytest.mark.parametrize("cost", [0.1, 1.0, 3.0, 10.0])
def test_a_cost_shares_where_a_photo_costs_less_than_none(cost):
    for reading in (None, READING):
        when = When(threshold=0.3, reading=reading)
        for p in (0.02, 0.2, 0.4, 0.6, 0.85, 0.97):
            found = when.decide(p, turns=(), wish=Wish(), dial=Dial(cost=cost))
            chance = p if reading is None else reading(p)
            assert found.share is ((1 - chance) * cost < chance)
            assert found.threshold == pytest.approx(cost / (1 + cost))
    assert "costs 3 times" in decided(0.3, cost=3.0).reason


def test_a_reading_goes_back_and_is_taken_from_a_card():
    for p in (0.001, 0.3, 0.5, 0.999):
        assert (
            READING.back(READING(p)) == pytest.approx(p) and Reading()(p) == Reading().back(p) == p
        )
    assert Reading.of(
        {"moment": {"spoken": {"scale": 2.0, "bias": 0.1, "positions": 9}}}
    ) == Reading(scale=2.0, bias=0.1)
    assert Reading.of({}) is None is Reading.of({"moment": {"scale": 1.0, "bias": 0.0}})


@pytest.mark.parametrize(
    "words",
    [
        ("sometimes", None, None),
        (None, "ten", None),
        (None, "1/0", None),
        (None, "-1/5", None),
        (None, None, "3"),
        (None, None, "0:1"),
        (None, None, "nan:1"),
    ],
)
def test_a_dial_in_words_is_read_or_refused_with_what_is_wanted(words):
    with pytest.raises(UsageError, match="wanted"):
        dial_of(*words, usual=Dial())
    dial = dial_of("offer", "1/10", "3:2", usual=Dial())
    assert dial == Dial(kind="offer", most=1, within=10, cost=1.5)
    assert dial_of(None, None, None, usual=dial) == dial
    told = dial_in_words(dial)
    assert "offered" in told and "at most 1 unasked in 10" in told and "60%" in told


def test_votes_move_the_threshold_a_little_and_are_forgotten():
    def share(votes):
        return decided(0.3, shift=shift_of(votes)).share

    assert share([]) and share([1]) and not share([-1]) and share([-1, 1])
    assert decided(0.05, shift=shift_of([1] * 1000)).share is False  # bounded
    assert shift_of([-1] * 5 + [1] * 20) == shift_of([1] * 20) == pytest.approx(-2.0)
