"""The page that hosts with MCP Apps put into a talk, in a real browser, inside a host's frame."""

from __future__ import annotations

import base64
import html
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

import showtell.serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = (Path(showtell.serve.__file__).parent / "tool_page.html").read_text()
HOST = """
<iframe id="app" sandbox="allow-scripts" srcdoc="%s"></iframe>
<script>
  window.heard = [];
  window.addEventListener("message", (event) => {
    window.heard.push(event.data.method ?? "answer");
    if (event.data.method === "ui/initialize")
      event.source.postMessage({ jsonrpc: "2.0", id: event.data.id, result: {} }, "*");
  });
  window.send = (params) => document.getElementById("app").contentWindow.postMessage(
    { jsonrpc: "2.0", method: "ui/notifications/tool-result", params }, "*");
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")
def test_it_greets_the_host_and_shows_the_photo_of_a_result():
    from playwright.sync_api import sync_playwright

    data = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(data, "JPEG")
    image = {
        "type": "image",
        "mimeType": "image/jpeg",
        "data": base64.b64encode(data.getvalue()).decode(),
    }
    caption = "<img src=x onerror=alert(1)> a dog"
    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append("dialog"))
        page.set_content(HOST % html.escape(PAGE))
        page.wait_for_function("heard.includes('ui/notifications/initialized')")
        frame = page.frames[1]
        found = [{"caption": caption, "origin": "painted"}]
        page.evaluate("send", {"content": [image], "structuredContent": {"found": found}})
        frame.wait_for_function("document.getElementById('photo').naturalWidth === 40")
        assert frame.locator("#caption").inner_text() == f"{caption} (painted)"
        assert frame.locator("#photo").get_attribute("alt") == caption
        assert frame.locator("img").count() == 1
        page.evaluate("send", {"content": [{"type": "text", "text": "There is no such photo."}]})
        frame.wait_for_selector("#none:has-text('no such photo')")
        assert frame.locator("#shown").is_hidden()
        page.wait_for_function("heard.includes('ui/notifications/size-changed')")
        assert not [url for url in asked if url.startswith(("http", "dialog"))]
        browser.close()
