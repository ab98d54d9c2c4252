"""Tokens of published tokenizers as a reader sees them: the text that was written, with what is invisible spelt out."""

import numpy as np
import pytest

from lightning_posttrain.reports.tokens import TokenReader
from lightning_posttrain.types import Sequence

from .fetch import TOKENIZERS

TEXT = "Família:   x \u00a0=\u2003[1]"


@pytest.mark.parametrize("name", [*TOKENIZERS, "smollm2"])
def test_tokens_read_as_their_text(real_tokenizer, name):
    tokenizer = real_tokenizer(name)
    ids = np.array(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    views = TokenReader(tokenizer).views(Sequence(ids, np.zeros(len(ids), bool)))
    shown = "".join(view.text for view in views)
    assert shown.startswith("Família:   x ")
    assert shown.endswith("[1]")
    assert "\u00a0" not in shown
    assert "\u2003" not in shown
    assert "\\u2003" in shown or "\\xe2" in shown


def test_a_token_of_a_variation_selector_is_spelt_out(real_tokenizer):
    tokenizer = real_tokenizer("qwen3")
    ids = np.array(tokenizer("☕️", add_special_tokens=False)["input_ids"])
    assert [v.text for v in TokenReader(tokenizer).views(Sequence(ids, np.zeros(len(ids), bool)))][-1] == "\\ufe0f"
