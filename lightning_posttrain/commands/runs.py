"""What commands read from a run directory: its configuration, its module, its checkpoints. Nothing is written here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .. import env_config
from ..records.files import matching
from ..types import UserError

if TYPE_CHECKING:
    import torch

    from ..modules.base import PolicyModule
    from ..trainer_cli import PosttrainCLI

FIT_ONLY = ("ckpt_path", "weights_only")
"""Keys of a saved configuration that belong to the subcommand `fit`, not to what it builds."""


@contextmanager
def fit_args(args: list[str]) -> Iterator[list[str]]:
    """``args`` of `fit` for a look without a run: configurations saved by runs lose what only `fit` takes."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LightningCLI's args parameter.*")
        words = [w for word in args for w in (word.split("=", 1) if word.startswith("--config=") else [word])]
        for i, word in enumerate(words[:-1]):
            if word not in ("-c", "--config") or not Path(words[i + 1]).is_file():
                continue
            config = env_config.load_file(Path(words[i + 1]))
            if any(key in config for key in FIT_ONLY):
                kept = Path(folder) / f"{i}-config.yaml"
                kept.write_text(env_config.save_text({k: v for k, v in config.items() if k not in FIT_ONLY}))
                words[i + 1] = str(kept)
        yield [*words, "--seed_everything=false"]  # nothing here draws from global generators


def built(words: list[str], where: str) -> PosttrainCLI:
    """Module, data module and Trainer's settings of a command line of `fit` or `validate`, without weights.

    Raises:
        UserError: it is refused; one line that begins with ``where``.
    """
    from ..config_errors import user_error
    from ..trainer_cli import PosttrainCLI

    said = io.StringIO()
    try:
        with redirect_stderr(said), fit_args(words) as args:
            return PosttrainCLI(args, run=False)
    except SystemExit as stop:
        raise UserError(f"{where}: {said.getvalue().strip().removeprefix('error: ')}") from stop
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:
        found = user_error(error)
        if found is None:
            raise
        raise UserError(f"{where}: {found}") from error


def check_files(where: str, cli: PosttrainCLI) -> None:
    """Refuse rows that are not there: a run would fail by them.

    Raises:
        UserError: naming the option and the file; begins with ``where``.
    """
    data: Any = cli.datamodule
    callbacks: list[Any] = cli.config_init["trainer"].get("callbacks") or []
    named = {f"data.{name}": getattr(data, name, None) for name in ("path", "val_path", "traces_file")}
    named |= {f"data.mix[{i}].path": part.path for i, part in enumerate(getattr(data, "mix", None) or [])}
    named |= {f"{type(c).__name__}.path": c.path for c in callbacks if hasattr(c, "path")}
    for option, path in named.items():
        if isinstance(path, str) and not path.startswith("hub:") and not matching(path) and not Path(path).exists():
            raise UserError(
                f"{where}: {option}={path} does not exist; make it by `lightning-posttrain prepare`, or name it"
            )


def run_folder(run: str) -> Path:
    """The run directory ``run``.

    Raises:
        UserError: it is none.
    """
    folder = Path(run)
    if not (folder / "config.yaml").is_file():
        what = "holds no config.yaml" if folder.is_dir() else "does not exist"
        raise UserError(f"run={run}: {what}; name the directory a `fit` wrote, such as outputs/<run>")
    return folder


def read_run(run: str) -> PosttrainCLI:
    """The parsed configuration of a run with its objects, the module without weights.

    Raises:
        UserError: ``run`` is no run directory.
    """
    from ..trainer_cli import PosttrainCLI

    folder = run_folder(run)
    with fit_args(["-c", str(folder / "config.yaml")]) as args:
        return PosttrainCLI(args, run=False)


def run_dtype(cli: PosttrainCLI) -> torch.dtype:
    """Dtype of the weights in the run."""
    import torch

    precision = str(cli.settings.trainer.precision)
    return {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)


def checkpoints(run: str) -> list[tuple[int, Path]]:
    """(optimizer step, file) of every checkpoint of a run, ascending.

    Raises:
        UserError: there is none.
    """
    from ..callbacks.checkpoint_io import checkpoints_in

    folder = run_folder(run) / "checkpoints"
    found = {manifest.step: path for path, manifest in checkpoints_in(folder)}
    if not found:
        raise UserError(f"{folder}: holds no checkpoint; name a run that trained for at least checkpoint.every_n_steps")
    return sorted(found.items())


def load_checkpoint(module: PolicyModule, path: Path) -> int:
    """Put a checkpoint's weights into a built ``module``; its optimizer step.

    Raises:
        UserError: the checkpoint is damaged or belongs to another model.
    """
    from ..callbacks.checkpoint_io import AtomicCheckpointIO

    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    module.load_state_dict(checkpoint["state_dict"])
    return int(checkpoint["global_step"])


def best_device() -> str:
    """``cuda`` where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
