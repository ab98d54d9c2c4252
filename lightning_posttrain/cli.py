"""The console command. `fit`, `validate`, `test` and `predict` are LightningCLI's; the others live in `commands/`.

`main` turns bad input into one message and exit code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

TRAINER_COMMANDS = ("fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 after bad input."""
    args = list(sys.argv[1:] if argv is None else argv)
    from .types import UserError

    _quiet()
    try:
        if args and args[0] in TRAINER_COMMANDS:
            from .commands.runs import quiet_loading
            from .trainer_cli import PosttrainCLI

            quiet_loading()
            PosttrainCLI(args=args)
            return 0
        return _other(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        from .config_errors import user_error

        if (said := user_error(error)) is not None:
            print(f"error: {said}", file=sys.stderr)
            return 2
        if type(error).__name__ != "MisconfigurationException":  # Lightning's word for bad input
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _other(args: list[str]) -> int:
    from .commands import COMMANDS, RAW
    from .commands.arguments import run

    if not args or args[0] in ("-h", "--help"):
        print(_overview(COMMANDS))
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        print(version("lightning-posttrain"))
        return 0
    if args[0] not in COMMANDS:
        from .types import UserError

        raise UserError(f"there is no command {args[0]!r}; commands: {', '.join([*TRAINER_COMMANDS, *COMMANDS])}")
    try:
        if args[0] in RAW:
            return int(COMMANDS[args[0]](args[1:]))
        return run(COMMANDS[args[0]], args[1:], f"lightning-posttrain {args[0]}")
    except BrokenPipeError:  # `lpt preview ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _overview(commands: dict[str, Any]) -> str:
    from .commands.arguments import summary

    lines = ["usage: lightning-posttrain COMMAND [-c CONFIG] [--key value ...]   (or: lpt)", ""]
    told = {
        "fit": "train a model by its config",
        "validate": "evaluate a model on the validation data and the evaluation callbacks",
        "test": "the same on the test data",
        "predict": "generate an answer for each row",
    }
    told |= {name: summary(command) for name, command in commands.items()}
    width = max(map(len, told))
    lines += [f"  {name:<{width}}  {text[:1].lower() + text[1:]}" for name, text in told.items()]
    return "\n".join([*lines, "", "Each command explains its options with --help."])


def _quiet() -> None:
    """Silence notices that are not about the user's run, and bars that nobody watches."""
    from .progress import silence_bars

    silence_bars()
    for text in (".*does not have many workers.*", ".*isinstance.treespec.*", ".*LightningCLI's args parameter.*"):
        warnings.filterwarnings("ignore", text)
    warnings.filterwarnings("ignore", category=FutureWarning)
    names = ("utilities.rank_zero", "trainer.connectors.checkpoint_connector")
    for name in (*(f"lightning.pytorch.{name}" for name in names), "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).addFilter(_about_the_run)


NOT_ABOUT_THE_RUN = (
    "litlogger",  # an advertisement
    "`weights_only` was not set",  # on reading checkpoints, said when one is written
    "TPU available: False",
    "already configured with model summary callbacks",
    "Failed to load CPU gemm_4bit_forward",  # a faster kernel for 4-bit weights, said where there are none
)


def _about_the_run(record: logging.LogRecord) -> bool:
    """Drops notices that are not about the user's run."""
    text = record.getMessage()
    return not any(part in text for part in NOT_ABOUT_THE_RUN)


if __name__ == "__main__":
    raise SystemExit(main())
