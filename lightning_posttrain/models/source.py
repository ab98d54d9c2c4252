"""Where a pretrained model is read from: one answer for its tokenizer, its configs and its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..types import UserError
from .gguf import cached_gguf, is_gguf

ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class Source:
    """A folder or a hub repository with a model or an adapter.

    Args:
        name: folder or hub id.
        revision: of a hub repository; None = its main branch.
    """

    name: str
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        return Path(self.name).is_dir()

    @property
    def is_adapter(self) -> bool:
        """Whether it is a folder that holds an adapter rather than whole weights."""
        return (Path(self.name) / ADAPTER_CONFIG).is_file()

    @property
    def options(self) -> dict[str, Any]:
        """What every ``from_pretrained`` takes besides the name. Code that comes with a model is never run."""
        revision = {} if self.revision is None else {"revision": self.revision}
        return {"trust_remote_code": False, **revision}

    def base(self) -> Source:
        """The model under an adapter; one written beside its adapter is found wherever the folder was moved.

        Raises:
            UserError: the adapter's config is broken or names no base.
        """
        path = Path(self.name) / ADAPTER_CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            name, revision = config.get("base_model_name_or_path"), config.get("revision")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from error
        if not isinstance(name, str) or not name:
            raise UserError(
                f"{path}: base_model_name_or_path={name!r} names no model; write the folder or hub id of its base there"
            )
        beside = Path(self.name) / name
        if not Path(name).is_dir() and beside.is_dir():
            return Source(str(beside))
        return Source(name, None if Path(name).is_dir() else self.revision or revision)

    def lineage(self) -> Iterator[Source]:
        """Itself, then the base where it is an adapter."""
        yield self
        if self.is_adapter:
            yield self.base()

    def tokenizer(self) -> Source:
        """Where the tokenizer is: an adapter's folder may leave it to the base."""
        own = any((Path(self.name) / file).is_file() for file in TOKENIZER_FILES)
        return self.base() if self.is_adapter and not own else self


def resolve(pretrained: str | None, revision: str | None = None) -> Source | None:
    """Where ``model.pretrained`` is; None for random weights. A GGUF file is converted to a folder at its first use.

    Raises:
        UserError: a revision of what has none, or a GGUF file that cannot be converted.
    """
    if pretrained is None:
        if revision is not None:
            raise UserError(f"load.revision={revision!r} is of a hub model; give `pretrained`, or leave it out")
        return None
    source = Source(str(cached_gguf(pretrained)) if is_gguf(pretrained) else pretrained, revision)
    if revision is not None and source.is_folder and not (source.is_adapter and not source.base().is_folder):
        raise UserError(
            f"load.revision={revision!r} is of a hub model, but pretrained={pretrained!r} is local; leave it out"
        )
    return source
