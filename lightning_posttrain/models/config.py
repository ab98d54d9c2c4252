"""The config a model is built from, with what is set in it, and the limits it puts on rows.

A field that is set takes effect or is refused: configs are made by their classes, which put fields of older names where
they belong now and check the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from transformers import AutoConfig, GenerationConfig

from ..ops.positions import max_positions, rope_settings
from ..types import UserError
from .errors import one_line, place, user_errors
from .olmo3 import model_config, olmo3, padded
from .source import Source
from .spec import LoadSpec

SET_ELSEWHERE = {
    "attention_dropout": "packed batches have none",
    "dtype": "trainer.precision says it",
    "torch_dtype": "trainer.precision says it",
    "model_type": "the weights are of one type",
    "quantization_config": "load.quantization says it",
    "use_cache": "training has none",
}
"""Fields of a config that nobody would read, and why."""
OLDER_ROPE = ("rope_theta", "rope_scaling")
"""Names under which older configs keep what is in ``rope_parameters`` now."""


@dataclass(frozen=True)
class Limits:
    """What a model can take.

    Args:
        vocab_size: its embeddings.
        positions: most tokens of a row.
    """

    vocab_size: int | None = None
    positions: int | None = None


def limits(source: Source | None, architecture: Mapping[str, Any] | None, vocab_size: int, load: LoadSpec) -> Limits:
    """What the model will take, known before it is built; nothing where there is no model to read.

    Args:
        source, architecture, load: as for `load.load_policy`.
        vocab_size: of the tokenizer.

    Raises:
        UserError: the config is broken, or a field that is set in it.
    """
    try:
        if source is not None:
            config = pretrained_config([*source.lineage()][-1], load)
        elif architecture is not None:
            config = architecture_config(architecture, vocab_size, load)
        else:
            return Limits()
    except UserError as error:
        if isinstance(error.__cause__, OSError):  # none to be found: whoever builds the model says so
            return Limits()
        raise
    rows = int(config.get_text_config().vocab_size)
    return Limits(max(rows, vocab_size) if load.resize_embeddings else rows, max_positions(config))


def generation_config(source: Source | None) -> GenerationConfig | None:
    """The model's generation config, whose eos ids end an answer too, where it or its base has one."""
    for model in source.lineage() if source is not None else ():
        try:
            return GenerationConfig.from_pretrained(model.name, **_without_code(model.options))
        except OSError:
            continue
        except (ValueError, TypeError) as error:
            raise UserError(f"pretrained={model.name!r}: generation_config.json: {one_line(error)}") from error
    return None


def _without_code(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "trust_remote_code"}


def pretrained_config(source: Source, load: LoadSpec) -> Any:
    """The config of whole weights, as ``load.overrides`` changes it.

    Raises:
        UserError: there is none, it is broken, or an override would not take effect.
    """
    try:
        config = AutoConfig.from_pretrained(source.name, **source.options)
    except Exception as error:  # the hub client, the file system and the config classes each raise their own kinds
        raise UserError(
            f"pretrained={source.name!r}: no config could be read from {place(source)}: {one_line(error)} "
            "Give a folder in Hugging Face format, or `pretrained: null` with an `architecture`."
        ) from error
    return overridden(config, load)


def architecture_fields(architecture: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """All config fields of an architecture, those of a named model looked up, with ``model_type``.

    Raises:
        UserError: there is no model of that name.
    """
    fields = {"vocab_size": vocab_size, **architecture}
    name = fields.pop("name", None)
    if name is None:
        return fields
    return {**olmo3(name, fields["vocab_size"]), **fields, "vocab_size": padded(fields["vocab_size"])}


def architecture_config(architecture: Mapping[str, Any], vocab_size: int, load: LoadSpec) -> Any:
    """The config of random weights.

    Raises:
        UserError: a field that the type does not have, or a value it cannot be.
    """
    fields = architecture_fields(architecture, vocab_size)
    config, kind = model_config(fields), str(fields["model_type"])
    known = known_fields(AutoConfig.for_model(kind)) | {"head_dim"}
    for name, value in fields.items():
        if name not in known:
            raise UserError(f"architecture: {kind} has no field {name!r}{_near(name, known)}; it would do nothing")
        if name in ("attention_dropout", "use_cache") and value:
            raise UserError(f"architecture.{name}={value!r} would do nothing: {SET_ELSEWHERE[name]}; leave it out")
        if name in OLDER_ROPE:
            asked = {"rope_theta": value} if name == "rope_theta" else dict(value or {})
            if not all(_holds(rope, asked) for rope in rope_settings(config)):
                raise UserError(
                    f"architecture.{name}={value!r}: write it into rope_parameters, as {kind} has it: "
                    f"{dict(config.rope_parameters or {})}"
                )
    return overridden(config, load)


def known_fields(config: Any) -> set[str]:
    """Names of the fields that a config of this class can be given."""
    known = {"model_type", *config.to_dict(), *config.attribute_map}
    return known | set(OLDER_ROPE) if "rope_parameters" in known else known


def overridden(config: Any, load: LoadSpec) -> Any:
    """``config`` made anew with ``load.overrides`` in its text config, and without what packed training has none of.

    Raises:
        UserError: naming the override that would not take effect, and the name that would.
    """
    text = config.get_text_config()
    if load.overrides:
        given = _rope_moved(_checked_names(load.overrides, text), text)
        before = text.to_dict()
        own = {text.attribute_map.get(name, name): value for name, value in given.items()}
        names = {name: _merged(before.get(name), value) for name, value in own.items()}
        made = user_errors("load.overrides", lambda: type(text).from_dict({**before, **names}))
        for name, value in names.items():
            if not _holds(getattr(made, name, None), value):
                raise UserError(f"load.overrides.{name}={value!r}: {type(text).__name__} keeps {getattr(made, name)!r}")
        config = _with_text(config, text, made)
    for name, value in {"attention_dropout": 0.0, "use_cache": False}.items():
        setattr(config.get_text_config(), name, value)
    return config


def _checked_names(overrides: Mapping[str, Any], text: Any) -> dict[str, Any]:
    known = known_fields(text)
    for name, value in overrides.items():
        if name in SET_ELSEWHERE:
            raise UserError(f"load.overrides.{name}={value!r} would do nothing: {SET_ELSEWHERE[name]}; leave it out")
        if name not in known:
            raise UserError(
                f"load.overrides.{name}={value!r} would do nothing: {type(text).__name__} has no such field"
                f"{_near(name, known)}"
            )
    return dict(overrides)


def _rope_moved(given: dict[str, Any], text: Any) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling`` inside ``rope_parameters``, where transformers reads them."""
    older = {name: given.pop(name) for name in OLDER_ROPE if name in given}
    if not older:
        return given
    ropes = list(rope_settings(text))
    if "rope_parameters" in given or len(ropes) != 1 or ropes[0] is not text.rope_parameters:
        kept = dict(text.rope_parameters or {})
        raise UserError(
            f"load.overrides: write {' and '.join(older)} into rope_parameters, as {type(text).__name__} has it: {kept}"
        )
    base = {"rope_theta": ropes[0].get("rope_theta")}
    scaling = older.get("rope_scaling", dict(ropes[0])) or {"rope_type": "default"}
    if not isinstance(scaling, Mapping):
        raise UserError(
            f"load.overrides.rope_scaling={scaling!r}: give a dict such as {{rope_type: linear, factor: 2}}"
        )
    named = {"rope_type" if name == "type" else name: value for name, value in scaling.items()}
    theta = {"rope_theta": older["rope_theta"]} if "rope_theta" in older else {}
    return {**given, "rope_parameters": {**base, **named, **theta}}


def _merged(before: Any, value: Any) -> Any:
    if not isinstance(before, Mapping) or not isinstance(value, Mapping):
        return value
    return {**before, **{name: _merged(before.get(name), item) for name, item in value.items()}}


def _holds(made: Any, asked: Any) -> bool:
    if isinstance(asked, Mapping) and isinstance(made, Mapping):
        return all(_holds(made.get(name), value) for name, value in asked.items())
    return bool(made == asked)


def _with_text(config: Any, text: Any, made: Any) -> Any:
    if text is config:
        return made
    for name in config.sub_configs:
        if getattr(config, name, None) is text:
            setattr(config, name, made)
    return config


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
