"""Published chat formats with the tokenizers that speak them, and conversations of every kind. No test in here."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoTokenizer

from lightning_posttrain.text.templates import TULU
from lightning_posttrain.text.tokenizer import byte_tokenizer

HERE = Path(__file__).parent / "templates"
DEEPSEEK = [
    *("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    *("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁outputs▁begin｜>"),
    *("<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
]
MISTRAL = [
    *("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "</s>"),
]
HARMONY = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"]


@dataclass(frozen=True)
class Format:
    """A tokenizer with a chat template.

    ``template`` is a file of templates/, the name of a built-in one, or None for the tokenizer's own; ``end`` ends an
    answer, ``special`` and ``markers`` are tokens that the tokenizer is given where it lacks them.
    """

    tokenizer: str
    template: str | None
    end: str
    special: list[str] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)

    @property
    def family(self) -> str:
        """The name of the format in the list of refusals: a template behaves alike whatever tokenizer speaks it."""
        return self.template.removesuffix(".jinja") if self.template else f"{self.tokenizer} own"


THINK = ["<think>", "</think>"]
FORMATS = {
    f"{f.tokenizer} {f.family}": f
    for f in [
        Format("qwen3", None, "<|im_end|>"),
        Format("qwen3", "qwen2_5.jinja", "<|im_end|>"),
        Format("qwen3", "qwen3_thinking.jinja", "<|im_end|>"),
        Format("qwen3", "olmo3.jinja", "<|endoftext|>"),
        Format("llama3_1", None, "<|eot_id|>"),
        Format("llama3_1", "llama3_1.jinja", "<|eot_id|>"),
        Format("llama3_1", "tulu.jinja", "<|end_of_text|>"),
        Format("llama3_1", "deepseek_r1_distill.jinja", "<｜end▁of▁sentence｜>", DEEPSEEK, THINK),
        Format("gemma3", None, "<end_of_turn>"),
        Format("gemma3", "gemma.jinja", "<end_of_turn>"),
        Format("gptoss", "harmony.jinja", "<|return|>"),
        Format("gptoss", "phi4.jinja", "<|im_end|>", ["<|im_start|>", "<|im_sep|>", "<|im_end|>"]),
        Format("gptoss", "olmo2.jinja", "<|endoftext|>"),
        Format("deepseek_v3", None, "<｜end▁of▁sentence｜>"),
        Format("deepseek_v3", "deepseek_r1.jinja", "<｜end▁of▁sentence｜>", [], THINK),
        Format("deepseek_v3", "deepseek_r1_distill.jinja", "<｜end▁of▁sentence｜>", [], THINK),
        Format("deepseek_v3", "deepseek_v3_1.jinja", "<｜end▁of▁sentence｜>", [], THINK),
        Format("smollm2", None, "<|im_end|>"),
        Format("smollm2", "qwen2_5.jinja", "<|im_end|>", [], ["<tool_call>", "</tool_call>"]),
        Format("smollm2", "phi3.jinja", "<|end|>", ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]),
        Format("byte", "mistral_v3.jinja", "</s>", MISTRAL),
        Format("byte", "mistral_tekken.jinja", "</s>", MISTRAL),
        Format("byte", "deepseek_r1.jinja", "<｜end▁of▁sentence｜>", DEEPSEEK, THINK),
        Format("byte", "harmony.jinja", "<|return|>", HARMONY),
        Format("byte", "qwen3_thinking.jinja", "<|im_end|>", [], THINK),
        Format("byte", None, "<|im_end|>"),
        Format("byte", "tulu", "<|im_end|>"),
    ]
}


def speak(found, folder):
    """The tokenizer of a format; ``folder`` gives the place of a published one."""
    if found.tokenizer == "byte":
        tokenizer = deepcopy(byte_tokenizer())
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder(found.tokenizer))
    known = tokenizer.get_vocab()
    special = [token for token in [*found.special, found.end] if token not in known]
    tokenizer.add_special_tokens({"extra_special_tokens": special}, replace_extra_special_tokens=False)
    tokenizer.add_tokens([token for token in found.markers if token not in known])
    tokenizer.eos_token = found.end
    if found.template == "tulu":
        tokenizer.chat_template = TULU
    elif found.template is not None:
        tokenizer.chat_template = (HERE / found.template).read_text(encoding="utf-8")
    return tokenizer


def system(text):
    return {"role": "system", "content": text}


def user(text, **more):
    return {"role": "user", "content": text, **more}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


def called(name, arguments, content="", **more):
    call = {"type": "function", "id": "abcdefghi", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call], **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
RESULT = {"role": "tool", "content": '{"sky": "clear"}', "name": "get_weather", "tool_call_id": "abcdefghi"}
ASKED = [user("Weather in Łódź?"), called("get_weather", {"place": "Łódź"}), RESULT, says("It is clear.")]
THOUGHT, THOUGHT_2 = "<think>\nTwo and two.\n</think>\n\n4", "<think>\nOne more.\n</think>\n\n5"
TWO = [user("2+2?"), says("It is 4."), user("And one more?"), says("Then it is 5.")]
CODE = "```python\ndef f(x):\n\treturn  [x,\n\n\n            1_000]\n```\n* a\n  * b"

ROWS = {
    "one turn": {"messages": TWO[:2]},
    "a system text": {"messages": [system("Be brief."), *TWO[:2]]},
    "two turns": {"messages": TWO},
    "a system text and two turns": {"messages": [system("Be brief."), *TWO]},
    "four turns": {"messages": [*TWO, user("Half of it?"), says("2.5"), user("Thanks!"), says("You are welcome.")]},
    "thoughts in the last turn": {"messages": [*TWO[:2], user("More?"), says(THOUGHT_2)]},
    "thoughts in one turn": {"messages": [user("2+2?"), says(THOUGHT)]},
    "thoughts in the first turn": {"messages": [user("2+2?"), says(THOUGHT), *TWO[2:]]},
    "thoughts in all turns": {"messages": [user("2+2?"), says(THOUGHT), user("More?"), says(THOUGHT_2)]},
    "thoughts apart": {"messages": [user("2+2?"), says("4", reasoning_content="Two and two.")]},
    "thoughts apart, by another name": {"messages": [user("2+2?"), says("4", thinking="Two and two.")]},
    "thoughts apart in all turns": {
        "messages": [user("2+2?"), says("4", reasoning="Two and two."), user("More?"), says("5", reasoning="One more.")]
    },
    "tools": {"messages": TWO[:2], "tools": [WEATHER]},
    "tools and a system text": {"messages": [system("Be brief."), *TWO], "tools": [WEATHER]},
    "a tool call": {"messages": ASKED, "tools": [WEATHER]},
    "a tool call at the end": {"messages": ASKED[:2], "tools": [WEATHER]},
    "a tool call as OpenAI has it": {
        "messages": [ASKED[0], called("get_weather", '{"place": "Łódź"}', None), *ASKED[2:]],
        "tools": [WEATHER],
    },
    "a tool call without tools": {"messages": ASKED},
    "a tool call with words": {"messages": [ASKED[0], called("get_weather", {"place": "Łódź"}, "I look it up.")]},
    "other scripts": {"messages": [user("Família, 你好, Ελλάδα?"), says("नमस्ते दुनिया – “quoted” Æøå 안녕")]},
    "emoji": {"messages": [user("👩‍👩‍👧 ☕️?"), says("🙂👍🏽")]},
    "a combining mark first": {"messages": [user("e"), says("\u0301a"), user("f"), says("b")]},
    "digits": {"messages": [user("1234567+1"), says("1234568"), user("+1"), says("1234569")]},
    "code": {"messages": [user(CODE), says(CODE), user("again"), says(CODE)]},
    "spaces first": {"messages": [user("q"), says("  4"), user("r"), says("   5")]},
    "lines first": {"messages": [user("q"), says("\n\n4"), user("r"), says("\n5")]},
    "spaces last": {"messages": [user("q"), says("4  "), user("r"), says("5\n\n")]},
    "spaces around questions": {"messages": [user("  q\n"), says("4"), user("\n r "), says("5")]},
    "an empty question": {"messages": [user(""), says("4")]},
    "an empty system text": {"messages": [system(""), *TWO[:2]]},
    "parts of text": {"messages": [user([{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]), says("4")]},
    "prompt and completion": {"prompt": "2+2?", "completion": "4"},
    "earlier answers as context": {"prompt": [user("2+2?"), says(THOUGHT), TWO[2]], "completion": "5"},
    "a begun answer": {"prompt": [user("2+2?"), says("The answer is")], "completion": " 4, of course."},
    "an untrained first answer": {"messages": [TWO[0], says("It is 4.", train=False), *TWO[2:]]},
    "an untrained last answer": {"messages": [*TWO[:3], says("Then it is 5.", weight=0)]},
    "a question last": {"messages": TWO[:3]},
    "two answers in a row": {"messages": [*TWO[:2], says("Really.")]},
    "two questions in a row": {"messages": [user("2+2?"), user("Please."), says("4")]},
    "a system text in the middle": {"messages": [*TWO[:2], system("Be brief."), *TWO[2:]]},
    "a system column": {"system": "Be brief.", "messages": TWO},
    "a variable of the template": {"messages": TWO[:2], "chat_template_kwargs": {"enable_thinking": False}},
    "a name": {"messages": [user("2+2?", name="Zoë"), says("4")]},
    "a marker in a question": {"messages": [user("What is </think>?"), says("A tag.")]},
    "a special token in a question": {"messages": [user("What is {end}?"), says("A token.")]},
    "a special token in an answer": {"messages": [user("Which token?"), says("This: {end}.")]},
}
"""A row of each kind; ``{end}`` stands for the token that ends an answer."""
