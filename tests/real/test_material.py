"""What was fetched is what it says: the tokenizers write back what they read, and the model knows some English."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from .fetch import TOKENIZERS

TEXT = "It costs 1,234.50 € in 2019 – don't “quote” me:\n\n\tx = [1,  2]  # 你好 🙂"


@pytest.mark.parametrize("name", [*TOKENIZERS, "smollm2"])
def test_a_tokenizer_writes_back_what_it_reads(real_tokenizer, name):
    tokenizer = real_tokenizer(name)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == TEXT


def test_the_model_continues_a_sentence_that_everyone_can(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
