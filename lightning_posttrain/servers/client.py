"""Answers from an OpenAI-compatible server: many conversations at once, with retries, in order, or one clear error.

Any server of chat completions will do: vLLM, SGLang, llama.cpp, `transformers serve`, a hosted one. Requests, backoff
and retries (connections, timeouts, 408, 409, 429, 5xx) are the `openai` package's. Left out: streaming, tools,
log-probabilities and token ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

from ..progress import Progress
from ..types import Message, UserError
from .errors import Asked, failed, not_a_list, shortened, unreachable

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

OURS = ("model", "messages", "n", "stream", "max_tokens", "temperature", "top_p", "seed")
"""What a request says by itself."""
NEEDED = ("model", "messages")
CONNECT_SECONDS = 10.0
FIRST_RETRIES = 2
"""Most retries before the server has answered once: one that was never started needs no patience."""


@dataclass(frozen=True)
class ServerSpec:
    """An OpenAI-compatible server, and how to ask it.

    What is not sent is the server's to choose. The temperature and, above 0, top_p and a seed are always sent; top_k
    and min_p, which not every server knows, only where they leave tokens out. vLLM and `transformers serve` take what
    is not sent from the model's ``generation_config.json``: to vLLM and SGLang an ``extra_body`` of ``{top_k: -1}``
    says to keep all tokens, ``{repetition_penalty: 1.0}`` to penalise none; `transformers serve` has to find
    ``"do_sample": true`` (and ``"top_k": 0``) in that file, or is greedy at any temperature, and its draws can be
    repeated only with a ``concurrency`` of 1.

    Args:
        base_url: address of the API, such as ``http://127.0.0.1:8000/v1``; needed.
        model: name by which the server knows the model; null = the only one it lists.
        api_key_env: name of the environment variable that holds the key; null = the server wants none.
        concurrency: most requests in flight.
        timeout_seconds: for one answer.
        retries: of a request that failed, after 0.5, 1, 2, 4, 8, 8, ... seconds or what the server asks for.
        extra_body: further fields of every request, such as ``{chat_template_kwargs: {enable_thinking: false}}``; null
            leaves out a field that would be sent otherwise (some hosted models take no ``temperature``).

    Raises:
        UserError: naming the field that is out of range.
    """

    base_url: str = ""
    model: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    timeout_seconds: float = 300.0
    retries: int = 5
    extra_body: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        if not re.fullmatch(r"https?://[^/@?#\s]+(/[^@?#\s]*)?", self.base_url):
            shown = re.sub(r"//.*@", "//***@", self.base_url.partition("?")[0])
            raise UserError(
                f"server.base_url={shown}: give an address such as http://127.0.0.1:8000/v1, without a key or a "
                "password in it (those come from the environment variable that server.api_key_env names)"
            )
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            raise UserError(
                "server.api_key_env is not the name of an environment variable in capitals; put the key into one, "
                "such as SERVER_API_KEY, and give that name (what was given is not shown: it may be a key)"
            )
        if self.concurrency < 1:
            raise UserError(f"server.concurrency={self.concurrency}: use at least 1 request")
        if not 0 < self.timeout_seconds < float("inf"):
            raise UserError(f"server.timeout_seconds={self.timeout_seconds}: use a positive number of seconds")
        if self.retries < 0:
            raise UserError(f"server.retries={self.retries}: use 0 or more")
        for name in OURS:
            if name in self.extra_body and (name in NEEDED or self.extra_body[name] is not None):
                raise UserError(
                    f"server.extra_body: {name} has an option of its own; take it out here"
                    + " (or null, to send none)" * (name not in NEEDED)
                )


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What a server answered to one conversation.

    Args:
        text: what the model said, without its reasoning where the server separates that (``reasoning_content``).
        finished: the model ended it, rather than the length limit, a filter or a tool call.
        tokens: generated tokens as the server counts them; 0 where it does not.
    """

    text: str
    finished: bool
    tokens: int


class ServerClient:
    """Asks the server of ``spec``.

    Args:
        spec: where it is and how to ask.

    Raises:
        UserError: the environment has no such variable with a key.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self._key = "none"  # the header is always there
        if spec.api_key_env is not None:
            self._key = os.environ.get(spec.api_key_env, "").strip()
            if not self._key:
                raise UserError(
                    f"server.api_key_env={spec.api_key_env}: the environment has no such variable; set it to the key "
                    f"(export {spec.api_key_env}=...)"
                )

    @cached_property
    def listed(self) -> tuple[str, ...]:
        """The models that the server lists; none where it cannot list them and `ServerSpec.model` says which to ask.

        Raises:
            UserError: nothing answers there, not as such a server, or not without another key.
        """
        return self._run(self._list)

    @cached_property
    def model(self) -> str:
        """The name of the model that answers.

        Raises:
            UserError: see `listed`; or none is named, and the server lists several or none.
        """
        listed = self.listed  # asks in any case: one that was never started is no server that went away
        if self.spec.model is not None:
            return self.spec.model
        if len(listed) == 1:
            return listed[0]
        choices = f"several models: {shortened(listed)}" if listed else "no model"
        raise UserError(f"{self.spec.base_url}: the server lists {choices}; name the one to ask: server.model")

    def chat_all(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        n: int = 1,
        seeds: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> list[list[ServerAnswer]]:
        """``n`` answers to each conversation, ``[conversation][sample]``; each one is a request of its own.

        Args:
            conversations: messages that end where the assistant is to speak.
            max_new_tokens: most tokens of an answer.
            temperature, top_k, top_p, min_p: as in `rollout.sampler.SamplingParams`; 0 is greedy.
            n: answers to each conversation.
            seeds: of each conversation; a sample's follows from it and the sample's number. None = the server's choice.
            names: what errors call the conversations; their numbers by default.

        Raises:
            UserError: naming what the server refuses or cannot do, and after how many answers.
        """
        common: dict[str, Any] = {"model": self.model, "max_tokens": max_new_tokens, "temperature": temperature}
        if temperature > 0:
            kept = {"top_k": top_k, "min_p": min_p}
            common |= {"top_p": top_p, **{name: value for name, value in kept.items() if value}}
        asked = []
        for i, conversation in enumerate(conversations):
            messages = [{"role": message.role, "content": _sendable(message.content)} for message in conversation]
            for sample in range(n):
                body = {**common, "messages": messages}
                if seeds is not None and temperature > 0:
                    body["seed"] = request_seed(seeds[i], sample)
                body = {name: v for name, v in {**self.spec.extra_body, **body}.items() if self._sent(name)}
                asked.append(Asked(names[i] if names is not None else f"conversation {i}", body))
        answers = self._run(lambda client: self._ask(client, asked)) if asked else []
        return [answers[i : i + n] for i in range(0, len(answers), n)]

    def _sent(self, name: str) -> bool:
        return self.spec.extra_body.get(name, "") is not None

    async def _list(self, client: AsyncOpenAI) -> tuple[str, ...]:
        from openai import OpenAIError

        retries = min(self.spec.retries, FIRST_RETRIES)
        try:
            page: Any = await client.with_options(max_retries=retries).models.list()
            return tuple(model.id for model in page.data)
        except (OpenAIError, AttributeError, TypeError, ValueError) as error:  # the latter: not the JSON of such a list
            if self.spec.model is not None and not_a_list(error):  # `transformers serve` without a cache has none
                return ()
            raise unreachable(error, self.spec, self._key) from None

    async def _ask(self, client: AsyncOpenAI, asked: Sequence[Asked]) -> list[ServerAnswer]:
        """The answers to all requests, some of which are in flight at a time; the first failure ends the others."""
        import anyio
        from openai import OpenAIError

        answers: dict[int, ServerAnswer] = {}
        meter = Progress("server", len(asked), "answers")
        left = iter(enumerate(asked))

        async def work() -> None:
            for number, one in left:
                try:
                    answers[number] = _answer(await client.chat.completions.create(**_arguments(one.body)))
                    meter.add()
                except (OpenAIError, _NoAnswer, ValueError) as error:  # the last: no JSON
                    done = f"{len(answers)} of {len(asked)} answers"
                    raise failed(error, one, done, self.spec, self.listed, self._key) from None

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(self.spec.concurrency, len(asked))):
                    group.start_soon(work)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        meter.end()
        return [answers[number] for number in range(len(asked))]

    def _run(self, function: Callable[[AsyncOpenAI], Awaitable[T]]) -> T:
        """Call ``function`` in an event loop of its own thread: works inside a notebook's, and an interrupt cancels."""
        import openai
        from anyio.from_thread import start_blocking_portal

        async def call() -> T:
            timeout = openai.Timeout(self.spec.timeout_seconds, connect=CONNECT_SECONDS)
            how: dict[str, Any] = {"timeout": timeout, "max_retries": self.spec.retries}
            async with openai.AsyncOpenAI(api_key=self._key, base_url=self.spec.base_url, **how) as client:
                return await function(client)

        with start_blocking_portal() as portal:
            return portal.call(call)


def request_seed(*key: int | str) -> int:
    """A seed in [0, 2^31) that depends on ``key`` alone; every server takes one of so many bits."""
    plain = [int(part) if isinstance(part, Integral) else part for part in key]
    digest = hashlib.blake2b(json.dumps(plain).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def _sendable(text: str) -> str:
    """UTF-8 has no lone surrogates, which a model's answer in a prompt may have."""
    return text.encode(errors="replace").decode()


class _NoAnswer(Exception):
    """The server answered with something else."""


def _arguments(body: dict[str, Any]) -> dict[str, Any]:
    """Fields that the package does not know go beside its own."""
    known = {name: body[name] for name in OURS if name in body}
    return {**known, "extra_body": {name: value for name, value in body.items() if name not in OURS}}


def _answer(completion: Any) -> ServerAnswer:
    choices = getattr(completion, "choices", None)
    if not choices or choices[0].message is None:
        raise _NoAnswer(" ".join(str(completion).split())[:200])
    content, usage = choices[0].message.content or "", completion.usage
    if not isinstance(content, str):
        raise _NoAnswer(f"content={content}"[:200])
    return ServerAnswer(
        content,
        choices[0].finish_reason == "stop",
        (usage.completion_tokens or 0) if usage is not None else 0,
    )
