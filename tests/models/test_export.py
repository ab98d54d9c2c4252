"""What is written is what was trained: plain transformers and PEFT load it and give the same logits."""

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from lightning_posttrain.callbacks.export import export_module
from lightning_posttrain.models.export import (
    difference,
    merge,
    probe_ids,
    probe_logits,
    random_base,
    reload,
    save_model,
)
from lightning_posttrain.models.spec import LoadSpec, LoraSpec
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.ops.logprobs import base_model
from lightning_posttrain.records import files
from lightning_posttrain.records.files import whole_folder
from lightning_posttrain.text.spec import ChatSpec
from lightning_posttrain.text.tokenizer import TokenizerSpec, byte_tokenizer
from lightning_posttrain.types import UserError

ARCHITECTURE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}
BYTES = TokenizerSpec(kind="byte")


def trained(**options):
    """A module whose trainable weights have moved away from where they began."""
    if options.get("pretrained") is None:
        options = {"architecture": ARCHITECTURE, "tokenizer": BYTES, **options}
    module = SFTModule(**options)
    module.build()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return module


def logits(model):
    return probe_logits(model, probe_ids(260))


def gap(model, other):
    return (logits(model) - logits(other)).abs().max().item()


@pytest.mark.parametrize("tied", [True, False])
def test_full_weights_come_back(tmp_path, tied):
    module = trained(architecture={**ARCHITECTURE, "tie_word_embeddings": tied})
    export_module(module, tmp_path / "model")
    assert gap(module.model, AutoModelForCausalLM.from_pretrained(tmp_path / "model")) < 1e-4
    again = SFTModule(pretrained=str(tmp_path / "model"))
    again.build()
    assert gap(module.model, again.model) < 1e-4


def test_the_configuration_is_the_standard_one_and_the_models_own_stays(tmp_path):
    module = trained(chat=ChatSpec(stop_tokens=["<|im_start|>"]))
    export_module(module, tmp_path / "model")
    text = (tmp_path / "model" / "config.json").read_text()
    assert "layout" not in text
    assert json.loads(text)["use_cache"] is True
    assert module.model.config.use_cache is False
    assert module.model.config._attn_implementation == "layout"
    stops = GenerationConfig.from_pretrained(tmp_path / "model")
    assert set(stops.eos_token_id) == module.renderer.stop_ids
    assert len(module.renderer.stop_ids) == 2
    assert stops.pad_token_id == module.tokenizer.pad_token_id
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template == module.tokenizer.chat_template
    again = SFTModule(pretrained=str(tmp_path / "model"))
    assert again.renderer.stop_ids == module.renderer.stop_ids


def test_plain_transformers_generates_with_it(tmp_path):
    module = trained()
    export_module(module, tmp_path / "model")
    talk = pipeline("text-generation", model=str(tmp_path / "model"))
    answer = talk([{"role": "user", "content": "hi"}], max_new_tokens=3, do_sample=False)
    assert answer[0]["generated_text"][-1]["role"] == "assistant"


@pytest.mark.parametrize("lora", [LoraSpec(r=4), LoraSpec(r=4, dora=True, rslora=True)])
def test_an_adapter_with_a_random_base_brings_it_along(tmp_path, lora):
    module = trained(lora=lora)
    export_module(module, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    assert gap(module.model, reload(tmp_path / "model", torch.float32)) < 1e-4
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").replace(tmp_path / "elsewhere" / "moved")
    again = SFTModule(pretrained=str(tmp_path / "elsewhere" / "moved"))
    again.build()
    assert gap(module.model, again.model) < 1e-4
    export_module(again, tmp_path / "next")  # the next stage's export brings it along, too
    assert gap(module.model, reload(tmp_path / "next", torch.float32)) < 1e-4


def test_an_adapter_on_a_folder_names_it_and_copies_nothing(tmp_path, monkeypatch):
    export_module(trained(), tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    module = trained(pretrained="base", lora=LoraSpec(r=4))
    export_module(module, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    assert not (tmp_path / "model" / "base").exists()
    monkeypatch.chdir("/")
    assert gap(module.model, reload(tmp_path / "model", torch.float32)) < 1e-4


def test_an_adapter_on_a_quantised_random_base_comes_with_the_base_in_full_precision(tmp_path):
    module = trained(lora=LoraSpec(r=4), load=LoadSpec(quantization="nf4"))
    export_module(module, tmp_path / "model")
    twin = SFTModule(architecture=ARCHITECTURE, tokenizer=BYTES, lora=LoraSpec(r=4))
    twin.build()
    state = {k: v for k, v in module.state_dict().items() if "lora_" in k}
    twin.load_state_dict(state)
    assert gap(twin.model, reload(tmp_path / "model", torch.float32)) < 1e-4
    assert gap(twin.model, module.model) > 1e-3  # or quantisation would do nothing
    before = logits(twin.model)
    merged = merge(twin.model)
    save_model(merged, module.tokenizer, module.renderer.stop_ids, tmp_path / "merged")
    assert (before - logits(reload(tmp_path / "merged", torch.float32))).abs().max() < 1e-4


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("saved", [[], ["lm_head"]])
def test_merged_weights_are_the_adapted_model(tmp_path, tied, saved):
    module = trained(
        architecture={**ARCHITECTURE, "tie_word_embeddings": tied}, lora=LoraSpec(r=4, modules_to_save=saved)
    )
    before = logits(module.model)
    save_model(merge(module.model), module.tokenizer, module.renderer.stop_ids, tmp_path / "model")
    after = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model"))
    assert (before - after).abs().max() < 1e-4
    assert not (tmp_path / "model" / "adapter_config.json").exists()


def test_a_base_that_cannot_be_made_again_is_refused():
    module = trained(lora=LoraSpec(r=4))
    with pytest.raises(UserError, match="seed 1"):
        random_base(base_model(module.model), ARCHITECTURE, vocab_size=260, load=LoadSpec(), seed=1)


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    folder = tmp_path / "model"
    with whole_folder(folder) as new:
        (new / "a").write_text("1")
    with pytest.raises(ZeroDivisionError), whole_folder(folder) as new:
        (new / "b").write_text(str(1 / 0))
    assert [p.name for p in folder.iterdir()] == ["a"]
    with whole_folder(folder) as new:
        (new / "c").write_text("3")
    assert [p.name for p in folder.iterdir()] == ["c"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("atomic", [True, False])
def test_a_folder_that_is_there_stays_there_while_it_is_replaced(atomic, tmp_path, monkeypatch):
    if not atomic:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)  # as on systems that cannot
    folder = tmp_path / "model"
    with whole_folder(folder) as new:
        (new / "a").write_text("1")
    renamed = []
    real = Path.rename
    monkeypatch.setattr(Path, "rename", lambda *names: (renamed.append(names), real(*names))[1])
    with whole_folder(folder) as new:
        (new / "b").write_text("2")
    assert [p.name for p in folder.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert len(renamed) == (0 if atomic and sys.platform == "linux" else 3)


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write in"), whole_folder(tmp_path / "file" / "model"):
        pass


def test_the_verdict_scales_with_the_logits_and_catches_nan():
    small, large = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2000.0]])
    assert difference(small, small + 1e-5, torch.float32).ok
    assert not difference(small, small + 1e-3, torch.float32).ok
    assert difference(large, large + 1e-3, torch.float32).ok
    assert difference(small, small + 1e-3, torch.bfloat16).ok
    assert not difference(small, small * torch.nan, torch.float32).ok


# ---- ids and adapters on tied weights -------------------------------------------------------------------------------


def exported(tmp_path, config, generation, tokenizer=None):
    """The config and generation config that come out where these go in."""
    folder = tmp_path / "in"
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**{**ARCHITECTURE, "vocab_size": 260, "pad_token_id": None, **config})
    )
    model.save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    module = SFTModule(pretrained=str(folder))
    module.build()
    export_module(module, tmp_path / "out")
    return [json.loads((tmp_path / "out" / f).read_text()) for f in ("config.json", "generation_config.json")]


def test_the_models_own_ids_keep_their_order(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = None
    config, generation = exported(
        tmp_path,
        {"eos_token_id": 259, "bos_token_id": 7},
        {"eos_token_id": [259, 1], "bos_token_id": 7, "do_sample": True, "temperature": 0.6},
        tokenizer,
    )
    assert generation["eos_token_id"] == [259, 1]
    assert config["eos_token_id"] == 259
    assert config["bos_token_id"] == generation["bos_token_id"] == 7
    assert generation["temperature"] == 0.6


def test_ids_that_end_nothing_are_replaced_and_missing_ones_added(tmp_path):
    config, generation = exported(tmp_path, {"eos_token_id": 2}, {"eos_token_id": 5})
    assert config["eos_token_id"] == generation["eos_token_id"] == [5, 259]
    assert config["bos_token_id"] == generation["bos_token_id"] == 257
    module = trained()
    export_module(module, tmp_path / "random")
    assert json.loads((tmp_path / "random" / "config.json").read_text())["eos_token_id"] == 259


def test_a_greedy_generation_config_with_sampling_numbers_is_written_without_them(tmp_path):
    _, generation = exported(tmp_path, {}, {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 259})
    assert "temperature" not in generation
    assert generation["eos_token_id"] == 259


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["q_proj", "embed_tokens"], ["lm_head", "embed_tokens"]])
def test_adapters_on_one_of_two_tied_layers_are_merged_into_it_alone(tmp_path, targets):
    module = trained(
        architecture={**ARCHITECTURE, "tie_word_embeddings": True}, lora=LoraSpec(r=4, target_modules=targets)
    )
    expected = logits(module.model)
    module.model = merge(module.model)
    export_module(module, tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert (logits(again) - expected).abs().max() < 1e-4
    assert not again.config.tie_word_embeddings
    assert not torch.equal(again.lm_head.weight, again.model.embed_tokens.weight)
