"""Published weights and tokenizers for these tests; what is missing skips a test and says how to get it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .fetch import TOKENIZERS, real_dir

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in this folder has the mark `real`, by which `make test` leaves it out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real)


def _material(name: str, needed: str) -> Path:
    folder = real_dir() / name
    if not (folder / needed).is_file():
        pytest.skip(f"{folder} is not there; `make test-real` (or `python -m tests.real.fetch`) fetches it once")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of SmolLM2-135M-Instruct in Hugging Face format: weights, tokenizer and chat template."""
    return _material("smollm2", "model.safetensors")


@pytest.fixture(scope="session")
def real_tokenizer() -> Callable[[str], PreTrainedTokenizerBase]:
    """Loads a published tokenizer with its chat template by name, once a session: a test must not change what it gets.

    Names are those of `fetch.TOKENIZERS`, and ``smollm2``. ``tokenizer.name_or_path`` is its folder.
    """

    @cache
    def load(name: str) -> PreTrainedTokenizerBase:
        assert name in TOKENIZERS or name == "smollm2", name
        folder = _material(name if name == "smollm2" else f"tokenizers/{name}", "tokenizer.json")
        return AutoTokenizer.from_pretrained(folder)

    return load
