"""Whatever is sent, the service answers in its own words: no request is a fault of the server's."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import live

FEW = settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
parts = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url", "input_image", "image", "video", ""])},
        optional={
            "text": json_values,
            "image_url": json_values | st.fixed_dictionaries({"url": json_values}),
            "data": json_values,
            "source": json_values,
        },
    ),
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "who"]) | json_values},
        optional={"content": json_values | st.lists(parts, max_size=3), "images": json_values},
    )
    | json_values,
    max_size=4,
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with live(tmp_path_factory.mktemp("fuzz")) as client:
        yield client


def answered(answer) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]
    else:
        json.loads(answer.content)


def test_any_messages_are_answered_or_refused(client):
    @FEW
    @given(messages, json_values)
    def run(sent, seed):
        body = {"messages": sent, "seed": seed}
        data = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        answered(client.post("/v1/chat/completions", content=data, headers=headers))
        data = json.dumps({"input": sent}).encode()
        answered(client.post("/v1/responses", content=data, headers=headers))

    run()


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"messages": 1e999}'])
def test_what_is_no_json_is_refused(client, data):
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/chat/completions", content=data, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_no_route_of_the_schema_fails_whatever_is_sent(client):
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    for operation in schema.get_all_operations():
        found = operation.ok()

        @settings(FEW, max_examples=3)
        @given(case=found.as_strategy())
        def run(case):
            assert case.call(base_url=str(client.base_url)).status_code < 500

        run()
