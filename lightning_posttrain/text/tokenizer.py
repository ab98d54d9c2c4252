"""Tokenizers: loading one from the hub or a folder, training a small byte-level BPE, or plain bytes.

Both home-made ones carry the ChatML format and four special tokens that mean four different things.
Nothing here changes a model: vocabularies are never resized.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..types import UserError
from .templates import CHATML

PAD, BOS, TURN, END = "<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (PAD, BOS, TURN, END)


@dataclass(frozen=True)
class TokenizerSpec:
    """Which tokenizer a run uses: an existing one (``source``) or one made from scratch (``kind``), never both."""

    source: str | None = None
    """Local folder or hub id of an existing tokenizer."""
    revision: str | None = None
    """Git revision of a hub tokenizer; that of the model's own is ``load.revision``."""
    kind: Literal["bpe", "byte"] | None = None
    """``bpe`` trains a byte-level BPE on ``corpus``; ``byte`` has one token per byte and needs no training."""
    corpus: list[str] = field(default_factory=list)
    """Files a BPE is trained on: .jsonl and .csv (every string in them) or text (line by line)."""
    vocab_size: int = 8192
    """Tokens of a trained BPE, special ones included."""
    digits: int = 1
    """Most digits in one token of a trained BPE: 1 is the most general, 2 or 3 make numbers shorter."""
    whole: list[str] = field(default_factory=list)
    """Texts that are one token each in a trained BPE, such as tags; not special: they are text like any other."""
    pad_token: str | None = None
    """Padding token of an existing tokenizer, where its own also ends a text. Must be in its vocabulary."""
    cache_dir: str = ".cache/tokenizers"
    """Trained tokenizers are kept here under a hash of their corpus and settings."""


def load_tokenizer(
    source: str | Path, pad_token: str | None = None, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer in a local folder or on the hub. Code that comes with it is never run.

    Raises:
        UserError: there is none, it cannot be read, or ``pad_token`` is not in its vocabulary.
    """
    local = Path(source).exists()
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    if revision is not None:
        options["revision"] = revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), **options)
    except Exception as error:  # the hub client, the file system and the parsers each raise their own kinds
        what = "the folder" if local else "the hub (there is no such local folder)"
        raise UserError(
            f"no tokenizer could be loaded from {str(source)!r} in {what}: {_first_line(error)} "
            "Give a folder with tokenizer.json and tokenizer_config.json, a hub id that can be reached, "
            "or make one with `kind: byte` or `kind: bpe`."
        ) from error
    if pad_token is not None:
        _token_id(tokenizer, pad_token, "pad_token")
        tokenizer.pad_token = pad_token
    return tokenizer


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per UTF-8 byte (id = byte value) and the special tokens: 260 ids, and every text round-trips."""
    vocab = {character: byte for byte, character in bytes_to_unicode().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    return _finish(tokenizer)


def train_bpe(
    texts: Iterable[str], vocab_size: int, digits: int = 1, whole: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``texts``; the same texts give the same tokenizer. ``whole``: see `TokenizerSpec`.

    A token never holds more than ``digits`` digits and never mixes digits with anything else, so a number is cut in
    the same way wherever it stands.
    A corpus too small for ``vocab_size`` gives fewer tokens.

    Raises:
        UserError: ``vocab_size`` is below 260 (bytes and special tokens) and ``whole``, ``digits`` below 1, a ``whole``
            text is empty, named twice or not decoded as it is written, or there is no text.
    """
    if digits < 1:
        raise UserError(f"digits is {digits}: a token holds at least 1")
    smallest = 256 + len(SPECIAL_TOKENS) + len(whole)
    if vocab_size < smallest:
        raise UserError(
            f"vocab_size is {vocab_size}, but 256 bytes, {len(SPECIAL_TOKENS)} special tokens and {len(whole)} whole "
            f"texts need {smallest}."
        )
    if "" in whole or len(set(whole)) < len(whole):
        raise UserError(f"whole is {list(whole)}: name different texts, none empty.")
    characters = 0

    def counted() -> Iterator[str]:
        nonlocal characters
        for text in texts:
            characters += len(text)
            yield text

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"\p{{N}}{{1,{digits}}}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(whole),
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted(), trainer)
    if not characters:
        raise UserError("the corpus to train a tokenizer on holds no text. Name files with text in `corpus`.")
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in whole])
    finished = _finish(tokenizer)
    for text in whole:  # the decoder takes accented letters for the signs that stand for bytes
        if (shown := finished.decode([finished.get_vocab()[text]])) != text:
            raise UserError(f"whole: {text!r} would be decoded as {shown!r}; write it without accented letters.")
    return finished


def _finish(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Decoder, BOS, roles of the special tokens and chat format."""
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        extra_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHATML
    return fast


def build_tokenizer(spec: TokenizerSpec) -> PreTrainedTokenizerBase:
    """The tokenizer ``spec`` asks for; a trained one comes from the cache when corpus and settings are unchanged.

    Raises:
        UserError: the spec contradicts itself, a corpus file is missing or broken, or loading fails.
    """
    if (spec.source is None) == (spec.kind is None):
        raise UserError(
            f"tokenizer: source is {spec.source!r} and kind is {spec.kind!r}. Give one: `source` for an existing "
            "tokenizer, or `kind: bpe` or `kind: byte` for a new one."
        )
    if spec.whole and spec.kind != "bpe":
        raise UserError(f"tokenizer: whole {spec.whole} needs `kind: bpe`; other tokenizers have the tokens they have")
    if spec.source is not None:
        return load_tokenizer(spec.source, spec.pad_token, spec.revision)
    if spec.revision is not None:
        raise UserError(f"tokenizer: revision {spec.revision!r} needs a `source` on the hub")
    if spec.pad_token is not None:
        raise UserError(f"tokenizer: pad_token {spec.pad_token!r} needs a `source`; a new tokenizer pads with {PAD}.")
    if spec.kind == "byte":
        return byte_tokenizer()
    if not spec.corpus:
        raise UserError("tokenizer: `kind: bpe` needs files to train on. Name them in `corpus`.")
    parts = [
        tokenizers.__version__,
        str(spec.vocab_size),
        str(spec.digits),
        CHATML,
        *SPECIAL_TOKENS,
        *map(_file_hash, spec.corpus),
        *([json.dumps(spec.whole)] if spec.whole else []),
    ]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    folder = Path(spec.cache_dir) / f"bpe-{spec.vocab_size}-{key}"
    if not folder.is_dir():
        texts = _corpus_texts(spec.corpus)
        _save_atomically(train_bpe(texts, spec.vocab_size, spec.digits, spec.whole), folder)
    return load_tokenizer(folder)


def _save_atomically(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        tokenizer.save_pretrained(temporary)
        temporary.replace(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first with the same content
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _file_hash(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"tokenizer corpus {path!r} cannot be read: {error.strerror}.") from error


def _corpus_texts(paths: list[str]) -> Iterator[str]:
    """Every string of the files, line by line or row by row, so that a corpus need not fit in memory."""
    for path in paths:
        number = 0
        try:
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                rows: Iterable[Any] = csv.DictReader(file) if path.endswith(".csv") else file
                for row in rows:
                    number += 1
                    if path.endswith(".jsonl"):
                        yield from _strings(json.loads(row) if row.strip() else None)
                    else:
                        yield from _strings(row)
        except (ValueError, RecursionError, csv.Error) as error:
            raise UserError(f"tokenizer corpus {path}: line {number}: {_first_line(error)}") from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def stop_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: Any = None, extra: Iterable[int | str] = ()
) -> frozenset[int]:
    """Token ids that end an answer: the tokenizer's eos, the model's own, and ``extra``.

    Args:
        tokenizer: any tokenizer.
        generation_config: a model's GenerationConfig, whose ``eos_token_id`` may be an id or several.
        extra: further ids, or tokens as text.

    Raises:
        UserError: there is none at all, or an extra token is not in the vocabulary.
    """
    found = {_token_id(tokenizer, t, "stop token") if isinstance(t, str) else int(t) for t in extra}
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    configured = getattr(generation_config, "eos_token_id", None)
    if configured is not None:
        found.update([configured] if isinstance(configured, int) else configured)
    if not found:
        raise UserError("no token ends an answer: the tokenizer has no eos token. Name one in the extra stop tokens.")
    return frozenset(found)


def vocabulary(tokenizer: PreTrainedTokenizerBase, added: bool = True) -> int:
    """How many embeddings the tokens need, with those that were ``added`` to the trained vocabulary or without."""
    trained = int(tokenizer.vocab_size)
    return max(trained, len(tokenizer), *(i + 1 for i in tokenizer.added_tokens_decoder)) if added else trained


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of everything that decides which ids a text gets (and of the chat template)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        for call_state in ("truncation", "padding"):  # left over from the last call, not part of the tokenizer
            state.pop(call_state, None)
    else:
        state = {"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab()}
    parts = [state, {k: str(v) for k, v in tokenizer.special_tokens_map.items()}, tokenizer.chat_template]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str, what: str) -> int:
    vocabulary = tokenizer.get_vocab()
    if token not in vocabulary:
        near = sorted(t for t in vocabulary if t.startswith("<"))[:8]
        raise UserError(f"{what} {token!r} is not in the tokenizer's vocabulary; tokens like it: {near}.")
    return vocabulary[token]


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:200] + "..." if len(text) > 200 else text) or type(error).__name__
