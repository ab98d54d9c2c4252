"""What published tokenizers say that documents follow, and that SmolLM2 expects it."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from lightning_posttrain.rollout.scorer import tokenize_requests
from lightning_posttrain.text.documents import document_tokens, opening_token

TEXT = "The cat sat on the mat and looked at the dog."


@pytest.mark.parametrize(
    ("name", "before_text", "before_context"),
    [
        ("smollm2", "<|endoftext|>", None),
        ("qwen3", "<|endoftext|>", None),
        ("gptoss", "<|endoftext|>", "<|startoftext|>"),
        ("llama3_1", "<|begin_of_text|>", "<|begin_of_text|>"),
        ("gemma3", "<bos>", "<bos>"),
        ("deepseek_v3", "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
    ],
)
def test_what_documents_follow(real_tokenizer, name, before_text, before_context):
    tokenizer = real_tokenizer(name)
    assert tokenizer.convert_ids_to_tokens(document_tokens(tokenizer)) == [before_text]
    begin = opening_token(tokenizer)
    assert (None if begin is None else tokenizer.convert_ids_to_tokens(begin)) == before_context


def test_smollm2_expects_a_text_after_the_end_of_a_document(smollm2, real_tokenizer):
    tokenizer = real_tokenizer("smollm2")
    model = AutoModelForCausalLM.from_pretrained(smollm2).eval()

    def bits_per_byte(start: str | None) -> float:
        (request,) = tokenize_requests(tokenizer, [("", TEXT)], document_start=start)
        ids = torch.tensor([[*request.context.tolist(), *request.continuation.tolist()]])
        with torch.no_grad():
            loss = model(ids, labels=ids).loss.item()
        return loss * (ids.shape[1] - 1) / math.log(2) / len(TEXT.encode())

    assert bits_per_byte(None) == pytest.approx(1.021, abs=2e-3)
    assert bits_per_byte("<|im_end|>") == pytest.approx(1.799, abs=2e-3)
