"""Small versions of the chat formats that models come with, and a byte tokenizer that speaks them. No test in here."""

from lightning_posttrain.text.render import Renderer
from lightning_posttrain.text.tokenizer import byte_tokenizer, stop_ids
from lightning_posttrain.types import Conversation, Message

LLAMA3 = (
    "{{- bos_token }}{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
QWEN = (
    "{%- if messages and messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN3 = (
    "{%- set ns = namespace(last=-1) %}"
    "{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'assistant' %}"
    "{%- set thought = '' %}{%- if '</think>' in m.content %}"
    "{%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') %}{%- endif %}"
    "{%- set content = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}"
    "{{- content + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
THINK_OPEN = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
)
GEMMA = (
    "{{- bos_token }}"
    "{%- for m in messages %}"
    "{%- if m.role == 'system' %}{{ raise_exception('System role not supported') }}{%- endif %}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{%- endif %}"
    "{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{- m.content | trim + '<end_of_turn>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"
)
OLMO = (
    "{{- bos_token }}{%- for m in messages %}"
    "{%- if m.role == 'assistant' %}"
    "{%- if not loop.last %}{{- '<|assistant|>\n' + m.content + eos_token + '\n' }}"
    "{%- else %}{{- '<|assistant|>\n' + m.content + eos_token }}{%- endif %}"
    "{%- else %}{{- '<|' + m.role + '|>\n' + m.content + '\n' }}{%- endif %}"
    "{%- if loop.last and add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"
    "{%- endfor %}"
)
FORMATS = {
    "llama3": (LLAMA3, "<|eot_id|>"),
    "qwen": (QWEN, "<|im_end|>"),
    "qwen3": (QWEN3, "<|im_end|>"),
    "gemma": (GEMMA, "<end_of_turn>"),
    "olmo": (OLMO, "<|endoftext|>"),
}
"""Name -> template, end-of-turn token."""

EXTRA = [
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|endoftext|>"),
]


def tokenizer_for(name):
    """The byte tokenizer with the tokens and the template of a format, and that format's end token as eos."""
    template, end = FORMATS[name]
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": EXTRA}, replace_extra_special_tokens=False)
    tokenizer.eos_token = end
    tokenizer.chat_template = template
    return tokenizer


def renderer_for(name="chatml", **options):
    tokenizer = byte_tokenizer() if name == "chatml" else tokenizer_for(name)
    return Renderer(tokenizer, stop_ids(tokenizer), **options)


def talk(*contents, system=None, trains=(), origin="f.jsonl:7"):
    """user, assistant, user, ... with these contents."""
    messages = [Message("user" if i % 2 == 0 else "assistant", c) for i, c in enumerate(contents)]
    for index, train in dict(trains).items():
        messages[index] = Message(messages[index].role, messages[index].content, train)
    if system is not None:
        messages.insert(0, Message("system", system))
    return Conversation(tuple(messages), "x", origin)


def answers(renderer, sequence):
    """The supervised runs as text, special tokens shown."""
    runs, run = [], []
    for token, supervised in zip(sequence.ids.tolist(), sequence.supervised.tolist(), strict=True):
        if supervised:
            run.append(token)
        elif run:
            runs.append(run)
            run = []
    return [renderer.tokenizer.decode(r) for r in [*runs, run] if r]
