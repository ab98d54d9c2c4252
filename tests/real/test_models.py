"""Published weights and tokenizers at the seams: tokens without an embedding, and rows packed by a real model."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_posttrain.batching.tree import collate
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.ops.attention import plain_attention
from lightning_posttrain.ops.logprobs import token_logprobs
from lightning_posttrain.text.spec import ChatSpec
from lightning_posttrain.text.tokenizer import TokenizerSpec
from lightning_posttrain.types import Conversation, Message, UserError


def talk(*texts: str) -> Conversation:
    roles = ("user", "assistant") * len(texts)
    return Conversation(tuple(Message(r, t) for r, t in zip(roles, texts, strict=False)), "a", "rows.jsonl:1")


def test_a_text_model_loads_with_the_image_token_of_its_tokenizer(tmp_path, real_tokenizer):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    config = AutoConfig.for_model(
        "gemma3_text", vocab_size=262_144, **sizes, num_attention_heads=2, num_key_value_heads=1
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    real_tokenizer("gemma3").save_pretrained(tmp_path)
    module = SFTModule(pretrained=str(tmp_path), chat=ChatSpec(special_text="allow"))
    module.build()
    renderer = module.training_renderer(supervise="last_turn")
    renderer.sequence(talk("Hi", "Hello."))
    with pytest.raises(UserError, match=r"rows\.jsonl:1: token '<image_soft_token>' has id 262144"):
        renderer.sequence(talk("Hi <image_soft_token>", "Hello."))


def test_real_weights_give_packed_rows_the_log_probs_of_separate_ones(smollm2):
    module = SFTModule(pretrained=str(smollm2), tokenizer=TokenizerSpec(pad_token="<|endoftext|>"))
    module.build()
    renderer = module.training_renderer(supervise="last_turn")
    rows = [renderer.sequence(talk(q, a)) for q, a in (("What is 6 times 7?", "42."), ("Say hi.", "Hello there!"))]
    with torch.no_grad():
        packed = token_logprobs(module.model, collate([(row,) for row in rows]))
        alone = []
        with plain_attention(module.model):
            for row in rows:
                ids = torch.from_numpy(row.ids.astype(np.int64))
                logps = module.model(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
                at = torch.from_numpy(np.flatnonzero(row.supervised))
                alone.append(logps[at - 1, ids[at]])
    assert (packed - torch.cat(alone)).abs().max() < 2e-4
