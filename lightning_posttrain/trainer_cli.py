"""LightningCLI with a run directory: config.yaml, run.json, TensorBoard, checkpoints and the exported model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from . import env_config
from .batching.corpus import is_shards, text_files

# Imported so that configs can name their classes without the full path.
from .callbacks.bpb import BPBEval  # noqa: F401
from .callbacks.checkpoint import Checkpoints, find_resume
from .callbacks.collapse_guard import CollapseGuard  # noqa: F401
from .callbacks.control_gate import ControlGate  # noqa: F401
from .callbacks.export import ModelExport
from .callbacks.generation import GenerationEval  # noqa: F401
from .callbacks.initial_validation import InitialValidation
from .callbacks.lm_eval import LMEval  # noqa: F401
from .callbacks.predictions import PredictionWriter
from .callbacks.progress import ProgressBar, progress
from .callbacks.run_directory import RunDirectory, free_directory
from .callbacks.run_files import RunFiles
from .callbacks.signals import Signals
from .callbacks.summary import PolicySummary
from .callbacks.throughput import Throughput
from .config_errors import OneLineParser, refuse_null_groups, user_error
from .datamodules.evaluation import EvalDataModule  # noqa: F401
from .datamodules.preferences import PreferenceDataModule  # noqa: F401
from .datamodules.pretrain import PretrainDataModule  # noqa: F401
from .datamodules.prompts import PromptDataModule  # noqa: F401
from .datamodules.sft import SFTDataModule  # noqa: F401
from .mixing.tree import flatten_sources
from .modules.bag_of_words import BagOfWords  # noqa: F401
from .modules.base import PolicyModule
from .modules.dpo import DPOModule  # noqa: F401
from .modules.given import GivenAnswers  # noqa: F401
from .modules.grpo import GRPOModule  # noqa: F401
from .modules.pretrain import PretrainModule  # noqa: F401
from .modules.server import ServerAnswers  # noqa: F401
from .modules.sft import SFTModule  # noqa: F401
from .modules.trainer_checks import CONFIGURED, blamed, raised_here
from .rollout.samplers import ContinuousBatchingSampler, KVCacheSampler  # noqa: F401
from .tasks import gsm8k_rewards, registry  # noqa: F401
from .types import UserError


class TrainerParser(OneLineParser, LightningArgumentParser):
    """Lightning's parser, with errors of one line."""


@dataclass(frozen=True)
class RunSpec:
    """Where a run writes, and how it meets an earlier one."""

    dir: str | None = None
    """Run directory; null = ``outputs/<name of the config>``, numbered if that exists."""
    resume: bool = False
    """Continue from the newest intact checkpoint in ``dir``, or start if there is none."""
    overwrite: bool = False
    """Delete an earlier run in ``dir`` first: what runs write there, and nothing else."""
    resume_changes: Literal["refuse", "record"] = "refuse"
    """What happens when a resumed run would compute something else than the part before it: ``refuse``, or ``record``,
    which goes on and notes in run.json what changed, and at which step."""


class PosttrainCLI(LightningCLI):
    """Builds module, data and Trainer from the configuration and runs the subcommand.

    Args:
        args: subcommand and its options; without the subcommand when ``run`` is False.
        run: False builds module and data only, for commands that look at a configuration.
    """

    def __init__(self, args: list[str], run: bool = True) -> None:
        self.runs = run
        self._directory: RunDirectory | None = None
        failed = True
        try:
            with Signals(at_once=True) if run else nullcontext():
                super().__init__(
                    PolicyModule,
                    L.LightningDataModule,
                    subclass_mode_model=True,
                    subclass_mode_data=True,
                    save_config_callback=None,
                    seed_everything_default=0,
                    trainer_defaults={"num_sanity_val_steps": 0, "log_every_n_steps": 10},
                    args=args,
                    run=run,
                    parser_class=TrainerParser,
                    parser_kwargs={"allow_abbrev": False, "parser_mode": env_config.MODE},  # shortened = misspelt
                )
            failed = False
        except CONFIGURED as error:  # before the first step: of a library that was set up with what it does not take
            if self._trained or not hasattr(self, "config") or user_error(error) or raised_here(error):
                raise
            raise blamed(error, self.settings) from error
        finally:
            self._release(failed)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunSpec, "run")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(
                f"seed_everything={self.settings.seed_everything}: {error}; give 0 to 4294967295"
            ) from error

    @property
    def settings(self) -> Any:
        """The parsed configuration of the subcommand."""
        return self.config[self.subcommand] if self.subcommand else self.config

    def before_instantiate_classes(self) -> None:
        config = self.settings
        for name in ("model", "data"):
            refuse_null_groups(name, config[name])
        corpus_from_data(config)
        if not self.runs:
            return
        self._directory = self._claimed(config)
        self.run_dir = self._directory.path
        config.checkpoint.dirpath = str(self.run_dir / "checkpoints")
        config.trainer.default_root_dir = str(self.run_dir)

    def _claimed(self, config: Any) -> RunDirectory:
        """The directory of this run, held until `_release`."""
        run = config.run
        if run.dir is not None:
            found = RunDirectory(Path(run.dir), str(self.subcommand))
            found.claim(run.resume, run.overwrite)
            return found
        if run.resume:
            raise UserError("run.resume needs the directory to resume: --run.dir outputs/<run>")
        paths = [Path(str(p)) for p in config.config or []]
        name = "-".join([paths[-1].parent.name, paths[-1].stem]) if paths else "run"
        suffix = "" if self.subcommand == "fit" else f"-{self.subcommand}"
        return free_directory(Path("outputs") / f"{name}{suffix}", str(self.subcommand))

    def _release(self, failed: bool) -> None:
        """Give the run directory back; a run that failed before its first step leaves nothing in it."""
        if self._directory is not None:
            self._directory.release(came_to_nothing=failed and not self._trained)

    @property
    def _trained(self) -> bool:
        trainer = getattr(self, "trainer", None)
        return isinstance(trainer, L.Trainer) and trainer.global_step > 0

    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        """Lightning builds the optimizer of ``--optimizer`` right here, so the parameters must exist."""
        if self.settings.get("optimizer") is not None:
            self.model.build()
        super()._add_configure_optimizers_method_to_model(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        if not self.runs:
            return None  # type: ignore[return-value]
        trainer: dict[str, Any] = self._get(self.config_init, "trainer", default={})
        extra: list[L.Callback] = [Throughput(), InitialValidation()]
        if trainer.get("enable_progress_bar") is not False:
            extra.append(progress())
            trainer["enable_progress_bar"] = isinstance(extra[-1], ProgressBar)  # else Lightning adds a bar of its own
        if trainer.get("enable_model_summary") is not False:
            extra.append(PolicySummary())
        if self.subcommand == "fit":
            extra.append(ModelExport(self.run_dir / "model"))
        if self.subcommand == "predict":
            extra.append(PredictionWriter(self.run_dir / "predictions.jsonl"))
        extra.append(
            RunFiles(self.run_dir, self._configuration, self.settings.run.resume_changes)
        )  # last: "finished" means that all is written
        trainer["callbacks"] = [*(trainer.get("callbacks") or []), *extra]
        if trainer.get("logger") in (None, True):
            trainer["logger"] = TensorBoardLogger(self.run_dir, name="", version="tensorboard")
        return super().instantiate_trainer(**{**trainer, **kwargs})

    def _configuration(self) -> str:
        """The resolved configuration as the text of ``config.yaml``."""
        parser = self._parser(self.subcommand)
        return str(parser.dump(self.settings, format=env_config.SAVED, skip_none=False, skip_validation=True))

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Checkpoints are read as tensors and plain values only."""
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}

    def before_fit(self) -> None:
        if self.settings.run.resume:
            found = find_resume(self.run_dir / "checkpoints")
            print(f"resuming from {found}" if found else f"nothing to resume in {self.run_dir}: starting")
            self.config_init["fit"]["ckpt_path"] = found


def corpus_from_data(config: Any) -> None:
    """A BPE without a corpus is trained on the run's own training data; the saved configuration says so."""
    tokenizer = config.model.get("init_args", {}).get("tokenizer")
    if tokenizer is not None and tokenizer.kind == "bpe" and not tokenizer.corpus:
        data = config.data.init_args
        if "sources" in data:
            paths = [path for leaf in flatten_sources(data.sources, "data.sources").values() for path in leaf]
            if is_shards(paths):
                raise UserError("model.tokenizer: a BPE cannot be trained on token shards; give its source or corpus")
            tokenizer.corpus = [str(path) for path in text_files(paths)]
            return
        parts = [part.path for part in data.get("mix") or []]
        tokenizer.corpus = [str(path) for path in parts or [data.get("traces_file") or data.path]]


def load_run(args: list[str]) -> tuple[PolicyModule, L.LightningDataModule]:
    """Module (without weights) and data module of a configuration, for commands that look at one."""
    cli = PosttrainCLI(args, run=False)
    return cli.model, cli.datamodule
