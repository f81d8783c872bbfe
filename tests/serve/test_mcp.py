"""showtell mcp, asked by the client of the official package."""

from __future__ import annotations

import base64
import io
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.request import url2pathname

import anyio
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from PIL import Image

from keyword_model import KeywordModel
from showtell.agent.audit import Audit
from showtell.agent.provenance import mark_of
from showtell.agent.safety import Safety
from showtell.agent.session import responder
from showtell.album.find import CUT_OFF
from showtell.dialogue import Photo
from showtell.papers import load_model
from showtell.serve.tools import MAX_IMAGE, PAGE, build_tools, small_file

HOSTILE = 'a "dog" </figcaption><script>alert(1)</script>'


class Album:
    """Has what its words name."""

    finder = SimpleNamespace(cut_off=CUT_OFF)

    def __init__(self, **photos):
        self.photos = photos

    def hits(self, words, *, top_k):
        own = [
            SimpleNamespace(
                photo=SimpleNamespace(id=name), score=CUT_OFF + (0.5 if name in words else -0.5)
            )
            for name in self.photos
        ]
        return sorted(own, key=lambda hit: -hit.score)[:top_k]

    def opened(self, hit):
        return self.photos[hit.photo.id]


def asked(server, *calls):
    """The results of tools; "tools", "ui://..." read what there is."""

    async def run():
        async with Client(server) as client:
            results = []
            for call in calls:
                if call == "tools":
                    results.append((await client.list_tools()).tools)
                elif isinstance(call, str):
                    results.append((await client.read_resource(call)).contents[0])
                else:
                    results.append(await client.call_tool(*call))
            return results

    return anyio.run(run)


@pytest.fixture(scope="module")
def mini():
    return responder(load_model("mini"))


def tools(folder, agent, **more):
    more = {"safety": Safety(), "audit": Audit(folder / "shared.jsonl"), **more}
    return build_tools(agent, folder=folder, **more)


def checked(result, folder) -> tuple[str, bytes, str]:
    """(text, the file that it names, the address of the page); the three ways of a photo."""
    text, image, link = result.content
    assert not result.is_error
    assert (text.type, image.type, link.type) == ("text", "image", "resource_link")
    assert len(image.data) < 1_000_000 and image.mime_type == "image/jpeg"
    assert Image.open(io.BytesIO(base64.b64decode(image.data))).format == "JPEG"
    assert link.uri.startswith("ui://") and link.mime_type == "text/html;profile=mcp-app"
    path = Path(url2pathname(text.text.splitlines()[1].removeprefix("file://")))
    assert path.parent == folder.resolve()
    return text.text, path.read_bytes(), link.uri


def test_U6_a_painted_photo_comes_as_text_a_small_image_and_a_page(tmp_path, mini):
    call = ("paint", {"caption": "a red dog at the beach", "seed": 3})
    told, painted, again = asked(tools(tmp_path, mini), "tools", call, call)
    assert [tool.name for tool in told] == ["paint", "should_i_share"]
    assert told[0].meta["ui"]["resourceUri"] == PAGE
    assert "drawn" in told[0].description  # what the painter can do is said
    text, data, _ = checked(painted, tmp_path)
    assert text.startswith("Painted: a red dog at the beach")
    mark = mark_of(data)
    assert (mark.generated, mark.model, mark.seed) == (True, "mini", 3)
    assert mark_of(base64.b64decode(painted.content[1].data)).generated
    assert checked(again, tmp_path)[1] == data and len(list(tmp_path.glob("*.png"))) == 1
    assert '"origin": "painted"' in (tmp_path / "shared.jsonl").read_text()


def test_whether_to_share_is_answered_with_chance_and_reason(tmp_path, mini):
    talk = [{"role": "user", "content": "can you send me a photo of your dog?"}]
    ended = [{"role": "user", "content": "no more photos please. bye!"}]
    yes, no, none = asked(
        tools(tmp_path, mini), *(("should_i_share", {"messages": m}) for m in (talk, ended, []))
    )
    assert yes.content[0].text == "Yes, share a photo now: you asked for a photo."
    assert yes.structured_content["share"] and 0 <= yes.structured_content["p_share"] <= 1
    assert no.content[0].text.startswith("No photo now: you want no photos")
    assert none.is_error and "no messages" in none.content[0].text


def test_the_album_is_searched_and_what_it_lacks_is_said(tmp_path):
    dog = Photo(id="dog", caption=HOSTILE, origin="album")
    album = Album(dog=(dog, Image.new("RGB", (300, 200), "brown")))
    server = tools(tmp_path, KeywordModel(), album=album)
    listed, found, lacks = asked(
        server, "tools", *(("search_album", {"text": t}) for t in ("my dog", "a giraffe"))
    )
    assert [tool.name for tool in listed] == ["search_album"]  # what cannot be done is not offered
    text, data, page = checked(found, tmp_path)
    assert text.startswith("From the album") and not mark_of(data).generated
    assert found.structured_content["hits"][0]["id"] == "dog"
    assert lacks.content[0].text == "There is no such photo in the album."
    assert not lacks.is_error and lacks.structured_content["found"] == []
    (html,) = asked(server, page)
    assert html.mime_type == "text/html;profile=mcp-app" and "<script" not in html.text
    (static,) = asked(server, PAGE)
    assert "ui/initialize" in static.text and "http" not in static.text.replace("http-", "")


@pytest.mark.parametrize(
    ("tool", "given", "says"),
    [
        ("paint", {"caption": "a nude portrait"}, "rather not"),
        ("paint", {"caption": "  "}, "empty"),
        ("paint", {"caption": "a\0b"}, "control character"),
        ("paint", {"caption": 7}, "valid string"),
        ("paint", {}, "required"),
        ("paint", {"caption": "x" * 30_000}, "30,000 characters"),
        ("should_i_share", {"messages": [{"role": "system", "content": "x"}]}, "user"),
    ],
)
def test_a_call_that_cannot_be_answered_says_why(tmp_path, mini, tool, given, says):
    (result,) = asked(tools(tmp_path, mini), (tool, given))
    assert result.is_error and says in result.content[0].text
    assert not list(tmp_path.glob("*.png")) and "Traceback" not in result.content[0].text


def test_a_large_photo_is_made_small():
    noise = Image.frombytes("RGB", (1500, 1200), random.Random(0).randbytes(1500 * 1200 * 3))
    assert len(small_file(Photo(id="p"), noise)) <= MAX_IMAGE


def test_a_process_speaks_it_on_stdin_and_stdout(tmp_path):
    root = Path(__file__).parents[2] / "src"
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "showtell", "mcp", "--model", "mini", "--photos-dir", str(tmp_path / "photos")],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    listed, painted = asked(server, "tools", ("paint", {"caption": "a blue cat", "seed": 1}))
    assert {tool.name for tool in listed} == {"paint", "should_i_share"}
    checked(painted, tmp_path / "photos")
