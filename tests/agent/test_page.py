"""The page stands alone, escapes everything, and can be read without seeing."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from keyword_model import KeywordModel
from showtell.agent.page import Held, render_page
from showtell.agent.session import Session
from showtell.dialogue import AGENT, USER, Photo, Turn

HOSTILE = '<script>alert("1")</script> & $cards "quoted"'


@pytest.fixture
def titled():
    photo = Photo(id="p", caption=HOSTILE, origin="painted")
    mine, lost = Photo(id="mine"), Photo(id="lost", caption="a lost one", origin="painted")
    session = Session(KeywordModel(name=HOSTILE))
    session.turns = (
        Turn(speaker=USER, elements=(HOSTILE, mine)),
        Turn(speaker=AGENT, elements=("Here!", photo)),
        Turn(speaker=AGENT, elements=(lost,)),
    )
    session.p_share = [None, 0.875, 0.1]
    session.images = {
        "p": Image.new("RGB", (64, 64), "red"),
        "mine": Image.new("RGB", (3000, 200), "blue"),
    }
    return Held(HOSTILE, HOSTILE, session)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader.tags


def test_the_page_loads_nothing_and_runs_nothing(titled):
    page = render_page([titled], lead=HOSTILE)
    tags = read(page)
    assert not [tag for tag, _ in tags if tag in ("script", "iframe", "object", "audio", "video")]
    addresses = [a[k] for _, a in tags for k in ("src", "href") if k in a]
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert not re.search(r"url\(|@import|https?://", page)


def test_every_photo_is_inside_and_has_words(titled):
    page = render_page([titled])
    images = [attributes for tag, attributes in read(page) if tag == "img"]
    assert len(images) == 2 and all(image["alt"] for image in images)
    assert images[1]["alt"] == HOSTILE
    sizes = []
    for attributes in images:
        data = base64.b64decode(attributes["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as image:
            sizes.append((image.format, image.size))
    assert sizes == [("JPEG", (512, 34)), ("PNG", (256, 256))]  # none too few pixels, none too many
    assert "a lost one" in page  # without pixels a photo is described


def test_p_share_is_shown_beside_the_agent_only(titled):
    page = render_page([titled])
    assert page.count('class="share') == 2
    assert "0.88" in page and "88 percent" in page
