"""What a server's reply means: the model's own failure, or one to ask about again."""

import json

import pytest
from helpers.chat_server import chat_reply, server

from seccoderx_lite.models.endpoint_generator import NEUTRAL_SAMPLING, EndpointGenerator
from seccoderx_lite.recipe.recipe import EndpointRecipe


def generator(url, **settings):
    quick = {"timeout_s": 5.0, "backoff_s": 0.01, "attempts": 2}
    return EndpointGenerator(EndpointRecipe(url=url, model="m", **{**quick, **settings}))


def generate(endpoint, *prompts):
    return endpoint.generate(prompts or ["x"], max_new_tokens=99, temperature=0.5)


def reply(content, finish_reason="stop", choice=None, **message):
    fields = {"finish_reason": finish_reason, "message": {"content": content, **message}}
    return 200, json.dumps({"choices": [{**fields, **(choice or {})}], "usage": None}).encode()


def part(text, kind="text"):
    return {"type": kind, kind if kind == "thinking" else "text": text}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (reply("code"), "code"),
        (reply([part("a"), part("b")]), "ab"),
        (reply(["a", part("b", "output_text")]), "ab"),
        (reply([part("hm", "thinking"), part("b")]), "b"),
        (reply([part("hm", "reasoning"), part("b")]), "b"),
        (reply("half \ud83d of a pair"), "half ? of a pair"),
        (reply("cut off", "length"), "cut off"),
        (reply(None, "length", reasoning_content="Well"), "<think>\nWell"),
        (reply("", "length", reasoning="Well"), "<think>\nWell"),
        (reply([], "length"), "<think>\n"),
        (reply("", "stop", reasoning_content="Well"), "<think>\nWell"),
        (reply(None, refusal="I will not."), "I will not."),
        (reply([{"type": "refusal", "refusal": "No."}]), "No."),
        (reply(None, "content_filter"), ""),
        (reply(None, "tool_calls", tool_calls=[{"id": "1"}]), ""),
        (reply(""), ""),
    ],
)
def test_what_the_model_did_is_its_answer_and_asked_once(answer, text):
    with server(lambda body: answer) as (url, requests):
        assert generate(generator(url)) == [text]
    assert len(requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        reply("", "error"),
        reply("half", choice={"error": {"code": 502, "message": "upstream"}}),
        reply(None),
        reply([3]),
        (200, b'{"choices": [{"message": "text"}]}'),
        (200, b'{"choices": [null]}'),
        (200, b'data: {"choices": []}\n\n'),
        (503, b"busy"),
    ],
)
def test_what_the_server_did_is_asked_again_and_no_answer(answer):
    with server(lambda body: answer) as (url, requests):
        assert generate(generator(url)) == [None]
    assert len(requests) == 2


def test_sampling_is_neutral_unless_the_recipe_says_otherwise():
    with server(lambda body: chat_reply("x")) as (url, requests):
        generate(generator(url))
        request = {"max_tokens": None, "max_completion_tokens": 7, "top_p": 0.9, "top_k": None}
        generate(generator(url, request=request))
    first, second = (body for _, _, body in requests)
    assert first["temperature"] == 0.5 and NEUTRAL_SAMPLING.items() <= first.items()
    assert (second["max_completion_tokens"], second["top_p"]) == (7, 0.9)
    assert not {"max_tokens", "top_k"} & second.keys()


@pytest.mark.parametrize("field", NEUTRAL_SAMPLING)
def test_a_server_that_rejects_neutral_sampling_is_asked_without_it_from_then_on(field):
    def answer(body):
        if field in body:
            return 400, f"Unrecognized request argument supplied: {field}".encode()
        return chat_reply("x")

    with server(answer) as (url, requests):
        assert generate(generator(url, concurrency=1), "a", "b", "c") == ["x"] * 3
    assert len(requests) == 4


def test_every_kind_of_failure_is_named(caplog):
    replies = iter([(400, b"too long"), (400, b"too long"), (422, b"odd"), (413, b"big")])
    with server(lambda body: next(replies)) as (url, _):
        assert generate(generator(url, concurrency=1), *"abcd") == [None] * 4
    assert "last failure: HTTP 413: big" in caplog.text
    assert "2 times: HTTP 400: too long" in caplog.text and "HTTP 422: odd" in caplog.text
