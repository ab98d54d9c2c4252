"""`export`: a run's checkpoint, or an adapter, as a folder that plain transformers and PEFT load, with proof.

Everything happens in full precision, also for a run whose base was held in 4 or 8 bits: an adapter is the same either
way, and merging into quantised weights would keep their error. What quantisation changes is reported beside it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..types import UserError

if TYPE_CHECKING:
    import torch

    from ..modules.base import PolicyModule


def export(
    *,
    output: str,
    run: str | None = None,
    model: str | None = None,
    checkpoint: str | None = None,
    merge: bool = False,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    overwrite: bool = False,
) -> int:
    """Write a model in Hugging Face format, and prove that transformers loads it.

    Its logits are compared with those of the model it was written from; the exit code is 1 when they differ by more
    than rounding.

    Args:
        output: folder to write.
        run: run directory whose checkpoint is exported; or give `model`.
        model: folder of an adapter or of full weights; or give `run`.
        checkpoint: checkpoint file of the run; null = the newest.
        merge: write full weights with the adapter added into them.
        dtype: of the written full weights; null = as in the run, or float32.
        overwrite: replace what is in `output`.
    """
    import torch

    from ..models.export import difference, is_peft, probe_ids, probe_logits, reload
    from ..models.export import merge as merged_model

    folder = _free(output, overwrite)
    module, source = _source(run, model, checkpoint)
    if merge and not is_peft(module.model):
        raise UserError(f"merge=true: {source} has no adapter, its weights are whole already; leave `merge` out")
    if dtype and is_peft(module.model) and not merge:
        raise UserError(f"dtype={dtype} is for full weights, {source} is written as an adapter; add --merge true")
    ids = probe_ids(len(module.tokenizer))
    mine = probe_logits(module.model, ids)
    if merge:
        module.model = merged_model(module.model)
    written = getattr(torch, dtype) if dtype else next(p.dtype for p in module.model.parameters())
    if dtype:
        module.model.to(written)
    _write(module, folder)
    found = difference(mine, probe_logits(reload(folder, written), ids), written)
    kind = "full weights" if not is_peft(module.model) else "adapter"
    print(f"{folder}: {kind} of {source}, {str(written).removeprefix('torch.')}")
    print(f"largest logit difference after loading: {found.largest:.3g} (rounding: up to {found.tolerance:.3g})")
    if module.load.quantization:
        _report_quantisation(run, checkpoint, mine, ids)
    if not found.ok:
        print("the written model differs from the trained one: do not use it")
    return 0 if found.ok else 1


def _free(output: str, overwrite: bool) -> Path:
    folder = Path(output)
    if not folder.exists():
        return folder
    if not folder.is_dir() or (any(folder.iterdir()) and not list(folder.glob("*config.json"))):
        raise UserError(f"output={output} is no model folder and is left alone; name another one")
    if any(folder.iterdir()) and not overwrite:
        raise UserError(f"output={output} exists; replace it with --overwrite true, or name another folder")
    return folder


def _source(run: str | None, model: str | None, checkpoint: str | None) -> tuple[PolicyModule, str]:
    """The module with its weights in full precision, and what to call it."""
    import torch

    from ..modules.sft import SFTModule

    if (run is None) == (model is None):
        raise UserError(f"run={run}, model={model}: give one of them, a run directory or a model folder")
    if model is not None:
        if checkpoint is not None:
            raise UserError(f"checkpoint={checkpoint} belongs to a run; give `run` instead of `model`")
        module = SFTModule(pretrained=model)
        module.build(torch.float32)
        return module, model
    assert run is not None
    return _from_run(run, checkpoint, quantised=False)


def _from_run(run: str, checkpoint: str | None, quantised: bool) -> tuple[PolicyModule, str]:
    from .runs import checkpoints, load_checkpoint, read_run, run_dtype

    cli = read_run(run)
    path = Path(checkpoint) if checkpoint else checkpoints(run)[-1][1]
    spec = cli.model.load
    if not quantised:
        cli.model.load = replace(spec, quantization=None)
    cli.model.build(run_dtype(cli))
    cli.model.load = spec
    step = load_checkpoint(cli.model, path)
    return cli.model, f"{path} (step {step})"


def _write(module: PolicyModule, folder: Path) -> None:
    from ..callbacks.export import export_module

    export_module(module, folder)


def _report_quantisation(run: str | None, checkpoint: str | None, mine: torch.Tensor, ids: torch.Tensor) -> None:
    """How far the run's own model, whose base is quantised, is from the one in full precision."""
    from ..models.export import probe_logits

    assert run is not None
    quantised: Any = _from_run(run, checkpoint, quantised=True)[0]
    gap = float((probe_logits(quantised.model, ids) - mine).abs().max())
    print(f"largest logit difference to the run's {quantised.load.quantization} base: {gap:.3g}")
