"""Chat formats as data: jinja text that turns messages into one string.

Only formats that any base model can be taught; an instruct model brings its own with its tokenizer.
Contents are rendered exactly as given, never trimmed, so that what is trained is what the data says.
"""

from __future__ import annotations

from pathlib import Path

from ..types import UserError

CHATML = (
    "{%- if bos_token %}{{- bos_token }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Turns between ``<|im_start|>role`` and ``<|im_end|>``: needs a tokenizer that has both tokens."""

TULU = (
    "{%- if bos_token and bos_token != eos_token %}{{- bos_token }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{%- if message['role'] == 'assistant' %}{{- eos_token }}{%- endif %}"
    "{%- if not loop.last or add_generation_prompt or message['role'] != 'assistant' %}{{- '\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"
)
"""Roles as plain text, answers ended by the tokenizer's own end-of-text token: needs no token the base model lacks."""

TAGS = (
    "{%- if bos_token and bos_token != eos_token %}{{- bos_token }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- message['content'] }}"
    "{%- if message['role'] != 'user' %}{{- eos_token }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- start_working | default('<start_working_out>') }}{%- endif %}"
)
"""No roles: a system text and its end, a question, an answer and its end. The generation prompt opens the working
that an answer begins with; ``template_kwargs: {start_working: ...}`` gives it another tag, or none (an empty text)."""

FIXED_DATE = (
    "{%- macro strftime_now(format) %}"
    "{{- format | replace('%Y', '2024') | replace('%y', '24') | replace('%m', '07') | replace('%d', '26')"
    " | replace('%B', 'July') | replace('%b', 'Jul') | replace('%A', 'Friday') | replace('%a', 'Fri')"
    " | replace('%H', '00') | replace('%M', '00') | replace('%S', '00') }}"
    "{%- endmacro %}{{- '' }}"
)
"""Put before a template that prints today's date, so that it prints the same one every day (the one the first such
templates fall back to). The empty expression keeps the template's own first line end."""

TEMPLATES = {"chatml": CHATML, "tulu": TULU, "tags": TAGS}


def chat_template(value: str) -> str:
    """The jinja text of a built-in format (by name) or of a ``.jinja`` file (by path), or ``value`` if it is jinja.

    Raises:
        UserError: it is none of the three.
    """
    if value in TEMPLATES:
        return TEMPLATES[value]
    if "{%" in value or "{{" in value:
        return value
    path = Path(value)
    if not path.is_file():
        raise UserError(
            f"chat_template {value!r} is no built-in format ({', '.join(TEMPLATES)}), no file, and no jinja text. "
            "Give one of the three."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"chat_template {value!r} cannot be read as UTF-8 text ({error}).") from error
