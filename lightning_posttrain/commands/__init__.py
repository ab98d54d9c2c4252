"""The commands besides LightningCLI's, each a function whose parameters are its options. Imports stay light: what a
command needs is imported inside it, so that `--help` is quick.
"""

from __future__ import annotations

from .arguments import Commands
from .chat import chat
from .collate import collate
from .compare import compare
from .control_gate import control_gate
from .evaluate_checkpoints import evaluate_checkpoints
from .experiments import experiments
from .export import export
from .judge import judge
from .mix import mix_export, mix_generate, mix_priors
from .mix_fit import mix_fit, mix_propose
from .mix_launch import mix_cancel, mix_launch, mix_status
from .plan import plan
from .prepare import (
    prepare_bamboo,
    prepare_corpora,
    prepare_format,
    prepare_inis,
    prepare_tokenizer,
    prepare_tokens,
    prepare_word_problems,
)
from .prepare_enterprise import prepare_all, prepare_banking77, prepare_nl2sql, prepare_pubmedqa, prepare_tatqa
from .prepare_model import prepare_model
from .preview import preview
from .recommend import recommend
from .report import report
from .run_experiment import run_experiment
from .tasks import tasks
from .traces import traces
from .tune import tune

COMMANDS: Commands = {
    "prepare": {
        "_help": "Make what a run reads: the data of a task, corpora, token shards, a tokenizer or a model",
        "format": prepare_format,
        "word_problems": prepare_word_problems,
        "bamboo": prepare_bamboo,
        "inis": prepare_inis,
        "corpora": prepare_corpora,
        "tokens": prepare_tokens,
        "tokenizer": prepare_tokenizer,
        "banking77": prepare_banking77,
        "pubmedqa": prepare_pubmedqa,
        "tatqa": prepare_tatqa,
        "nl2sql": prepare_nl2sql,
        "all": prepare_all,
        "model": prepare_model,
    },
    "mix": {
        "_help": "Find a mixture of pretraining sources: a swarm of small runs, a regression on them, a proposal",
        "priors": mix_priors,
        "generate": mix_generate,
        "launch": mix_launch,
        "status": mix_status,
        "cancel": mix_cancel,
        "export": mix_export,
        "fit": mix_fit,
        "propose": mix_propose,
    },
    "plan": plan,
    "preview": preview,
    "chat": chat,
    "traces": traces,
    "compare": compare,
    "control_gate": control_gate,
    "judge": judge,
    "collate": collate,
    "report": report,
    "evaluate_checkpoints": evaluate_checkpoints,
    "experiments": experiments,
    "tune": tune,
    "recommend": recommend,
    "run_experiment": run_experiment,
    "export": export,
    "tasks": tasks,
}
RAW = frozenset({"preview"})
"""Commands that take their words as they are, because most of them are options of `fit`."""
