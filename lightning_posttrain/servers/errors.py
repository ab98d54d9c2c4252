"""What went wrong with a server, in one line with the remedy. The key is in none of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..types import UserError

if TYPE_CHECKING:
    from .client import ServerSpec

NEUTRAL = {"top_k": 0, "min_p": 0.0}
"""Fields that not every server knows, and the values with which they are not sent."""
_LONGEST = 300
_MOST_NAMES = 20
_TOO_LONG = re.compile(
    r"context.{0,3}(length|size|window)|max_model_len|max(imum)? (input |sequence |model )?length|too long|longer than",
    re.IGNORECASE,
)

_INSTEAD = re.compile(r"\buse\W+(?:the\W+)?(?:parameter\W+)?(\w+)\W+instead", re.IGNORECASE)

_NO_MODEL = re.compile(r"exist|not found|unknown|pinned|no such|not loaded|(invalid|unsupported) model", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: what errors call it, and its fields."""

    name: str
    body: dict[str, Any]


def not_a_list(error: Exception) -> bool:
    """Whether a server is there and lets one in, but has no list of models."""
    from openai import APIConnectionError, AuthenticationError, PermissionDeniedError

    return not isinstance(error, (APIConnectionError, AuthenticationError, PermissionDeniedError))


def unreachable(error: Exception, spec: ServerSpec, key: str) -> UserError:
    """Why the server's list of models cannot be read, before anything was asked."""
    from openai import APIConnectionError

    at = f"server.base_url={spec.base_url}"
    if isinstance(error, APIConnectionError):
        return UserError(
            f"{at}: no server answers there ({_cause(error)}); start it (vllm serve MODEL, transformers serve MODEL, "
            "...), or correct the address"
        )
    if not not_a_list(error):
        return _unauthorised(error, spec, key)
    return UserError(
        f"{at}: what answers there has no list of models at {spec.base_url}/models ({_words(error, key)}); the address "
        "of an OpenAI-compatible server mostly ends in /v1; if it is right, name the model to ask: server.model"
    )


def failed(error: Exception, asked: Asked, done: str, spec: ServerSpec, listed: Sequence[str], key: str) -> UserError:
    """Why a request has no answer, after ``done``.

    Args:
        error: of the request's last attempt.
        asked: the request.
        done: how many answers there were, in words.
        spec: the server.
        listed: models that it lists.
        key: what must not be told.
    """
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    at, tries = f"server at {spec.base_url}", f"{spec.retries + 1} attempts"
    if isinstance(error, APITimeoutError):
        return UserError(
            f"{asked.name}: the {at} did not answer within {spec.timeout_seconds:g} seconds, in {tries}, after {done}; "
            "raise server.timeout_seconds, or lower server.concurrency or the answers' length"
        )
    if isinstance(error, APIConnectionError):
        return UserError(f"{at} went away after {done}: {_cause(error)}; start it again and give the same command")
    words = _words(error, key)
    if not isinstance(error, APIStatusError):
        return UserError(f"{asked.name}: the {at} answered with no chat completion: {words}")
    status = error.status_code
    if status in (401, 403):
        return _unauthorised(error, spec, key)
    if status == 404 or _about_model(words, asked):
        return UserError(
            f"{at}: {words}; server.model={asked.body['model']}, and it lists {shortened(listed) or 'none'}; name one "
            "that it has, or correct server.base_url"
        )
    if status == 429 or status >= 500:
        return UserError(
            f"{asked.name}: the {at} answered with status {status} in {tries}, after {done}: {words}; lower "
            "server.concurrency, or raise server.retries, and see what the server itself has printed"
        )
    return _refused(asked, words, at)


def _refused(asked: Asked, words: str, at: str) -> UserError:
    """Why the request itself is wrong."""
    if _TOO_LONG.search(words):
        return UserError(
            f"{asked.name}: too long for the model of the {at}: {words}; shorten it, lower max_new_tokens="
            f"{asked.body.get('max_tokens')}, or start the server with a longer context"
        )
    name = _named_field(words, asked)
    if name is None:
        return UserError(f"{asked.name}: the {at} refuses it: {words}")
    if name in NEUTRAL:
        remedy = f"leave {name} at {NEUTRAL[name]}, or ask a server that knows it (vLLM, SGLang)"
    elif (other := _INSTEAD.search(words)) and other[1] not in asked.body:
        remedy = f"send that with server.extra_body {{{name}: null, {other[1]}: {asked.body[name]}}}"
    else:
        remedy = f"correct it, or leave it out with server.extra_body {{{name}: null}}"
    return UserError(f"{at} refuses {name}={asked.body[name]}: {words}; {remedy}")


def _named_field(words: str, asked: Asked) -> str | None:
    """The field that a refusal speaks of: the first one in it, as far as it is not ``model``, which is a plain word."""
    places = {
        name: found.start()
        for name in asked.body
        if name not in ("model", "messages") and (found := re.search(rf"\b{re.escape(name)}\b", words))
    }
    return min(places, key=lambda name: places[name], default=None)


def _about_model(words: str, asked: Asked) -> bool:
    return str(asked.body["model"]) in words and _NO_MODEL.search(words) is not None


def _unauthorised(error: Any, spec: ServerSpec, key: str) -> UserError:
    words = f"server at {spec.base_url} answered with status {error.status_code} ({_words(error, key)})"
    if spec.api_key_env is None:
        return UserError(
            f"{words}: it wants a key; put it into an environment variable and name that: server.api_key_env"
        )
    return UserError(f"{words}: it refuses the key in the environment variable {spec.api_key_env}; correct that one")


def shortened(names: Sequence[str]) -> str:
    """The names, or the first of very many."""
    return ", ".join(names[:_MOST_NAMES]) + f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES)


def _cause(error: Exception) -> str:
    return str(error.__cause__ or error).strip().rstrip(".") or type(error.__cause__ or error).__name__


def _words(error: Any, key: str) -> str:
    """What the server said, on one line, without the key."""
    said = getattr(error, "body", None) or str(error)
    while isinstance(said, dict):
        said = next((said[name] for name in ("message", "detail", "error") if said.get(name)), str(said))
    text = " ".join(str(said).split())
    return (text.replace(key, "***") if key != "none" else text)[:_LONGEST]
