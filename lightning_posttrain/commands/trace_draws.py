"""Where the completions of `traces` come from: the sampler in this process, or a server."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..servers.client import ServerSpec, request_seed
from ..types import Completion, Record, UserError
from .trace_rows import Check, Draw, Problem

if TYPE_CHECKING:
    from ..modules.base import PolicyModule
    from ..rollout.sampler import SamplingParams

ALIKE = 8
"""So many problems, all answered as in the attempt before, are no accident."""


@dataclass(frozen=True, slots=True)
class Source:
    """What draws the completions.

    Args:
        settings: name -> JSON value of everything about it that decides them.
        begin: problems -> their `Draw` and `Check`; loads what is needed, so call it only where something is drawn.
    """

    settings: dict[str, Any]
    begin: Callable[[Sequence[Problem]], tuple[Draw, Check]]


def local_source(
    model: str | None,
    params: SamplingParams,
    batch_size: int,
    seed: int,
    template: str | None,
    template_kwargs: dict[str, Any] | None,
    dtype: Literal["float32", "bfloat16"] | None,
) -> Source:
    """The sampler in this process; arguments as in `traces`.

    Raises:
        UserError: no model is named.
    """
    from .runs import best_device

    if model is None:
        raise UserError("model=null: name the folder or hub id of a model, or a server: --server.base_url URL")
    kind = dtype or ("bfloat16" if best_device() == "cuda" else "float32")
    settings = {
        "model": model,
        "model_sha256": _folder_hash(Path(model)),
        "template": template,
        "template_kwargs": template_kwargs,
        "dtype": kind,
    }

    def begin(problems: Sequence[Problem]) -> tuple[Draw, Check]:
        module = _module(model, template, template_kwargs)
        return local_draw(module, problems, params, kind, batch_size, seed), _special_check(module)

    return Source(settings, begin)


def server_source(server: ServerSpec, params: SamplingParams, seed: int, **local: Any) -> Source:
    """A server, which is asked for its model here. Special tokens are its own business: no text is refused for them.

    Args:
        server: where it is.
        params, seed: as in `traces`.
        local: options of `traces` that mean nothing to a server.

    Raises:
        UserError: it is not there, has no such model, or one of ``local`` is given.
    """
    from ..modules.server import ask_server
    from ..servers.client import ServerClient

    for name, value in local.items():
        if value is not None:
            raise UserError(
                f"{name}={value!r}: the server renders prompts and holds the weights; leave it out, and give a chat "
                "template's variables as --server.extra_body '{chat_template_kwargs: {...}}'"
            )
    client = ServerClient(server)
    settings = {"model": client.model, "base_url": server.base_url, "extra_body": server.extra_body}
    before: dict[int, str] = {}

    def draw(asked: Sequence[Problem], attempt: int) -> list[Completion]:
        seeds = [request_seed(seed, attempt, p.number) for p in asked]
        drawn = [group[0] for group in ask_server(client, [p.record for p in asked], params, seeds=seeds)]
        texts = {p.number: c.text for p, c in zip(asked, drawn, strict=True)}
        if attempt and len(asked) >= ALIKE and all(before.get(number) == text for number, text in texts.items()):
            raise UserError(
                f"server at {server.base_url}: gave {len(asked)} problems the same solutions in two attempts, at "
                f"temperature={params.temperature}; it seems not to draw. `transformers serve` does only where the "
                'model\'s generation_config.json has "do_sample": true (and, to keep all tokens, "top_k": 0)'
            )
        before.update(texts)
        return drawn

    return Source(settings, lambda problems: (draw, _anything))


def local_draw(
    module: PolicyModule, problems: Sequence[Problem], params: SamplingParams, dtype: str, max_rows: int, seed: int
) -> Draw:
    """Completions of the sampler in this process; renders every prompt, then builds the model of ``module``.

    Raises:
        UserError: a question that cannot be rendered or is too long for the model, or see `PolicyModule.build`.
    """
    import torch

    from ..rollout import sampler
    from .runs import best_device

    prompts = {p.number: module.renderer.question(p.record) for p in problems}
    with torch.device(best_device()):
        module.build(getattr(torch, dtype))
    positions = module.limits.positions or math.inf
    longest = max(problems, key=lambda p: len(prompts[p.number]))
    if (tokens := len(prompts[longest.number])) + params.max_new_tokens > positions:
        raise UserError(
            f"{longest.record.origin}: the prompt has {tokens} tokens, which with max_new_tokens="
            f"{params.max_new_tokens} exceeds the model's {positions} positions; lower max_new_tokens"
        )

    def draw(asked: Sequence[Problem], attempt: int) -> list[Completion]:
        keys = [p.number for p in asked]
        groups = sampler.generate(
            module.model,
            [prompts[key] for key in keys],
            params,
            module.renderer.stop_ids,
            module.decode,
            seed=seed,
            step=attempt,
            keys=keys,
            max_rows=max_rows,
        )
        return [group[0] for group in groups]

    return draw


def _module(model: str, template: str | None, template_kwargs: dict[str, Any] | None) -> PolicyModule:
    from ..modules.sft import SFTModule
    from ..text.spec import ChatSpec

    return SFTModule(pretrained=model, chat=ChatSpec(template=template, template_kwargs=template_kwargs or {}))


def _special_check(module: PolicyModule) -> Check:
    """Refuses text of special tokens, which a sampler may draw anywhere and training takes nowhere."""
    from ..text.control import SpecialTextPolicy

    policy = SpecialTextPolicy(module.tokenizer, "error")

    def check(record: Record) -> None:
        policy.messages(record.conversation().messages)

    return check


def _anything(record: Record) -> None:
    """Refuses nothing."""


def _folder_hash(folder: Path) -> str | None:
    """sha256 over the files of a model's folder; None for a hub id."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
