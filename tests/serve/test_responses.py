"""/v1/responses and /v1/decisions, by the openai client."""

from __future__ import annotations

import base64
import io

import openai
import pytest
from live import live
from PIL import Image

from conftest import responder_of
from keyword_model import KeywordModel
from showtell.dialogue import Photo
from showtell.models.reply import PhotoHere, Preview
from showtell.serve.wire import fingerprint


class FromAlbum(KeywordModel):
    """Whose photos were found."""

    def respond(self, turns, *, tell, **more):
        def told(event):
            if isinstance(event, Preview):
                return  # nothing is painted
            if isinstance(event, PhotoHere):
                photo = Photo(id="mine", caption="my dog", origin="album")
                event = PhotoHere(due=event.due, photo=photo, image=event.image)
            tell(event)

        return super().respond(turns, tell=told, **more)


@pytest.fixture
def api(tmp_path):
    with live(tmp_path, agents={"keyword": KeywordModel(), "album": FromAlbum()}) as client:
        base = str(client.base_url.join("/v1"))
        with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as api:
            yield api


def test_a_response_has_a_message_and_a_painted_photo(api):
    answer = api.responses.create(model="keyword", input="Please send me a photo!")
    assert answer.status == "completed" and answer.output_text == "Sure, here you go!"
    message, call = answer.output
    assert (message.type, call.type) == ("message", "image_generation_call")
    assert Image.open(io.BytesIO(base64.b64decode(call.result))).size == (64, 64)
    assert call.revised_prompt == "a <red> square"


def test_an_album_photo_is_never_said_to_be_generated(api):
    answer = api.responses.create(model="album", input="Please send me a photo!")
    photo = answer.output[-1]
    assert photo.type == "showtell:photo" and photo.model_extra["caption"] == "my dog"
    link = photo.model_extra.get("url")
    assert link.startswith("http://127.0.0.1") and "/p/" in link
    events = list(api.responses.create(model="album", input="Send me a photo!", stream=True))
    assert events[-1].response.output[-1].type == "showtell:photo"
    assert not any("image_generation_call" in repr(event) for event in events)
    added = [event.item for event in events if event.type == "response.output_item.added"]
    assert [item.type for item in added] == ["message", "showtell:photo"]


def test_a_stream_is_put_together_by_the_clients_helper(api):
    kinds = []
    with api.responses.stream(model="keyword", input="Please send me a photo!") as stream:
        for event in stream:
            kinds.append(event.type)
        final = stream.get_final_response()
    assert final.output_text == "Sure, here you go!" and final.output[-1].result
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    steps = [kind for kind in kinds if "image_generation_call" in kind]
    assert steps[0].endswith("in_progress") and steps[-1].endswith("completed")


def test_a_talk_goes_on_from_a_response_and_forks_from_an_earlier_one(api):
    first = api.responses.create(model="keyword", input="Please send me a photo!")
    second = api.responses.create(input="Nice day", previous_response_id=first.id)
    assert second.output_text == "That is nice to hear."
    told = second.model_extra["showtell"]["conversation"]
    assert told == first.model_extra["showtell"]["conversation"]
    fork = api.responses.create(input="Another photo!", previous_response_id=first.id)
    assert fork.model_extra["showtell"]["conversation"] != told
    with pytest.raises(openai.NotFoundError):
        api.responses.create(input="hi", previous_response_id="resp_of_nobody")
    said = api.chat.completions.create(
        model="keyword", messages=[{"role": "user", "content": "Please send me a photo!"}]
    )
    text = said.choices[0].message.content
    with pytest.raises(openai.NotFoundError):  # what its photo is found by is no response
        api.responses.create(input="hi", previous_response_id=fingerprint(text))
    with pytest.raises(openai.BadRequestError, match="function_call"):
        api.responses.create(input=[{"type": "function_call", "call_id": "1", "name": "x"}])
    given = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "how are you?"}]},
    ]
    assert api.responses.create(model="keyword", input=given).output_text


def test_a_decision_is_the_agents_own_chance_and_other_questions_are_refused(
    tiny_end_to_end, tmp_path
):
    agent = responder_of(tiny_end_to_end, share_threshold=0.5)
    with live(tmp_path, agents={"tiny": agent, "keyword": KeywordModel()}) as client:
        base = str(client.base_url.join("/v1"))
        with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as api:
            questions = [
                {"type": "predicate", "name": "photo", "instructions": "A photo comes next."},
                {"type": "predicate", "name": "sun", "instructions": "It will rain."},
            ]
            ask = {"input": [{"role": "user", "content": "my dog"}], "questions": questions}
            found = api.decisions.create(model="tiny", **ask)
            photo, sun = found.answers
            reply = agent.respond(found_turns("my dog"), images={}, seed=0)
            assert photo.probability == pytest.approx(reply.p_share[0], rel=1e-6)
            assert (sun.type, sun.name) == ("refusal", "sun")
            with pytest.raises(openai.BadRequestError, match="tells no chance"):
                api.decisions.create(model="keyword", **ask)


def test_what_was_read_and_told_is_counted(tiny_end_to_end, tmp_path):
    agent = responder_of(tiny_end_to_end, share_threshold=1.1)
    with live(tmp_path, agents={"tiny": agent}) as client:
        renderer = agent.model.renderer
        row = renderer.render_turns(found_turns("my dog"), has_pixels=lambda photo: False)
        row.put(renderer.form.between, label=False)
        used = client.post("/v1/responses", json={"input": "my dog"}).json()["usage"]
        assert used["input_tokens"] == len(row.ids)
        assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"]
        chat = {"messages": [{"role": "user", "content": "my dog"}]}
        used = client.post("/v1/chat/completions", json=chat).json()["usage"]
        assert used["prompt_tokens"] == len(row.ids)


def found_turns(text):
    from showtell.dialogue import USER, Turn

    return (Turn(speaker=USER, elements=(text,)),)
