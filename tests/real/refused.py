"""What each chat format cannot say, so that the row is refused: (format, kinds of conversation, words of the error)."""

THOUGHTS_APART = {"thoughts apart", "thoughts apart, by another name", "thoughts apart in all turns"}
TOOLS = {
    "tools",
    "tools and a system text",
    "a tool call",
    "a tool call at the end",
    "a tool call as OpenAI has it",
}
CALLS = {"a tool call without tools", "a tool call with words"}
IN_A_ROW = {"two answers in a row", "two questions in a row", "a system text in the middle"}
SYSTEM = {"a system text", "a system text and two turns", "an empty system text", "a system column"}
THOUGHTS = {"thoughts in one turn", "thoughts in all turns", "thoughts in the last turn", "thoughts in the first turn"}

PLAIN = [
    *("gemma3 own", "gemma", "llama3_1 own", "smollm2 own", "byte own"),
    *("tulu", "olmo2", "olmo3", "phi3", "phi4"),
]
"""Formats of roles and contents alone."""
DEEPSEEK = ["deepseek_v3 own", "deepseek_r1", "deepseek_r1_distill", "deepseek_v3_1"]
THINKERS = ["qwen3 own", "qwen3_thinking", "harmony"]
"""Formats that read an assistant's thoughts from a field."""
FAMILIES = [*PLAIN, *DEEPSEEK, *THINKERS, "qwen2_5", "llama3_1", "mistral_v3", "mistral_tekken"]
MARKED = ["qwen3 own", "qwen2_5", "qwen3_thinking", "deepseek_r1", "deepseek_r1_distill", "deepseek_v3_1", "olmo3"]
"""Formats whose tokenizers, here, have thought markers for tokens; SmolLM2 with `qwen2_5` has none."""

REFUSED = [
    ("*", {"a special token in a question", "a special token in an answer"}, "contains the special token"),
    ("*", {"a name"}, "drops part of its name, 'Zoë'"),
    *((name, {"a marker in a question"}, "contains the special token '</think>'") for name in MARKED),
    *((n, THOUGHTS_APART, "drops part of its reasoning_content, 'Two and") for n in FAMILIES if n not in THINKERS),
    *((n, {"a variable of the template"}, "no variable 'enable_thinking'") for n in FAMILIES if n != "qwen3 own"),
    *((name, TOOLS, "knows no tools") for name in [*PLAIN, *DEEPSEEK]),
    *((name, CALLS, "drops part of its tool_calls, 'get_weather'") for name in PLAIN),
    *((n, {"a tool call with words"}, "drops part of its tool_calls") for n in DEEPSEEK if n != "deepseek_v3_1"),
    *((n, THOUGHTS, "drops part of its content, '<think>") for n in ("deepseek_r1_distill", "deepseek_v3_1")),
    *((n, {"a tool call with words"}, "drops part of its content, 'I look") for n in ("llama3_1", "mistral_v3")),
    ("mistral_tekken", {"a tool call with words"}, "drops part of its content, 'I look"),
    *(
        (n, IN_A_ROW, "refuses messages with the roles")
        for n in ("gemma3 own", "gemma", "mistral_v3", "mistral_tekken")
    ),
    ("gemma", SYSTEM, "System role not supported"),
    ("deepseek_v3 own", {"a tool call without tools"}, "holds no stop token"),  # a single call has no end
]
