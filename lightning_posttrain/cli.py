"""The console command. `fit`, `validate`, `test` and `predict` are LightningCLI's; the others live in `commands/`.

`main` turns bad input into one message and exit code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

TRAINER_COMMANDS = ("fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 after bad input, 130 when it was interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    with _left_at_once():
        from .types import UserError
    try:
        return _main(args)
    except UserError as error:
        return _told(str(error), error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        from .records.files import DENIED, FULL, cannot_write

        if error.errno not in (*FULL, *DENIED):
            raise
        return _told(str(cannot_write(Path(error.filename or "this place"), error)), 2)
    except Exception as error:
        from .config_errors import user_error

        if (said := user_error(error)) is not None:
            return _told(str(said), 2)
        if type(error).__name__ != "MisconfigurationException":  # Lightning's word for bad input
            raise
        return _told(" ".join(str(error).split()), 2)


def _main(args: list[str]) -> int:
    _quiet()
    if not args or args[0] not in TRAINER_COMMANDS:
        return _other(args)
    with _left_at_once():
        from .trainer_cli import PosttrainCLI
    PosttrainCLI(args=args)
    return 0


def _told(message: str, code: int) -> int:
    from .env_config import without_secrets

    print(without_secrets(f"error: {message}"), file=sys.stderr)
    return code


@contextmanager
def _left_at_once() -> Iterator[None]:
    """Within, while libraries are imported, which may swallow an exception, Ctrl-C ends the process on the spot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + signum)


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
    for text in ("does not have many workers", "isinstance.treespec", "LightningCLI's args", "across ranks is zero"):
        warnings.filterwarnings("ignore", f".*{text}.*")
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
