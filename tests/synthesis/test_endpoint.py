"""The client of an OpenAI-compatible server: patient, thrifty, and clear about what is wrong."""

import doctest
import time

import pytest

from seccoderx_lite import endpoint
from seccoderx_lite.endpoint import Budget, ChatEndpoint, Price, Refused, Reply
from seccoderx_lite.errors import GeneratorError, RecipeError
from seccoderx_lite.synth_recipe import GeneratorRecipe
from synthesis.server import FAULTS, serving

PROMPTS = [f"# Application settings\nThink of 2 distinct things, set {n}." for n in range(100)]


def recipe(url: str, **settings) -> GeneratorRecipe:
    quick = {"backoff_s": 0.01, "timeout_s": 0.5, "attempts": 6}
    return GeneratorRecipe(model="played", endpoint=url, **{**quick, **settings})


def ask(chat: ChatEndpoint, prompts=PROMPTS) -> dict[int, Reply | Refused]:
    told: dict[int, Reply | Refused] = {}
    chat.ask_all(prompts, told.__setitem__)
    return told


def test_every_prompt_gets_its_reply_from_a_server_that_misbehaves_in_every_way():
    with serving() as good:
        expected = ask(ChatEndpoint(recipe(good.url)))
    with serving(fault_share=1.0, hang_s=0.7) as bad:
        told = ask(ChatEndpoint(recipe(bad.url)))
        assert set(bad.faults) == set(FAULTS)
        assert max(bad.delivered.values()) == 1
    wrong_content = [n for n in told if told[n].text != expected[n].text]
    assert len(told) == len(PROMPTS)
    assert len(wrong_content) <= len(PROMPTS) / 2  # those the caller has repaired


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, "refused"), (413, "refused"), (422, "refused"), (401, "error"), (404, "error")],
)
def test_a_status_tells_a_bad_prompt_from_a_wrong_setting(httpd, status, outcome):
    chat = ChatEndpoint(recipe(httpd([(status, "no")])))
    if outcome == "refused":
        assert ask(chat, ["x"]) == {0: Refused(f"HTTP {status}: no")}
    else:
        with pytest.raises(GeneratorError, match=r"generator.model and the key"):
            ask(chat, ["x"])


def test_a_server_that_never_answers_ends_the_run_with_what_to_do(httpd):
    url = httpd([(500, "out of order")] * 3)
    with pytest.raises(GeneratorError, match=r"after 3 attempts.*out of order.*go on"):
        ask(ChatEndpoint(recipe(url, attempts=3)), ["x"])


def test_a_prompt_without_reply_can_be_dropped_instead(httpd):
    url = httpd([(500, "out of order")] * 3)
    told = ask(ChatEndpoint(recipe(url, attempts=3, skip_unanswered=True)), ["x"])
    assert isinstance(told[0], Refused)


def test_a_rate_limit_holds_back_every_request(httpd):
    good = (200, '{"choices": [{"message": {"content": "{}"}}]}')
    url = httpd([(429, "slow down", {"Retry-After": "0.4"}), *[good] * 4])
    chat = ChatEndpoint(recipe(url, concurrency=1))
    started = time.monotonic()
    assert len(ask(chat, ["a", "b"])) == 2
    assert time.monotonic() - started >= 0.4


def test_the_key_comes_from_the_environment_and_its_absence_is_told(monkeypatch):
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
        told: dict[int, Reply | Refused] = {}
        with pytest.raises(GeneratorError, match=r"generator.max_cost: .* of 4 are spent"):
            chat.ask_all(PROMPTS, told.__setitem__)
        spent = sum(reply.cost for reply in told.values())
        assert told and spent <= 4.0
        assert len(told) == sum(server.asked.values()) < len(PROMPTS)


def test_what_was_spent_before_counts_towards_the_cap():
    with pytest.raises(GeneratorError, match="max_cost"):
        Budget(cap=1.0, spent=0.9).set_aside(0.2)


def test_the_worked_examples_hold():
    result = doctest.testmod(endpoint)
    assert result.attempted > 0 and result.failed == 0
