"""The client of OpenAI-compatible servers: order, concurrency, seeds, retries, and one line for each way to fail."""

import asyncio
import os
import signal
import socket
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_posttrain.servers.client import ServerAnswer, ServerClient, ServerSpec, request_seed
from lightning_posttrain.types import Message, UserError
from tests.conftest import HANGS
from tests.servers.fake_server import FakeServer, echo, error, say, serving, slowly


@pytest.fixture
def server():
    with serving(FakeServer()) as running:
        yield running


def talks(*texts: str) -> list[list[Message]]:
    return [[Message("system", "Be brief."), Message("user", text)] for text in texts]


def ask(server: FakeServer, *texts: str, **options):
    """Answers to ``texts``; options of the spec have its names."""
    names = ("model", "api_key_env", "concurrency", "timeout_seconds", "retries", "extra_body")
    spec = {name: options.pop(name) for name in names if name in options}
    return ServerClient(ServerSpec(server.url, **spec)).chat_all(talks(*texts), **{"max_new_tokens": 7, **options})


# ---- what is asked and what comes back ------------------------------------------------------------------------------


def test_a_greedy_request_says_only_what_every_server_knows(server):
    assert ask(server, "hello", seeds=[1], top_k=5, top_p=0.9, min_p=0.1) == [[ServerAnswer("hello", True, 3)]]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    assert server.asked == [{"model": "small", "messages": messages, "max_tokens": 7, "temperature": 0.0}]


def test_a_drawn_request_has_its_seed_and_truncations_only_where_they_truncate(server):
    ask(server, "a", temperature=0.5, seeds=[1])
    assert {k: v for k, v in server.asked[0].items() if k != "messages"} == {
        "model": "small",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": request_seed(1, 0),
    }
    ask(server, "a", temperature=0.5, top_k=3, top_p=0.9, min_p=0.25)
    assert {k: server.asked[1][k] for k in ("top_k", "top_p", "min_p")} == {"top_k": 3, "top_p": 0.9, "min_p": 0.25}
    assert "seed" not in server.asked[1]


def test_extra_fields_are_sent_and_null_leaves_one_out(server):
    kept = {"chat_template_kwargs": {"enable_thinking": False}, "top_k": -1}
    ask(server, "a", temperature=0.5, seeds=[1], extra_body={**kept, "max_completion_tokens": 9, "max_tokens": None})
    assert {"max_tokens"}.isdisjoint(server.asked[0])
    assert {k: server.asked[0][k] for k in (*kept, "max_completion_tokens")} == {**kept, "max_completion_tokens": 9}
    ask(server, "a", temperature=0.5, top_k=4, extra_body=kept)
    assert server.asked[1]["top_k"] == 4  # what the sampling says wins


def test_what_a_model_did_not_end_is_not_finished(server):
    replies = [say("a", "length", 7), say("b", "content_filter"), say("c", "stop", 2)]
    server.reply = lambda body, number: replies[number]
    answers = ask(server, "1", "2", "3", concurrency=1)
    assert answers == [[ServerAnswer("a", False, 7)], [ServerAnswer("b", False, 3)], [ServerAnswer("c", True, 2)]]


def test_reasoning_is_no_part_of_the_text_and_no_content_is_empty_text(server):
    uncounted = say("so", reasoning_content="hm")
    del uncounted["body"]["usage"]
    replies = [uncounted, say(None, "length", reasoning_content="still thinking")]
    server.reply = lambda body, number: replies[number]
    assert ask(server, "1", "2", concurrency=1) == [[ServerAnswer("so", True, 0)], [ServerAnswer("", False, 3)]]


def test_no_conversations_need_no_answers(server):
    assert ask(server) == []
    assert server.asked == []


def test_half_a_surrogate_is_sent_as_a_question_mark(server):
    assert ask(server, "a\ud800b")[0][0].text == "a?b"


# ---- order, concurrency, seeds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4])
def test_so_many_requests_are_in_flight_and_the_order_is_kept(server, concurrency):
    server.reply = lambda body, number: slowly(0.02 if number % 3 else 0.06)(body, number)
    texts = [str(i) for i in range(12)]
    answers = ask(server, *texts, n=2, concurrency=concurrency)
    assert [[a.text for a in group] for group in answers] == [[text, text] for text in texts]
    assert server.most_in_flight == concurrency
    assert len(server.asked) == 24


@settings(max_examples=10)
@given(texts=st.lists(st.text(st.characters(codec="utf-8")), max_size=9), concurrency=st.integers(1, 5))
def test_any_texts_come_back_in_their_places(texts, concurrency):
    with serving(FakeServer()) as server:
        assert [group[0].text for group in ask(server, *texts, concurrency=concurrency)] == texts


def test_seeds_belong_to_conversation_and_sample_whatever_the_order(server):
    server.reply = lambda body, number: say(str(body["seed"]))
    how = {"temperature": 1.0, "n": 3}
    there = [[a.text for a in group] for group in ask(server, "a", "b", seeds=[5, 6], **how)]
    back = [[a.text for a in group] for group in ask(server, "b", "a", seeds=[6, 5], concurrency=1, **how)]
    assert there == back[::-1]
    assert len({seed for group in there for seed in group}) == 6
    assert all(0 <= int(seed) < 2**31 for group in there for seed in group)


def test_a_seed_is_a_hash_of_its_key():
    # blake2b of "[1, \"a\"]" with 4 bytes is c698996a, little-endian 0x6a9998c6, halved.
    assert request_seed(1, "a") == 0x6A9998C6 >> 1
    assert request_seed(1, "a") != request_seed(1, "b")


# ---- failures that pass ---------------------------------------------------------------------------------------------


def test_errors_and_hang_ups_are_asked_again(server):
    for failure in (error(500, "busy"), error(503, "loading"), error(429, "slow down"), None):
        server.asked.clear()
        server.reply = lambda body, number, failure=failure: failure if number < 1 else echo(body, number)
        assert ask(server, "a")[0][0].text == "a"
        assert len(server.asked) == 2


def test_twice_is_not_too_often(server):
    server.reply = lambda body, number: error(500, "busy") if number < 2 else echo(body, number)
    assert ask(server, "a", retries=2)[0][0].text == "a"
    assert len(server.asked) == 3


def test_it_works_inside_a_running_event_loop(server):
    async def notebook():
        return ask(server, "a")

    assert asyncio.run(notebook())[0][0].text == "a"


def test_an_interrupt_does_not_wait_for_the_server(server):
    hold, held = threading.Event(), []

    def reply(body, number):
        os.kill(os.getpid(), signal.SIGINT)
        held.append(hold.wait(HANGS))

    server.reply = reply
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever an earlier test has left
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(server, "a", "b", concurrency=1)
        assert not held  # the server has not answered, and is not waited for
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(server.asked) == 1
    hold.set()


# ---- failures that do not -------------------------------------------------------------------------------------------


def refusal(server: FakeServer, *texts: str, **options) -> str:
    with pytest.raises(UserError) as raised:
        ask(server, *(texts or ("a",)), **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_server_that_goes_away_says_how_far_it_got(server):
    server.reply = lambda body, number: echo(body, number) if number < 12 else None
    message = refusal(server, *map(str, range(40)), retries=0, concurrency=1)
    assert message.startswith(f"server at {server.url} went away after 12 of 40 answers: ")
    assert message.endswith("start it again and give the same command")


def test_a_server_that_only_fails_is_quoted_and_no_more_is_asked(server):
    server.reply = lambda body, number: error(500, "out of\nmemory")
    message = refusal(server, *map(str, range(9)), retries=2, concurrency=1)
    assert "conversation 0: the server at" in message
    assert "status 500 in 3 attempts, after 0 of 9 answers: out of memory" in message
    assert len(server.asked) == 3


def test_where_nothing_answers_the_address_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with pytest.raises(UserError, match=rf"server.base_url={url}: no server answers there .*vllm serve MODEL"):
        _ = ServerClient(ServerSpec(url, retries=0)).model


def test_an_address_without_v1_is_explained(server):
    server.url = server.url.removesuffix("/v1")
    assert "no list of models" in (message := refusal(server))
    assert "mostly ends in /v1" in message
    assert "server.base_url" in refusal(server, model="small")  # which is not listed there, but asked for


def test_what_is_no_chat_completion_is_quoted(server):
    parts = {"choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}]}
    for strange in (
        "<html>Hello</html>",
        '{"choi',
        {"error": 1},
        {"choices": []},
        {"choices": [{"message": None}]},
        [],
        parts,
    ):
        server.reply = lambda body, number, strange=strange: {"body": strange}
        assert "answered with no chat completion" in refusal(server)
    server.models = None
    assert "no list of models" in refusal(server)


def test_a_slow_server_is_told_from_one_that_is_gone(server):
    hold = threading.Event()
    server.reply = lambda body, number: hold.wait(HANGS) and echo(body, number)
    client = ServerClient(ServerSpec(base_url=server.url, model="small", retries=0))
    assert client.model == "small"  # the list of models has all the time it needs
    client.spec = replace(client.spec, timeout_seconds=0.1)
    with pytest.raises(UserError, match=r"did not answer within 0\.1 seconds, in 1 attempts"):
        client.chat_all([[Message("user", "a")]], max_new_tokens=1)
    hold.set()


def test_the_key_comes_from_the_environment_and_is_never_shown(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    ask(server, "a", api_key_env="SOME_KEY")
    assert server.keys == ["Bearer sk-secret"]
    for status in (401, 403):
        server.reply = lambda body, number, status=status: error(status, "wrong key sk-secret")
        message = refusal(server, api_key_env="SOME_KEY")
        assert "refuses the key in the environment variable SOME_KEY" in message
        assert "sk-secret" not in message
        assert "server.api_key_env" in refusal(server)
    server.listing = error(401, "no")
    assert "SOME_KEY" in refusal(server, api_key_env="SOME_KEY")
    assert "server.api_key_env" in refusal(server, model="small")
    monkeypatch.delenv("SOME_KEY")
    assert "the environment has no such variable" in refusal(server, api_key_env="SOME_KEY")


def test_the_model_is_the_only_one_or_the_named_one(server):
    assert ServerClient(ServerSpec(server.url)).model == "small"
    server.models += [{"id": "large", "object": "model", "created": 0, "owned_by": "me"}]
    assert "lists several models: small, large; name the one to ask: server.model" in refusal(server)
    assert ServerClient(ServerSpec(server.url, model="large")).model == "large"
    server.models = []
    assert "lists no model" in refusal(server)
    server.listing = error(500, "no cache")
    assert ask(server, "a", model="large")[0][0].text == "a"  # a server need not list what it has
    assert "name the model to ask: server.model" in refusal(server, retries=0)


def test_an_unknown_model_is_named_with_those_that_are_there(server):
    for status in (404, 400):
        server.reply = lambda body, number, status=status: error(status, "The model `huge` does not exist.")
        message = refusal(server, model="huge")
        assert "server.model=huge, and it lists small" in message


def test_a_conversation_that_is_too_long_is_named(server):
    texts = ("This model's maximum context length is 20 tokens.", "The input is longer than the model's context length")
    for text in texts:
        server.reply = lambda body, number, text=text: error(400, text) if number % 3 == 1 else echo(body, number)
        server.asked.clear()
        assert "conversation 1: too long" in (message := refusal(server, "a", "b", "c", concurrency=1))
        assert "max_new_tokens=7" in message
        server.asked.clear()
        assert "f:2: too long" in refusal(server, "a", "b", "c", names=["f:1", "f:2", "f:3"], concurrency=1)


def test_a_refused_field_is_named_with_its_remedy(server):
    server.reply = lambda body, number: error(422, f"Unexpected fields: {set(body) - {'model', 'messages'}}")
    assert "refuses foo=1" in (
        message := refusal(server, extra_body={"foo": 1, "max_tokens": None, "temperature": None})
    )
    assert "server.extra_body {foo: null}" in message
    server.reply = lambda body, number: error(422, "Unexpected fields: {'top_k'}")
    assert "refuses top_k=4" in (message := refusal(server, temperature=1.0, top_k=4))
    assert "leave top_k at 0" in message
    for words in (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "Unsupported parameter: max_tokens is not supported with this model. Use max_completion_tokens instead.",
        "This model does not support max_tokens, with or without a temperature; use the parameter "
        "max_completion_tokens instead",
    ):
        server.reply = lambda body, number, words=words: (
            error(400, words) if "max_tokens" in body else echo(body, number)
        )
        message = refusal(server)
        assert "refuses max_tokens=7" in message
        assert message.endswith("send that with server.extra_body {max_tokens: null, max_completion_tokens: 7}")
        assert ask(server, "a", extra_body={"max_tokens": None, "max_completion_tokens": 7})[0][0].text == "a"
    server.reply = lambda body, number: error(400, "this model does not like your messages")
    assert "conversation 0: the server at" in (message := refusal(server))
    assert "null" not in message
    server.reply = lambda body, number: error(400, "I do not like it")
    assert refusal(server).endswith(f"conversation 0: the server at {server.url} refuses it: I do not like it")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"base_url": "127.0.0.1:8000"}, "server.base_url=127.0.0.1:8000"),
        ({"base_url": "http://me:secret@host/v1"}, "server.base_url=http://***@host/v1"),
        ({"base_url": "http://host/v1?key=secret"}, "server.base_url=http://host/v1: give"),
        ({"base_url": "http://host?key=secret"}, "server.base_url=http://host: give"),
        ({"api_key_env": "sk-secret"}, "server.api_key_env is not the name"),
        ({"api_key_env": "hf_secret"}, "server.api_key_env is not the name"),
        ({"concurrency": 0}, "server.concurrency=0"),
        ({"timeout_seconds": 0}, "server.timeout_seconds=0"),
        ({"timeout_seconds": float("nan")}, "server.timeout_seconds=nan"),
        ({"retries": -1}, "server.retries=-1"),
        ({"extra_body": {"temperature": 1.0}}, "server.extra_body: temperature has an option of its own"),
        ({"extra_body": {"model": None}}, "server.extra_body: model has an option of its own"),
    ],
)
def test_wrong_options_are_refused_without_showing_secrets(options, named):
    with pytest.raises(UserError) as raised:
        ServerSpec(**{"base_url": "http://host/v1", **options})
    assert named in str(raised.value)
    assert "secret" not in str(raised.value)
