"""Which options may differ when a run is resumed, and that nothing else may."""

import inspect

import lightning as L
import pytest

from lightning_posttrain.datamodules.preferences import PreferenceDataModule
from lightning_posttrain.datamodules.pretrain import PretrainDataModule
from lightning_posttrain.datamodules.prompts import PromptDataModule
from lightning_posttrain.datamodules.sft import SFTDataModule
from lightning_posttrain.modules.dpo import DPOModule
from lightning_posttrain.modules.grpo import GRPOModule
from lightning_posttrain.modules.pretrain import PretrainModule
from lightning_posttrain.modules.resume_changes import Change, changes, check_changes, flattened
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.types import UserError

MAY_DIFFER = {
    "model": {"sampling", "ledger"},
    "data": {"num_workers", "cache_dir", "val_path", "val_sources"},
    "trainer": {
        *("barebones", "check_val_every_n_epoch", "default_root_dir", "detect_anomaly", "enable_autolog_hparams"),
        *("enable_checkpointing", "enable_model_summary", "enable_progress_bar", "fast_dev_run", "inference_mode"),
        *("limit_predict_batches", "limit_test_batches", "limit_val_batches", "log_every_n_steps", "logger"),
        *("max_time", "min_epochs", "min_steps", "model_registry", "num_sanity_val_steps", "profiler"),
        *("val_check_interval",),
    },
}
SAID = {
    "model": set(),
    "data": {"tokens_per_micro", "share_prefixes"},
    "trainer": {
        *("accelerator", "benchmark", "deterministic", "devices", "max_epochs", "max_steps", "num_nodes", "strategy"),
        *("use_distributed_sampler",),
    },
}
FILES = {"model": {"pretrained"}, "data": {"path", "traces_file", "sources"}, "trainer": set()}
"""Options that name files: their content is compared, elsewhere."""


def parameters(kind: type) -> set[str]:
    found = set()
    for owner in kind.__mro__:
        if owner.__module__.startswith("lightning_posttrain") or owner is L.Trainer:
            found |= set(inspect.signature(owner.__init__).parameters) - {"self", "policy", "data"}
    return found


KINDS = [
    *(("model", kind) for kind in (SFTModule, DPOModule, GRPOModule, PretrainModule)),
    *(("data", kind) for kind in (SFTDataModule, PreferenceDataModule, PromptDataModule, PretrainDataModule)),
    ("trainer", L.Trainer),
]


@pytest.mark.parametrize(("group", "kind"), KINDS, ids=lambda value: getattr(value, "__name__", value))
def test_every_option_is_refused_said_or_known_to_change_nothing(group, kind):
    for name in sorted(parameters(kind) - {"callbacks"} - FILES[group]):
        value = {"a": 1} if name == "sampling" else "one"
        before, now = ({group: {name: v}} for v in (value, {"a": 2} if name == "sampling" else "two"))
        found = changes(before, now)
        if name in MAY_DIFFER[group]:
            assert not found, name
        elif name in SAID[group]:
            (said,) = check_changes(found, record=False, constant=False)
            assert f"{group}.{name} is two and was one" in said
        else:
            with pytest.raises(UserError, match=rf"cannot resume: {group}\.{name} is two and was one"):
                check_changes(found, record=False, constant=False)


def test_an_option_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match=r"model\.new is 2 and was null"):
        check_changes(changes({"model": {}}, {"model": {"new": 2}}), record=False, constant=True)


def test_what_a_run_can_change_is_recorded_when_asked_for():
    found = [Change("model.kl.beta", 0.0, 0.5)]
    assert "model.kl.beta is 0.5 and was 0.0" in check_changes(found, record=True, constant=True)[0]
    with pytest.raises(UserError, match=r"--run\.resume_changes record"):
        check_changes(found, record=False, constant=True)


@pytest.mark.parametrize(
    "option",
    [
        "model.optimizer.lr",
        "model.lora.r",
        "model.architecture.hidden_size",
        "data.seed",
        "data",
        "model",
        "lr_scheduler",
    ],
)
def test_what_no_checkpoint_goes_with_is_refused_whatever_is_asked(option):
    with pytest.raises(UserError, match="new run from the checkpoint's exported model"):
        check_changes([Change(option, 1, 2)], record=True, constant=True)


def test_another_end_is_said_where_the_schedule_goes_there():
    longer = [Change("trainer.max_steps", 2, 4)]
    assert check_changes(longer, record=False, constant=True) == []
    assert "the learning rate goes to the new end" in check_changes(longer, record=False, constant=False)[0]


def test_the_cut_is_refused_where_the_loss_depends_on_it():
    found = [Change("data.tokens_per_micro", 2, 4)]
    assert "rounded in another order" in check_changes(found, record=False, constant=True)[0]
    with pytest.raises(UserError, match="tokens_per_micro"):
        check_changes(found, record=False, constant=True, cut_matters=True)


def test_only_callbacks_that_are_known_to_look_on_may_come_and_go():
    def with_callbacks(*callbacks):
        return {"trainer": {"callbacks": list(callbacks)}}

    looks = {"class_path": "lightning_posttrain.callbacks.generation.GenerationEval", "init_args": {"max_examples": 3}}
    averages = {"class_path": "lightning.pytorch.callbacks.WeightAveraging", "init_args": {"use_buffers": True}}
    assert changes(with_callbacks(), with_callbacks(looks)) == []
    assert changes({"trainer": {"callbacks": None}}, with_callbacks(looks)) == []
    assert changes(with_callbacks(averages), with_callbacks(looks, averages)) == []
    assert changes(with_callbacks(looks), with_callbacks(averages))[0].option == "trainer.callbacks[0]"
    assert changes(with_callbacks(), with_callbacks({"class_path": "mine.GenerationEval"}))


def test_options_are_named_as_they_are_typed():
    rewards = [{"class_path": "a.Low", "init_args": {"weight": 2}}]
    given = {"model": {"class_path": "m.GRPO", "init_args": {"rewards": rewards, "kl": {"beta": 1}, "empty": {}}}}
    assert flattened(given) == {
        "model": "m.GRPO",
        "model.rewards[0]": "a.Low",
        "model.rewards[0].weight": 2,
        "model.kl.beta": 1,
        "model.empty": {},
    }
