"""`chat`: talk to a model through the format it was trained in, in a loop or once.

The same renderer, stop tokens and sampler as training's evaluations. Answers appear whole; streaming is left out.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ..types import Message, UserError

if TYPE_CHECKING:
    from ..modules.base import PolicyModule
    from ..rollout.sampler import SamplingParams

HISTORY = "~/.lightning_posttrain_history"
HELP = "/reset forgets the conversation, /quit or Ctrl-D leaves"


def chat(
    *,
    model: str,
    prompt: str | None = None,
    system: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int = 0,
    format: Literal["chat", "plain"] = "chat",
    template_kwargs: dict[str, Any] | None = None,
    special_text: Literal["text", "allow"] = "text",
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> None:
    """Talk to a model, or let it answer one prompt.

    Args:
        model: folder with full weights or an adapter (``model/`` of a run), or a hub id.
        prompt: answer this and leave; only the answer is printed.
        system: system message.
        max_new_tokens: most tokens of an answer; fewer where the model has no more positions.
        temperature: 0 takes the most probable token.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that together reach this probability.
        min_p: keep tokens at least this many times as probable as the most probable one.
        seed: same seed and words, same answers.
        format: ``chat`` uses the chat template; ``plain`` continues the text.
        template_kwargs: variables for the chat template, e.g. ``{enable_thinking: false}``.
        special_text: what the text of a special token becomes: ordinary ``text``, or (``allow``) that token.
        dtype: of the weights; null = bfloat16 on a GPU, float32 on a CPU.
    """
    import torch

    from ..modules.sft import SFTModule
    from ..rollout.sampler import SamplingParams
    from ..text.spec import ChatSpec
    from .runs import best_device

    params = SamplingParams(max_new_tokens, temperature, top_k, top_p, min_p)
    module = SFTModule(
        pretrained=model, chat=ChatSpec(format=format, template_kwargs=template_kwargs or {}, special_text=special_text)
    )
    device = best_device()
    with torch.device(device):
        module.build(getattr(torch, dtype or ("bfloat16" if device == "cuda" else "float32")))
    talk = Talk(module, params, seed, system)
    if prompt is not None:
        print(_shown(talk.answer(prompt)))
    else:
        _loop(talk)


class Talk:
    """A conversation: its turns so far, and what answers them.

    Args:
        module: with its model built.
        params: how answers are drawn.
        seed: of the draws, together with the number of the turn.
        system: system message.
    """

    def __init__(self, module: PolicyModule, params: SamplingParams, seed: int, system: str | None) -> None:
        self.module, self.params, self.seed = module, params, seed
        self.opening = [Message("system", system)] if system else []
        self.turns: list[Message] = []

    def answer(self, text: str) -> str:
        """The answer to ``text`` after the turns so far; both become turns. A cut one is reported on stderr.

        Raises:
            UserError: the template refuses the turns, or they are too long for the model.
        """
        from ..rollout.sampler import generate

        asked = [*self.turns, Message("user", text)]
        renderer = self.module.renderer
        prompt = renderer.prompt([*self.opening, *asked])
        positions = self.module.limits.positions or math.inf
        room = max(1, min(self.params.max_new_tokens, positions - len(prompt)))  # no room at all: generate says so
        completion = generate(
            self.module.model,
            [prompt],
            replace(self.params, max_new_tokens=int(room)),
            renderer.stop_ids,
            self.module.decode,
            seed=self.seed,
            step=len(self.turns) // 2,
        )[0][0]
        self.turns = [*asked, renderer.reply([*self.opening, *asked], completion.text)]
        if not completion.finished:
            print(f"(stopped at {len(completion.tokens)} tokens)", file=sys.stderr)
        return completion.text

    def reset(self) -> None:
        """Forget the turns."""
        self.turns = []


def _shown(text: str) -> str:
    """``text``, with nothing in it that could steer a terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text) if sys.stdout.isatty() else text


def _loop(talk: Talk) -> None:
    """Read and answer until the end of the input."""
    _history()
    print(HELP, file=sys.stderr)
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        if text in ("/quit", "/exit"):
            return
        if text == "/reset":
            talk.reset()
        elif text.startswith("/"):
            print(HELP, file=sys.stderr)
        elif text:
            try:
                print(_shown(talk.answer(text)), flush=True)
            except UserError as error:  # too long, or refused by the template: the talk goes on
                print(f"error: {error} (/reset starts again)", file=sys.stderr)
            except KeyboardInterrupt:
                print("(interrupted)", file=sys.stderr)


def _history() -> None:
    """Arrow keys recall earlier lines, also of earlier sessions; not for input that is no terminal."""
    if not sys.stdin.isatty():
        return
    try:
        import atexit
        import readline
        from pathlib import Path
    except ImportError:  # no readline on this platform: plain input
        return
    path = Path(HISTORY).expanduser()
    with contextlib.suppress(OSError):  # none yet
        readline.read_history_file(path)
    readline.set_history_length(1000)
    atexit.register(_save_history, str(path))


def _save_history(path: str) -> None:
    import readline

    with contextlib.suppress(OSError):  # a home that cannot be written is no reason to complain on leaving
        readline.write_history_file(path)
