"""The commands besides LightningCLI's, each a function whose parameters are its options. Imports stay light: what a
command needs is imported inside it, so that `--help` is quick.
"""

from __future__ import annotations

from .arguments import Commands
from .compare import compare
from .export import export
from .prepare import prepare_format, prepare_tokenizer
from .preview import preview
from .tasks import tasks

COMMANDS: Commands = {
    "preview": preview,
    "prepare": {
        "_help": "Make what a run reads: the data of a task, or a tokenizer",
        "format": prepare_format,
        "tokenizer": prepare_tokenizer,
    },
    "compare": compare,
    "export": export,
    "tasks": tasks,
}
RAW = frozenset({"preview"})
"""Commands that take their words as they are, because most of them are options of `fit`."""
