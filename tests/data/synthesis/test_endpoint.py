"""The client of an OpenAI-compatible server: patient, thrifty, and clear about what is wrong."""

import json
import time

import pytest
from helpers.synthesis_server import FAULTS, serving

from seccoderx_lite.core.errors import GeneratorError, RecipeError
from seccoderx_lite.data.synthesis.budget import Budget, Price
from seccoderx_lite.data.synthesis.endpoint import ChatEndpoint
from seccoderx_lite.data.synthesis.replies import Refused, Reply
from seccoderx_lite.models import chat_client
from seccoderx_lite.recipe.synth import GeneratorRecipe

PROMPTS = [f"# Application settings\nThink of 2 distinct things, set {n}." for n in range(100)]


def recipe(url: str, **settings) -> GeneratorRecipe:
    quick = {"backoff_s": 0.01, "timeout_s": 1.5, "attempts": 6}
    return GeneratorRecipe(model="played", endpoint=url, **{**quick, **settings})


def ask(chat: ChatEndpoint, prompts=PROMPTS) -> dict[int, Reply | Refused]:
    replies: dict[int, Reply | Refused] = {}
    chat.ask_all(prompts, replies.__setitem__)
    return replies


def test_every_prompt_gets_its_reply_from_a_server_that_misbehaves_in_every_way():
    with serving() as good:
        expected = ask(ChatEndpoint(recipe(good.url)))
    with serving(fault_share=1.0, hang_s=1.8) as bad:
        replies = ask(ChatEndpoint(recipe(bad.url)))
        assert set(bad.faults) == set(FAULTS)
        assert max(bad.delivered.values()) == 1
    wrong_content = [n for n in replies if replies[n].text != expected[n].text]
    assert len(replies) == len(PROMPTS)
    assert len(wrong_content) <= len(PROMPTS) / 2  # those the caller has repaired


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_bad_prompt_is_refused_alone(httpd, status):
    chat = ChatEndpoint(recipe(httpd([(status, "no")])))
    assert ask(chat, ["x"]) == {0: Refused(f"HTTP {status}: no")}


@pytest.mark.parametrize(
    ("status", "settings", "advice"),
    [
        (404, {}, r"check the address .* and generator\.model"),
        (401, {}, r"set generator\.api_key_env"),
        (403, {"api_key_env": "THE_KEY"}, "check the key in THE_KEY"),
    ],
)
def test_a_wrong_setting_ends_the_run_at_once(httpd, monkeypatch, status, settings, advice):
    monkeypatch.setenv("THE_KEY", "x")
    chat = ChatEndpoint(recipe(httpd([(status, "no")]), **settings))
    with pytest.raises(GeneratorError, match=f"HTTP {status}: no; .*{advice}"):
        ask(chat, ["x"])


def test_a_server_that_was_never_reached_is_reported_at_once():
    started = time.monotonic()
    with pytest.raises(GeneratorError, match=r"cannot be reached.*the address under generator"):
        ask(ChatEndpoint(recipe("http://127.0.0.1:9/v1", backoff_s=60.0)), ["x"])
    assert time.monotonic() - started < 10


def chat_reply(content: str | None, **choice) -> str:
    message = {"content": content, **choice.pop("message", {})}
    usage = {"prompt_tokens": 10, "completion_tokens": 100}
    return json.dumps({"choices": [{"message": message, **choice}], "usage": usage})


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"error": {"code": 429, "message": "slow down"}}, "again"),
        ({"error": {"message": "upstream is gone"}}, "again"),
        ({"error": "busy"}, "again"),
        ({"error": {"code": 400, "message": "too long"}}, "refused"),
        ({"error": {"code": 404, "message": "no such model"}}, "error"),
    ],
)
def test_an_error_in_the_body_of_a_200_counts_as_its_code(httpd, body, outcome):
    chat = ChatEndpoint(recipe(httpd([(200, json.dumps(body)), (200, chat_reply("{}"))])))
    if outcome == "error":
        with pytest.raises(GeneratorError, match="no such model"):
            ask(chat, ["x"])
    else:
        reply = ask(chat, ["x"])[0]
        assert isinstance(reply, Refused) if outcome == "refused" else reply.text == "{}"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (chat_reply("", finish_reason="length"), "no answer within 4096 tokens"),
        (chat_reply(None, finish_reason="content_filter"), "content filter"),
        (chat_reply(None, message={"refusal": "I will not."}), "the model refuses: I will not."),
    ],
)
def test_a_model_that_will_not_answer_is_not_asked_again_and_is_paid(httpd, reply, reason):
    paid: list[Reply] = []
    priced = {"input_price": 1.0, "output_price": 1.0}
    chat = ChatEndpoint(recipe(httpd([(200, reply)]), **priced), on_empty=paid.append)
    assert reason in ask(chat, ["x"])[0].reason
    assert [useless.cost for useless in paid] == [pytest.approx(110e-6)]


def test_a_server_that_drips_is_cut_off_at_the_time_out(httpd):
    url = httpd([(200, " " * 50, {}, 0.1), (200, chat_reply("{}"))])
    started = time.monotonic()
    assert ask(ChatEndpoint(recipe(url)), ["x"])[0].text == "{}"
    assert 1.5 <= time.monotonic() - started < 10


def test_a_server_that_drips_in_time_is_heard_out(httpd):
    url = httpd([(200, chat_reply("{}"), {}, 0.001)])
    assert ask(ChatEndpoint(recipe(url, timeout_s=20.0)), ["x"])[0].text == "{}"


def test_a_reply_without_end_is_not_held_in_memory(httpd, monkeypatch):
    monkeypatch.setattr(chat_client, "LARGEST_REPLY_BYTES", 1000)
    url = httpd([(200, " " * 5000), (200, chat_reply("{}"))])
    assert ask(ChatEndpoint(recipe(url)), ["x"])[0].text == "{}"


def test_fields_of_a_request_are_added_changed_and_left_out():
    given = {"max_tokens": None, "max_completion_tokens": 9000, "temperature": None}
    with serving() as server:
        ask(ChatEndpoint(recipe(server.url, request=given)), PROMPTS[:1])
        (body,) = server.bodies
    assert body["max_completion_tokens"] == 9000 == recipe("http://x", request=given).most_tokens
    assert not {"max_tokens", "temperature"} & set(body)


def test_replies_in_flight_are_kept_when_the_user_interrupts():
    replies: dict[int, Reply | Refused] = {}

    def interrupt(number: int, reply: Reply | Refused) -> None:
        replies[number] = reply
        if len(replies) == 1:
            raise KeyboardInterrupt

    with serving() as server:
        with pytest.raises(KeyboardInterrupt):
            ChatEndpoint(recipe(server.url)).ask_all(PROMPTS, interrupt)
        assert len(replies) == sum(server.asked.values()) < len(PROMPTS)


def test_a_server_that_never_answers_ends_the_run_with_what_to_do(httpd):
    url = httpd([(500, "out of order")] * 3)
    with pytest.raises(GeneratorError, match=r"after 3 attempts.*out of order.*go on"):
        ask(ChatEndpoint(recipe(url, attempts=3)), ["x"])


def test_a_prompt_without_reply_can_be_dropped_instead(httpd):
    url = httpd([(500, "out of order")] * 3)
    replies = ask(ChatEndpoint(recipe(url, attempts=3, skip_unanswered=True)), ["x"])
    assert isinstance(replies[0], Refused)


def test_a_rate_limit_holds_back_every_request(httpd):
    good = (200, '{"choices": [{"message": {"content": "{}"}}]}')
    url = httpd([(429, "slow down", {"Retry-After": "0.4"}), *[good] * 4])
    chat = ChatEndpoint(recipe(url, concurrency=1))
    started = time.monotonic()
    assert len(ask(chat, ["a", "b"])) == 2
    assert time.monotonic() - started >= 0.4


def test_the_key_comes_from_the_environment_and_its_absence_is_reported(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(RecipeError, match="NO_SUCH_KEY is not set"):
        ChatEndpoint(recipe("http://127.0.0.1:9/v1", api_key_env="NO_SUCH_KEY"))


def test_tokens_and_cost_are_counted():
    with serving() as server:
        chat = ChatEndpoint(recipe(server.url, input_price=1.0, output_price=2.0))
        reply = ask(chat, PROMPTS[:1])[0]
    assert isinstance(reply, Reply)
    assert reply.input_tokens == len(PROMPTS[0]) // 4
    assert reply.cost == Price(1.0, 2.0).of(reply.input_tokens, reply.output_tokens) > 0


def test_no_request_is_sent_that_could_cross_the_cap():
    with serving() as server:
        priced = {"input_price": 1e3, "output_price": 1e3, "max_new_tokens": 1000}
        chat = ChatEndpoint(recipe(server.url, max_cost=4.0, **priced))
        replies: dict[int, Reply | Refused] = {}
        with pytest.raises(GeneratorError, match=r"generator.max_cost: .* of 4 is spent"):
            chat.ask_all(PROMPTS, replies.__setitem__)
        spent = sum(reply.cost for reply in replies.values())
        assert replies and spent <= 4.0
        assert len(replies) == sum(server.asked.values()) < len(PROMPTS)


def test_what_was_spent_before_counts_towards_the_cap():
    with pytest.raises(GeneratorError, match="max_cost"):
        Budget(cap=1.0, spent=0.9).reserve(0.2)
