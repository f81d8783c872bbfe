"""The page in a real browser (Debian's Chromium): journeys, hostile texts, and what axe finds."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import pytest
from live import live
from PIL import Image

from keyword_model import KeywordModel
from showtell.dialogue import AGENT, Photo, Turn
from showtell.models.reply import Decision, Reply, Shared, Words

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).with_name("axe.min.js")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")
HOSTILE = (
    "**bold** <script>document.title='run'</script> ![x](https://evil.test/x.png) "
    "[link](javascript:alert(1)) <img src=x onerror=\"document.title='run'\">"
)


class Slow(KeywordModel):
    """Says a word, and the rest when it is let; says what is hostile when asked to."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()

    def respond(self, turns, *, images, seed, tell, dial):
        text = turns[-1].text
        if "slow" in text:
            tell(Words(text="Once upon"))
            while not self.go_on.wait(0.02):
                tell(Words(text=" a"))
        if "hostile" in text:
            tell(Words(text=HOSTILE + "\n"))
            said = Turn(speaker=AGENT, elements=(HOSTILE,))
            return Reply(turns=[said], decisions=[Decision(share=False, p_share=0.03, reason="no")])
        return super().respond(turns, images=images, seed=seed, tell=tell)

    @property
    def photos(self):
        return self

    def share(self, words, *, photo_id, seed, **more):
        photo = Photo(id=photo_id, caption=words, origin="painted", seed=seed)
        return Shared(photo=photo, image=Image.new("RGB", (64, 64), (0, 0, 200)))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def agent():
    return Slow()


@pytest.fixture(scope="module")
def address(agent, tmp_path_factory):
    with live(tmp_path_factory.mktemp("page"), agents={"keyword": agent}) as client:
        yield str(client.base_url)


@pytest.fixture
def page(browser, address, request):
    width, height = getattr(request, "param", (1280, 800))
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(8_000)
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda each: asked.append(each.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)
    page.get_by_role("heading", name="Say something").wait_for()
    yield page
    assert not wrong
    strangers = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not strangers
    context.close()


def say(page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def ended(page) -> None:
    page.get_by_role("button", name="Send", exact=True).wait_for()
    page.wait_for_function("!document.querySelector('.coming')")


def axe(page) -> None:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    told = [(e["id"], [node["html"][:120] for node in e["nodes"]]) for e in grave]
    assert not told


def test_a_talk_with_a_photo_its_why_a_vote_and_another_one_of_edited_words(page, address):
    say(page, "Please send me a photo!")
    photo = page.locator("figure.photo.painted")
    photo.locator("img[alt='a <red> square']").wait_for()
    ended(page)
    assert page.locator(".turn.agent .text").first.inner_text() == "Sure, here you go!"
    photo.get_by_role("button", name="Why?").click()
    assert "you asked for a photo" in photo.locator(".why").inner_text()
    assert "90%" in photo.locator(".why").inner_text()
    like = photo.get_by_role("button", name="Like")
    like.click()
    photo.get_by_role("button", name="Edit and paint").click()
    page.get_by_label("What it should show").fill("a blue dog")
    page.get_by_role("button", name="Paint it").click()
    page.locator("img[alt='a blue dog']").wait_for()
    page.reload()  # all of it is kept
    page.locator("img[alt='a blue dog']").wait_for()
    assert page.get_by_role("button", name="Like").first.get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name=re.compile(r"Photos \(2\)")).click()
    assert page.locator(".grid img").count() == 2
    page.locator(".grid button").first.click()
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    axe(page)
    with page.expect_download() as taken:
        page.get_by_role("button", name="As a page").click()
    assert "a &lt;red&gt; square" in Path(taken.value.path()).read_text(encoding="utf-8")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("What you say is kept on this server").wait_for()


def test_one_stops_an_answer_and_what_was_said_stays(page, agent):
    say(page, "a slow story")
    page.get_by_text("Once upon").first.wait_for()
    page.keyboard.press("Escape")
    ended(page)
    assert page.locator(".turn.agent .text").inner_text().startswith("Once upon")
    say(page, "Nice day")
    page.locator(".turn.agent").get_by_text("That is nice to hear.").wait_for()


def test_photos_are_picked_pasted_left_out_and_sent(page, agent, tmp_path):
    Image.new("RGB", (3000, 20), (0, 200, 0)).save(tmp_path / "mine.png")
    (tmp_path / "text.txt").write_text("no photo")
    page.locator("input[type=file]").first.set_input_files([tmp_path / "mine.png"] * 2)
    page.get_by_role("button", name="Leave out photo 2").click()
    page.get_by_role("button", name="Send", exact=True).click()
    ended(page)
    (image,) = agent.requests[-1]["images"].values()
    assert image.size[0] == 1600  # it was made smaller before it left
    assert page.locator("figure.mine img").count() == 1
    page.locator("input[type=file]").first.set_input_files(tmp_path / "text.txt")
    page.get_by_text("Only photos can be added.").wait_for()


def test_what_a_model_writes_runs_nothing_and_loads_nothing(page):
    say(page, "say something hostile")
    page.locator(".turn.agent strong").wait_for()
    ended(page)
    assert page.locator(".turn.agent img, .turn.agent script").count() == 0
    assert page.locator(".turn.agent a").get_attribute("href") is None
    assert "showtell" in page.title()
    page.get_by_role("button", name="why no photo?").click()
    assert "3.0%" in page.locator(".why").inner_text()


def test_a_failure_is_said_and_nothing_that_was_typed_is_lost(page):
    page.route("**/v1/chat/completions", lambda route: route.abort())
    say(page, "do not lose me")
    page.get_by_role("alert").wait_for()
    assert "cannot be reached" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Your message").input_value() == "do not lose me"


def test_the_dial_is_kept(page):
    page.get_by_label("When photos come").select_option("asked")
    page.wait_for_timeout(200)
    page.reload()
    page.get_by_role("heading", name="Say something").wait_for()
    page.wait_for_function("document.querySelector('.dial select').value === 'asked'")
    page.get_by_label("When photos come").select_option("proactive")
    page.wait_for_timeout(200)


@pytest.mark.parametrize("page", [(390, 844)], indirect=True)
def test_on_a_phone_all_fits_and_the_list_is_a_drawer(page):
    say(page, "Please send me a photo!")
    page.locator("figure.photo.painted img").wait_for()
    ended(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    over = page.evaluate(
        "[...document.querySelectorAll('header *, footer *, main *')].filter("
        "e => e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 80))"
    )
    assert not over
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="New conversation").wait_for()
    page.wait_for_timeout(300)
    axe(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_at_the_beginning(page, scheme):
    page.emulate_media(color_scheme=scheme)
    axe(page)
    page.get_by_role("button", name="Album").click()
    page.get_by_text("No album is open").wait_for()
    axe(page)
