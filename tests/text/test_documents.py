"""What documents follow, by tokenizers of every kind."""

import pytest

from lightning_posttrain.text.documents import document_tokens, opening_token
from lightning_posttrain.text.tokenizer import byte_tokenizer
from lightning_posttrain.types import UserError


class Fake:
    """A tokenizer with these special tokens, in the order of their ids."""

    def __init__(self, *special: str, bos: str | None, eos: str | None, begins: bool = False, template: str = ""):
        self.ids = {token: i for i, token in enumerate(special)}
        self.bos_token, self.chat_template, self.begins = bos, template, begins
        self.bos_token_id = None if bos is None else self.ids[bos]
        self.eos_token_id = None if eos is None else self.ids[eos]
        self.added_tokens_decoder = {i: token for token, i in self.ids.items()}

    def get_vocab(self):
        return self.ids

    def __call__(self, _):
        return {"input_ids": [self.bos_token_id, 90] if self.begins else [90]}


CHAT = "{{'<|im_start|>' + role}}"
END, TURN, OVER = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


@pytest.mark.parametrize(
    ("tokenizer", "before_text", "before_context"),
    [
        (Fake(END, TURN, OVER, bos=TURN, eos=OVER, template=CHAT), END, None),  # SmolLM2-Instruct
        (Fake(END, TURN, OVER, bos=END, eos=END), END, END),  # its base model
        (Fake(END, TURN, OVER, bos=None, eos=OVER, template=CHAT), END, None),  # Qwen
        (Fake("<s>", "</s>", bos="<s>", eos="</s>", begins=True), "<s>", "<s>"),  # Llama 2
        (Fake("<b>", "<|end_of_text|>", "<|eot_id|>", bos="<b>", eos="<|eot_id|>", begins=True), "<b>", "<b>"),
        (Fake("<bos>", "<eos>", "<turn>", bos="<bos>", eos="<turn>", begins=True), "<bos>", "<bos>"),  # Gemma
        (Fake("<x>", bos=None, eos="<x>"), "<x>", None),
        (Fake("<x>", bos="<x>", eos=None), "<x>", "<x>"),
        (Fake(bos=None, eos=None), None, None),
    ],
)
def test_a_text_follows_what_documents_follow(tokenizer, before_text, before_context):
    assert document_tokens(tokenizer) == ([] if before_text is None else [tokenizer.ids[before_text]])
    assert opening_token(tokenizer) == (None if before_context is None else tokenizer.ids[before_context])


def test_documents_without_a_beginning_follow_the_end_of_one():
    llama = Fake("<b>", "<|end_of_text|>", "<|eot_id|>", bos="<b>", eos="<|eot_id|>", begins=True)
    assert document_tokens(llama, bos=False) == [1]
    own = byte_tokenizer()
    assert document_tokens(own) == document_tokens(own, bos=False) == [own.eos_token_id]


def test_the_token_can_be_said():
    tokenizer = Fake(END, TURN, OVER, bos=TURN, eos=OVER, template=CHAT)
    assert document_tokens(tokenizer, OVER) == [2]
    with pytest.raises(UserError, match=r"document_start='<eod>' is no token"):
        document_tokens(tokenizer, "<eod>")
