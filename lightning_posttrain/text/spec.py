"""How a model is spoken to, as one setting of the model: training, evaluation and chat then cannot disagree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from .control import SpecialText
from .render import Renderer
from .tokenizer import stop_ids


@dataclass(frozen=True)
class ChatSpec:
    """Chat format and stop tokens."""

    format: Literal["chat", "plain"] = "chat"
    """``chat`` uses the chat template; ``plain`` joins prompt and completion as text."""
    template: str | None = None
    """Replaces the tokenizer's chat template: ``chatml``, ``tulu``, ``tags``, a ``.jinja`` file or jinja text."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Variables for the template, e.g. ``{enable_thinking: false}``."""
    stop_tokens: list[str] = field(default_factory=list)
    """Tokens that end an answer besides those of the tokenizer and the model's generation config."""
    special_text: SpecialText = "error"
    """The text of a special token in a message, or of a thought or tool marker in one that no assistant says: ``error``
    refuses it, ``text`` encodes it as ordinary text, ``allow`` as the token."""

    def renderer(
        self,
        tokenizer: PreTrainedTokenizerBase,
        generation_config: Any = None,
        *,
        max_length: int | None = None,
        supervise: Literal["all_turns", "last_turn", "all_tokens"] = "all_turns",
        overlong: Literal["error", "drop"] = "error",
        vocab_size: int | None = None,
        positions: int | None = None,
    ) -> Renderer:
        """A renderer with these settings; the rest is as in `Renderer`."""
        return Renderer(
            tokenizer,
            stop_ids(tokenizer, generation_config, self.stop_tokens),
            max_length=max_length,
            supervise=supervise,
            overlong=overlong,
            special_text=self.special_text,
            format=self.format,
            chat_template=self.template,
            template_kwargs=self.template_kwargs,
            vocab_size=vocab_size,
            positions=positions,
        )
