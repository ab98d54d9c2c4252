"""What may differ between the parts of a run that is resumed.

Two configurations are compared option by option. Only what is listed here may differ; anything else, new options and
options of other people's classes included, is taken to change what the run computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..types import UserError

FREE = (
    *("config*", "subcommand", "ckpt_path", "weights_only", "run.*", "checkpoint.*"),
    *("data.num_workers", "data.cache_dir", "data.val_path", "data.val_sources*", "data.mix[[]*].val_path"),
    *("model.sampling.*", "model.ledger", "model.tokenizer.cache_dir", "model.reference.cache_dir"),
    *("trainer.logger*", "trainer.profiler*", "trainer.enable_*", "trainer.log_every_n_steps", "trainer.barebones"),
    *("trainer.limit_val_batches", "trainer.limit_test_batches", "trainer.limit_predict_batches"),
    *("trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.num_sanity_val_steps"),
    *("trainer.default_root_dir", "trainer.max_time*", "trainer.min_steps", "trainer.min_epochs"),
    *("trainer.fast_dev_run", "trainer.detect_anomaly", "trainer.inference_mode", "trainer.model_registry"),
)
"""Options that change nothing of what is trained: where files are, what is logged, when is evaluated."""
CONTENT = (
    *("data.path", "data.traces_file", "data.mix[[]*].path", "data.sources*"),
    *("model.pretrained", "model.tokenizer.source", "model.tokenizer.corpus*"),
)
"""Options that name files, whose content is what has to be the same; the checkpoint knows it."""
ROUNDING = (
    *("data.tokens_per_micro", "data.share_prefixes", "model.load.gradient_checkpointing", "model.load.compile"),
    *("model.reference.cached", "model.sampler.max_rows", "model.sampler.max_tokens"),
    *("trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.strategy*", "trainer.deterministic"),
    *("trainer.benchmark", "trainer.use_distributed_sampler"),
)
"""Options by which the same numbers are added up in another order."""
LENGTH = ("trainer.max_steps", "trainer.max_epochs")
"""Options that say where the run ends, to which most schedules decay."""
FIXED = (
    *("model", "model.architecture*", "model.lora*", "model.load.quantization", "model.load.double_quantization"),
    *("model.load.overrides*", "model.load.revision", "model.tokenizer*", "model.optimizer*", "model.seed"),
    *("model.chinchilla", "optimizer*", "lr_scheduler*", "data", "data.*"),
)
"""Options that no checkpoint can be resumed with when they differ: its weights, moments and place would be others'."""
CALLBACKS = (
    *("BPBEval", "GenerationEval", "LMEval", "CollapseGuard", "ControlGate"),
    *("DeviceStatsMonitor", "EarlyStopping", "LearningRateMonitor", "ModelSummary", "RichModelSummary"),
    *("RichProgressBar", "ThroughputMonitor", "Timer", "TQDMProgressBar"),
)
"""Callbacks that look on, or end the run, and so may come and go."""


@dataclass(frozen=True)
class Change:
    """An option that differs between a checkpoint and the run that loads it; None = it is not there."""

    option: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.option} is {_shown(self.now)} and was {_shown(self.before)} in the part before"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The options that differ, `FREE` ones left out; named as on the command line."""
    old, new = flattened(_without_onlookers(before)), flattened(_without_onlookers(now))
    keys = [*new, *(key for key in old if key not in new)]
    # null, {} and nothing at all are the same; numbers are compared with their kind, as 1 and true are not
    differ = [Change(key, old.get(key), new.get(key)) for key in keys if _exact(old.get(key)) != _exact(new.get(key))]
    return [change for change in differ if not _among(change.option, FREE)]


def check_changes(found: list[Change], record: bool, constant: bool, cut_matters: bool = False) -> list[str]:
    """Refuse changes of what the run computes; what is to be said of those that are accepted.

    Args:
        found: see `changes`.
        record: accept what a run can change.
        constant: the learning rate does not depend on the length of the run.
        cut_matters: the loss depends on how a step is cut into micro-batches.

    Raises:
        UserError: names the options, their values, and what to do.
    """
    found = [change for change in found if not _among(change.option, CONTENT)]
    soft = (*LENGTH, *(key for key in ROUNDING if not cut_matters or not key.startswith("data.")))
    hard = [change for change in found if not _among(change.option, soft)]
    fixed = [c for c in hard if _among(c.option, FIXED) and not _among(c.option, ROUNDING)]
    if fixed:
        raise UserError(
            f"cannot resume: {_joined(fixed)}; restore it, or start a new run from the checkpoint's exported model"
        )
    if hard and not record:
        raise UserError(
            f"cannot resume: {_joined(hard)}; restore it, start a new run, or go on with the change noted in run.json: "
            "--run.resume_changes record"
        )
    said = [f"{change}: from here on the run is another one" for change in hard]
    for change in found:
        if _among(change.option, LENGTH) and not constant:
            said.append(f"{change}: from here on the learning rate goes to the new end")
        elif change not in hard and not _among(change.option, LENGTH):
            said.append(f"{change}: the same numbers, rounded in another order")
    return said


def flattened(value: Any, key: str = "") -> dict[str, Any]:
    """Option -> value, as options are named on the command line: without ``init_args``, a class by its name."""
    if isinstance(value, Mapping) and value:
        found: dict[str, Any] = {}
        for name, part in value.items():
            if name == "class_path":
                found[key] = part
            else:
                found |= flattened(part, key if name == "init_args" else f"{key}.{name}".lstrip("."))
        return found
    if isinstance(value, list) and any(isinstance(part, Mapping | list) for part in value):
        return {k: v for i, part in enumerate(value) for k, v in flattened(part, f"{key}[{i}]").items()}
    return {key: value}


def _without_onlookers(configuration: Mapping[str, Any]) -> dict[str, Any]:
    trainer = dict(configuration.get("trainer") or {})
    callbacks = trainer.get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    names = [c.get("class_path", "") if isinstance(c, Mapping) else str(c) for c in callbacks]
    known = ("lightning_posttrain.", "lightning.pytorch.", "pytorch_lightning.")
    kept = [
        callback
        for callback, name in zip(callbacks, names, strict=True)
        if not (name.startswith(known) and name.rpartition(".")[2] in CALLBACKS)
    ]
    return {**configuration, "trainer": {**trainer, "callbacks": kept or None}}


def _exact(value: Any) -> tuple[Any, Any]:
    if value in (None, {}, []):
        return None, None
    return type(value) is bool, value


def _among(option: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(option, pattern) for pattern in patterns)


def _joined(found: list[Change], most: int = 5) -> str:
    more = f" (and {len(found) - most} more)" * (len(found) > most)
    return "; ".join(map(str, found[:most])) + more


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)[:100]
