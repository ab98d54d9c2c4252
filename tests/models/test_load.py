"""Folders that hold a model, and folders that do not quite: read whole, or refused in one line before anything runs."""

import json
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from lightning_posttrain.batching.tree import collate
from lightning_posttrain.cli import main
from lightning_posttrain.models.config import generation_config, limits
from lightning_posttrain.models.load import load_policy
from lightning_posttrain.models.source import Source, resolve
from lightning_posttrain.models.spec import LoadSpec, LoraSpec
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.ops.logprobs import base_model, token_logprobs
from lightning_posttrain.text.tokenizer import TokenizerSpec, byte_tokenizer
from lightning_posttrain.types import UserError

from ..conftest import ARCHITECTURE
from ..tinyrun import Rows

FIELDS = {name: value for name, value in ARCHITECTURE.items() if name != "model_type"}
DOWN = "model.layers.0.mlp.down_proj.weight"


def save(folder: Path, kind: str = "qwen3", **fields) -> Path:
    """A folder with a random model and the byte tokenizer."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**FIELDS, "vocab_size": 260, **fields})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def change_weights(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, {"format": "pt"})


def change_config(folder: Path, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Touch(folder / "executed"), file)


class Touch:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def overwrite(value: float, name: str = DOWN):
    return lambda folder: change_weights(folder, lambda w: w[name].fill_(value))


BROKEN = {
    "truncated": (truncated, "model.safetensors is no whole safetensors file"),
    "garbage": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "model.safetensors is no whole"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors is no whole"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no file named"),
    "pickle": (pickled, "hold more than tensors"),
    "other shape": (
        lambda f: change_weights(f, lambda w: w.update({DOWN: torch.zeros(3, 5)})),
        rf"{DOWN} has the shape \[3, 5\], not \[32, 64\]",
    ),
    "missing": (lambda f: change_weights(f, lambda w: w.pop(DOWN)), f"missing.*{DOWN}"),
    "unknown": (lambda f: change_weights(f, lambda w: w.update(extra=torch.zeros(2))), "no place.*extra"),
    "nan": (overwrite(float("nan")), f"{DOWN} holds 2048 numbers that are NaN"),
    "infinite": (overwrite(float("inf"), "model.norm.weight"), "model.norm.weight holds 32 numbers"),
    "few embeddings": (lambda f: change_config(f, vocab_size=100), "256 tokens but the model .* only 100 embeddings"),
    "pad id": (lambda f: change_config(f, pad_token_id=300), "pad_token_id=300 is outside"),
    "unknown type": (lambda f: change_config(f, model_type="nonesuch"), "no config could be read"),
    "no json": (lambda f: (f / "config.json").write_text("{"), "not a valid JSON"),
    "rope": (lambda f: change_config(f, rope_parameters={"rope_type": "nonesuch"}), "nonesuch"),
    "value": (lambda f: change_config(f, rms_norm_eps="small"), "rms_norm_eps"),
    "heads": (lambda f: change_config(f, num_attention_heads=3), "shape"),
}


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_broken_folder_is_refused_in_one_line(tmp_path, kind):
    folder = save(tmp_path / "m")
    breaking, said = BROKEN[kind]
    breaking(folder)
    with pytest.raises(UserError, match=said) as refused:
        SFTModule(pretrained=str(folder)).build()
    assert "\n" not in str(refused.value)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("kind", ["truncated", "missing", "nan", "few embeddings", "pickle", "other shape"])
def test_nothing_is_left_of_a_run_with_a_broken_model(tmp_path, tiny_config, capfd, kind):
    folder = save(tmp_path / "m")
    BROKEN[kind][0](folder)
    options = [f"--model.init_args.pretrained={folder}", "--model.init_args.tokenizer.kind=null"]
    assert main(["fit", "-c", str(tiny_config), *options]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert not (tmp_path / "run").exists()


def test_activations_that_overflow_stop_the_run_at_its_first_step(tmp_path, tiny_config, capfd):
    folder = save(tmp_path / "m")
    overwrite(1e38)(folder)
    options = [f"--model.init_args.pretrained={folder}", "--model.init_args.tokenizer.kind=null"]
    assert main(["fit", "-c", str(tiny_config), *options]) == 2
    assert "the gradient is exactly 0" in capfd.readouterr().err


def test_a_pad_id_without_an_embedding_can_be_set_to_null(tmp_path):
    folder = save(tmp_path / "m")
    change_config(folder, pad_token_id=300)
    load_policy(str(folder), None, vocab_size=260, load=LoadSpec(overrides={"pad_token_id": None}))


# ---- adapters -------------------------------------------------------------------------------------------------------


def save_adapter(tmp_path: Path) -> Path:
    base = save(tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 259]}))
    model = load_policy(str(base), None, vocab_size=260, lora=LoraSpec(r=2))
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_an_adapter_without_files_of_its_own_has_its_bases_stops_and_tokenizer(tmp_path):
    folder = save_adapter(tmp_path)
    assert generation_config(Source(str(folder))).eos_token_id == [1, 259]
    assert sorted(SFTModule(pretrained=str(folder)).renderer.stop_ids) == [1, 259]
    SFTModule(pretrained=str(folder)).build()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop(next(iter(w))), "missing"),
        (lambda w: w.update({"base_model.model.nowhere.lora_A.weight": torch.zeros(2, 2)}), "no place"),
        (lambda w: w[next(iter(w))].fill_(float("nan")), "NaN"),
        (lambda w: w.update({next(iter(w)): torch.zeros(7, 7)}), "size mismatch"),
    ],
)
def test_an_adapter_is_read_whole_or_refused(tmp_path, change, said):
    folder = save_adapter(tmp_path)
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    with pytest.raises(UserError, match=said):
        load_policy(str(folder), None, vocab_size=260)


def test_an_adapter_config_without_a_base_is_refused(tmp_path):
    folder = save_adapter(tmp_path)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": None}))
    with pytest.raises(UserError, match="names no model"):
        SFTModule(pretrained=str(folder)).build()


# ---- revisions ------------------------------------------------------------------------------------------------------


def test_one_revision_is_asked_for_everywhere(monkeypatch):
    asked = []

    def record(name):
        def from_pretrained(*args, **options):
            asked.append((name, args[0], options.get("revision")))
            raise OSError("offline")

        return from_pretrained

    from lightning_posttrain.models import config, weights
    from lightning_posttrain.text import tokenizer

    monkeypatch.setattr(tokenizer.AutoTokenizer, "from_pretrained", record("tokenizer"))
    monkeypatch.setattr(config.GenerationConfig, "from_pretrained", record("generation"))
    monkeypatch.setattr(config.AutoConfig, "from_pretrained", record("config"))
    monkeypatch.setattr(weights.AutoModelForCausalLM, "from_pretrained", record("weights"))
    source = resolve("org/name", "abc")
    module = SFTModule(pretrained="org/name", load=LoadSpec(revision="abc"))
    for step in (
        lambda: module.tokenizer,
        lambda: generation_config(source),
        lambda: config.pretrained_config(source, LoadSpec()),
        lambda: weights.read_weights(source, None, torch.float32),
    ):
        with suppress(UserError):
            step()
    assert asked == [(kind, "org/name", "abc") for kind in ("tokenizer", "generation", "config", "weights")]


def test_a_revision_of_a_folder_or_of_random_weights_is_refused(tmp_path):
    for pretrained in (str(tmp_path), None):
        with pytest.raises(UserError, match=r"load\.revision='abc'"):
            resolve(pretrained, "abc")


def test_a_gguf_file_is_the_folder_it_is_converted_to(tmp_path, monkeypatch):
    folder = save(tmp_path / "m")
    monkeypatch.setattr("lightning_posttrain.models.source.cached_gguf", lambda path: {"a.gguf": folder}[path])
    assert resolve("a.gguf") == Source(str(folder))
    module = SFTModule(pretrained="a.gguf")
    module.build()
    assert len(module.tokenizer) == 260


def test_the_revision_of_an_adapter_is_its_bases(tmp_path):
    config = {"base_model_name_or_path": "org/base", "revision": "of-the-base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert resolve(str(tmp_path)).base() == Source("org/base", "of-the-base")
    assert resolve(str(tmp_path), "abc").base() == Source("org/base", "abc")


# ---- vocabularies ---------------------------------------------------------------------------------------------------


def with_added_tokens(tmp_path: Path, rows: int = 260) -> Path:
    folder = save(tmp_path / "m", vocab_size=rows)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    return folder


def row(text: str):
    from lightning_posttrain.types import Conversation, Message

    return Conversation((Message("user", "?"), Message("assistant", text)), "a", "rows.jsonl:1")


def test_added_tokens_without_embeddings_are_refused_only_where_a_row_uses_one(tmp_path):
    module = SFTModule(pretrained=str(with_added_tokens(tmp_path)))
    module.build()
    assert module.training_renderer().sequence(row("plain")).supervised.any()
    with pytest.raises(UserError, match=r"rows.jsonl:1: token '</think>' has id 261.*load\.resize_embeddings: true"):
        module.training_renderer().sequence(row("<think>so</think> yes"))


def test_resized_embeddings_are_trained_and_exported(tmp_path):
    folder = with_added_tokens(tmp_path)
    module = SFTModule(pretrained=str(folder), load=LoadSpec(resize_embeddings=True))
    sequence = module.training_renderer().sequence(row("<think>so</think> yes"))
    module.build()
    weight = module.model.get_input_embeddings().weight
    assert weight.shape[0] == 262
    old = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    assert torch.equal(weight[:260], old)
    token_logprobs(module.model, collate([(sequence,)])).sum().backward()
    assert weight.grad[260:].abs().amax(-1).gt(0).all()
    again = SFTModule(pretrained=str(folder), load=LoadSpec(resize_embeddings=True))
    again.build()
    assert torch.equal(again.model.get_input_embeddings().weight, weight)  # the same with every start
    from lightning_posttrain.callbacks.export import export_module

    export_module(module, tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").get_input_embeddings().weight.shape[0] == 262
    SFTModule(pretrained=str(tmp_path / "out")).training_renderer().sequence(row("<think>so</think> yes"))


def test_adapters_need_embeddings_that_were_resized_before(tmp_path):
    folder = with_added_tokens(tmp_path)
    with pytest.raises(UserError, match="modules_to_save"):
        SFTModule(pretrained=str(folder), load=LoadSpec(resize_embeddings=True), lora=LoraSpec()).build()
    model = AutoModelForCausalLM.from_pretrained(folder)  # as the message says
    model.resize_token_embeddings(262)
    model.save_pretrained(tmp_path / "resized")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "resized")
    module = SFTModule(
        pretrained=str(tmp_path / "resized"), lora=LoraSpec(r=2, modules_to_save=["embed_tokens", "lm_head"])
    )
    module.build()
    sequence = module.training_renderer().sequence(row("<think>so</think> yes"))
    token_logprobs(module.model, collate([(sequence,)])).sum().backward()
    grads = [p.grad for n, p in module.model.named_parameters() if "embed_tokens.modules_to_save" in n]
    assert grads[0][260:].abs().amax(-1).gt(0).all()


def test_a_new_tokenizer_for_a_pretrained_model_is_refused(tmp_path):
    module = SFTModule(pretrained=str(save(tmp_path / "m")), tokenizer=TokenizerSpec(kind="byte"))
    with pytest.raises(UserError, match=r"tokenizer\.kind=byte.*brings its own"):
        _ = module.tokenizer


def test_what_a_model_takes_is_known_before_it_is_built(tmp_path):
    folder = save(tmp_path / "m", max_position_embeddings=77)
    found = limits(Source(str(folder)), None, 260, LoadSpec())
    assert (found.vocab_size, found.positions) == (260, 77)
    found = limits(Source(str(folder)), None, 300, LoadSpec(resize_embeddings=True))
    assert found.vocab_size == 300
    assert limits(None, {**ARCHITECTURE, "vocab_size": 999}, 260, LoadSpec()).vocab_size == 999


# ---- quantised checkpoints ------------------------------------------------------------------------------------------


@pytest.fixture
def quantised(tmp_path) -> Path:
    folder = save(tmp_path / "whole")
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    model.save_pretrained(tmp_path / "q")
    byte_tokenizer().save_pretrained(tmp_path / "q")
    return tmp_path / "q"


def test_quantised_weights_are_not_trained_whole(quantised):
    with pytest.raises(UserError, match=r"holds quantised weights .*add `lora`"):
        load_policy(str(quantised), None, vocab_size=260)
    with pytest.raises(UserError, match="quantised already"):
        load_policy(str(quantised), None, vocab_size=260, load=LoadSpec(quantization="nf4"), lora=LoraSpec())


def test_adapters_on_quantised_weights_train_and_merge_into_the_full_precision_model(quantised, tmp_path, capsys):
    module = SFTModule(pretrained=str(quantised), lora=LoraSpec(r=2))
    module.build()
    assert {n for n, p in module.model.named_parameters() if p.requires_grad and "lora_" not in n} == set()
    micro = collate([Rows()[0]])
    token_logprobs(module.model, micro).sum().backward()
    assert any(p.grad.abs().max() > 0 for p in module.model.parameters() if p.grad is not None)
    from lightning_posttrain.callbacks.export import export_module

    export_module(module, tmp_path / "adapter")
    assert (
        main(["export", "--model", str(tmp_path / "adapter"), "--merge", "true", "--output", str(tmp_path / "o")]) == 2
    )
    assert "base_model_name_or_path" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(tmp_path / "whole")}))
    assert (
        main(["export", "--model", str(tmp_path / "adapter"), "--merge", "true", "--output", str(tmp_path / "o")]) == 0
    )
    assert base_model(AutoModelForCausalLM.from_pretrained(tmp_path / "o")).dtype == torch.float32
