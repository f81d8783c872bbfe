"""The page in a real browser (Debian's Chromium): journeys, hostile texts, and what axe finds."""

from __future__ import annotations

import base64
import re
import shutil
import threading
from pathlib import Path

import pytest
from live import album_of_colours, live, with_album
from PIL import Image

from keyword_model import KeywordModel
from showtell.agent.which import Which
from showtell.dialogue import AGENT, Photo, Turn
from showtell.models.reply import Decision, Reply, Shared, Words
from showtell.serve.keys import Keys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).with_name("axe.min.js")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")
HOSTILE = (
    "**bold** <script>document.title='run'</script> ![x](https://evil.test/x.png) "
    "[link](javascript:alert(1)) <img src=x onerror=\"document.title='run'\">"
)
BRING = """([kind, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const brought = new DataTransfer();
    brought.items.add(new File([bytes], 'a.png', { type: 'image/png' }));
    const event = kind === 'drop'
        ? new DragEvent('drop', { dataTransfer: brought, bubbles: true, cancelable: true })
        : new ClipboardEvent('paste', { clipboardData: brought, bubbles: true });
    document.querySelector('textarea').dispatchEvent(event);
}"""  # as if a file was dropped, or pasted


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
    agents = {"keyword": agent, "other": KeywordModel(card={"limits": "It knows drawings alone."})}
    with live(tmp_path_factory.mktemp("page"), agents=agents) as client:
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
    field = page.get_by_label("Your message")
    field.fill(text)
    field.press("Enter")


def ended(page) -> None:
    page.get_by_role("button", name="Send", exact=True).wait_for()
    page.locator(".coming").wait_for(state="detached")


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
    new = page.locator("figure.painted").last
    page.locator("img[alt='a blue dog'].tiny").wait_for()
    page.locator(".coming").wait_for(state="detached")
    page.wait_for_timeout(100)
    button = new.get_by_role("button", name="Why?").bounding_box()
    assert button["y"] < page.locator("footer").bounding_box()["y"]  # the last is in sight
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


def test_reloaded_in_mid_answer_the_talk_goes_on_with_what_came(page):
    say(page, "a slow story again")
    page.get_by_text("Once upon").first.wait_for()
    page.reload()
    page.locator(".turn.agent").get_by_text("Once upon").wait_for()
    assert page.locator(".turn.user").inner_text().endswith("a slow story again")
    assert page.get_by_text("This was not answered").count() == 0
    say(page, "Nice day")
    page.locator(".turn.agent").get_by_text("That is nice to hear.").wait_for()


def test_an_answer_that_was_left_is_not_shown_in_another_talk(page):
    say(page, "a slow and long story")
    page.get_by_text("Once upon").first.wait_for()
    page.get_by_role("button", name="New conversation").click()
    say(page, "Nice day")
    page.locator(".turn.agent").get_by_text("That is nice to hear.").wait_for()
    ended(page)
    assert page.get_by_text("Once upon").count() == 0
    page.get_by_role("button", name="a slow and long story").click()
    page.locator(".turn.agent").get_by_text("Once upon").wait_for()


def test_a_refusal_is_heard_and_another_model_is_chosen_by_its_line(page):
    page.get_by_role("button", name="Who answers: keyword").click()
    axe(page)
    page.get_by_role("button", name="It knows drawings alone.").click()
    say(page, "no photos please")
    page.locator(".turn.agent").get_by_text("That is nice to hear.").wait_for()
    ended(page)
    assert page.locator("figure").count() == 0
    page.get_by_role("button", name="Who answers: other").wait_for()


def test_photos_are_picked_pasted_left_out_and_sent(page, agent, tmp_path):
    Image.new("RGB", (3000, 20), (0, 200, 0)).save(tmp_path / "mine.png")
    (tmp_path / "text.txt").write_text("no photo")
    page.locator("input[type=file]").first.set_input_files([tmp_path / "mine.png"] * 2)
    page.get_by_role("button", name="Leave out photo 2").click()
    data = base64.b64encode((tmp_path / "mine.png").read_bytes()).decode()
    for number, kind in enumerate(("drop", "paste"), start=2):
        page.evaluate(BRING, [kind, data])
        page.get_by_role("button", name=f"Leave out photo {number}").wait_for()
    page.get_by_role("button", name="Send", exact=True).click()
    ended(page)
    images = agent.requests[-1]["images"].values()  # each was made smaller before it left
    assert [image.size[0] for image in images] == [1600, 1600, 1600]
    assert page.locator("figure.mine img").count() == 3
    (tmp_path / "passwd").write_text("root")  # of no kind that its name tells
    for name in ("text.txt", "passwd"):
        page.locator("input[type=file]").first.set_input_files(tmp_path / name)
        page.get_by_text("Only photos can be added.").wait_for()
    assert page.get_by_role("list", name="Photos to send").count() == 0


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
    from playwright.sync_api import expect

    page.route("**/v1/chat/completions", lambda route: route.abort())
    say(page, "do not lose me")
    page.get_by_role("alert").wait_for()
    assert "cannot be reached" in page.get_by_role("alert").inner_text()
    expect(page.get_by_label("Your message")).to_have_value("do not lose me")
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Try again").click()
    page.locator(".turn.agent").get_by_text("That is nice to hear.").wait_for()
    expect(page.locator(".turn.user")).to_have_count(1)
    expect(page.get_by_label("Your message")).to_have_value("")


def test_the_dial_and_the_colours_are_kept(page):
    from playwright.sync_api import expect

    with page.expect_response("**/v1/settings"):
        page.get_by_label("When photos come").select_option("asked")
    page.get_by_label("Colours").select_option("dark")
    page.reload()
    expect(page.get_by_label("When photos come")).to_have_value("asked")
    expect(page.locator("body")).to_have_css("background-color", "rgb(23, 22, 26)")
    axe(page)
    with page.expect_response("**/v1/settings"):
        page.get_by_label("When photos come").select_option("proactive")


def test_with_a_key_one_sees_the_album_and_ones_own_talks(browser, tmp_path):
    keys = Keys(["a-key-that-nobody-guesses"])
    agents = {"dogs": with_album(tmp_path)}
    with live(tmp_path, agents=agents, keys=keys, share_album=True) as client:
        page, held = browser.new_page(), []
        page.route("**/v1/album/a", lambda route: route.continue_() if held else held.append(route))
        page.goto(str(client.base_url))
        page.get_by_label("This server asks for a key").fill("a-key-that-nobody-guesses")
        page.keyboard.press("Enter")
        dog = page.locator(".strip img[alt='a dog']")
        dog.wait_for(state="attached")
        while not held:
            page.wait_for_timeout(20)
        assert dog.get_attribute("src") is None  # else it is an error before it has come
        held[0].continue_()
        dog.wait_for()
        late = []  # the whole album, which comes when something was searched for meanwhile
        page.route("**/v1/album", lambda route: late.append(route))
        page.get_by_role("button", name="Album").click()
        page.get_by_label("Search the album").fill("a giraffe")
        page.get_by_label("Search the album").press("Enter")
        page.get_by_text("No photo of “a giraffe”").wait_for()
        while not late:
            page.wait_for_timeout(20)
        with page.expect_response("**/v1/album"):
            late[0].continue_()
        page.wait_for_timeout(100)
        assert page.get_by_text("No photo of “a giraffe”").is_visible()
        page.get_by_label("Search the album").fill("my dog")
        page.get_by_label("Search the album").press("Enter")
        page.locator(".beside .grid").get_by_text("1.50").wait_for()
        axe(page)
        page.keyboard.press("Escape")
        say(page, "Please send me a photo!")
        ended(page)
        page.locator("figure img[src^='blob:']").wait_for()  # asked for with the key
        page.close()


def test_photos_are_added_to_ones_album_and_removed(browser, tmp_path):
    Image.new("RGB", (40, 30), "green").save(tmp_path / "leaf.png")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "kite.png")
    (tmp_path / "notes.txt").write_text("no photo")
    agent = KeywordModel()
    data = (tmp_path / "leaf.png").read_bytes()
    agent.photos = Which(album=album_of_colours(tmp_path, {"leaf.png": data}))
    with live(tmp_path, agents={"k": agent}) as client:
        page = browser.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(str(client.base_url))
        page.get_by_role("button", name="Album", exact=True).click()
        photos = page.locator(".beside .grid img")
        photos.first.wait_for()
        assert page.get_by_role("button", name="Remove").count() == 0  # the server's own
        page.get_by_label("Add to my album").set_input_files(
            [tmp_path / "kite.png", tmp_path / "notes.txt"]
        )
        page.get_by_text("1 of 2 added").wait_for()
        assert photos.count() == 2
        axe(page)
        page.get_by_role("button", name="Remove").click()
        photos.nth(1).wait_for(state="detached")
        assert len(client.get("/v1/album").json()["data"]) == 1
        page.close()


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
    page.locator(".new:focus").wait_for()
    page.wait_for_timeout(300)  # the drawer slides in
    axe(page)
    page.keyboard.press("Escape")
    page.locator(".menu:focus").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_at_the_beginning(page, scheme):
    page.emulate_media(color_scheme=scheme)
    axe(page)
    page.get_by_role("button", name="Album").click()
    page.get_by_text("No album is open").wait_for()
    axe(page)


def test_photos_of_other_clients_are_listed_and_deleted(page):
    from playwright.sync_api import expect

    body = {"messages": [{"role": "user", "content": "Please send me a photo"}]}
    page.request.post(page.url.split("#")[0] + "v1/chat/completions", data=body)
    page.get_by_text("Photos of other clients").click()
    remove = page.get_by_role("button", name="Delete the photos of the talk of")
    expect(remove).to_have_count(1)
    axe(page)
    remove.click()
    expect(page.get_by_text("None has.")).to_be_visible()
