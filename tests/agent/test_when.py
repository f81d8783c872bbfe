"""What users say about photos in so many words."""

import pytest

from showtell.agent.when import wish_of
from showtell.dialogue import AGENT, USER, Turn

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


def test_a_request_is_for_the_answer_to_it_alone():
    assert wish_of(talk("Can I see a photo?", "here you are", "thanks")).share is None
    assert wish_of(talk("Send me a photo!", "Sorry, of what?", "of your dog")).share is None
    both = (*talk("Show me a photo!"), Turn(speaker=USER, elements=("please",)))
    assert wish_of(both).share is True
