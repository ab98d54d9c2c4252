"""`prepare banking77|pubmedqa|tatqa|nl2sql|all`: the data of the enterprise tasks, from published files or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..types import UserError

if TYPE_CHECKING:
    from ..tasks.enterprise.prepare import EnterpriseSpec


def prepare_banking77(
    *,
    source: str,
    output_dir: str = "data/enterprise",
    split: Literal["stratified", "seed", "seed_v1", "official"] = "stratified",
    seed: int = 0,
    val_share: float = 0.1,
    overwrite: bool = False,
) -> None:
    """Write the data of the task banking77: train, val and test rows, labels.json, stats.json and manifest.json.

    Args:
        source: folder with train.csv, test.csv and categories.json; hub; or hub:ORG/NAME.
        output_dir: the files go to its folder banking77.
        split: stratified = val drawn from train; seed = the last 100 of train; seed_v1 and official = no val.
        seed: of the draw.
        val_share: share of train that becomes val, with stratified.
        overwrite: replace the data that is there.
    """
    from ..tasks.enterprise.prepare import EnterpriseSpec

    spec = EnterpriseSpec(source, split, seed, val_share)
    _prepare({"banking77": spec}, output_dir, overwrite)


def prepare_pubmedqa(
    *,
    source: str,
    output_dir: str = "data/enterprise",
    split: Literal["stratified", "seed", "seed_v1", "official"] = "stratified",
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
    test_ids: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the data of the task pubmedqa: train, val and test rows, stats.json and manifest.json.

    Args:
        source: folder with ori_pqal.json; hub; or hub:ORG/NAME.
        output_dir: the files go to its folder pubmedqa.
        split: stratified = all drawn; seed = 800, 100 and 100 in file order; seed_v1 = 900 and 100; official = the 500
            published test ids, val drawn from the others.
        seed: of the draw.
        val_share: share of the rows drawn from that becomes val.
        test_share: the same for test, with stratified.
        test_ids: test_ground_truth.json for official, where it is not in the source.
        overwrite: replace the data that is there.
    """
    from ..tasks.enterprise.prepare import EnterpriseSpec

    spec = EnterpriseSpec(source, split, seed, val_share, test_share, test_ids=test_ids)
    _prepare({"pubmedqa": spec}, output_dir, overwrite)


def prepare_tatqa(
    *,
    source: str,
    output_dir: str = "data/enterprise",
    split: Literal["stratified", "seed", "seed_v1", "official"] = "stratified",
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
    test_only: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the data of the task tatqa: train, val and test questions, stats.json and manifest.json.

    Args:
        source: folder with tatqa_dataset_{train,dev,test_gold}.json or some of them; hub; or hub:ORG/NAME.
        output_dir: the files go to its folder tatqa.
        split: stratified = val drawn from train by documents, or all parts where there is but one; seed = the last 100
            of train are val, dev is test, answers 0 are left out; seed_v1 = the same without val; official = train, dev
            and test_gold.
        seed: of the draw.
        val_share: share of the questions drawn from that becomes val.
        test_share: the same for test, where there is no part for it.
        test_only: write only the test part, for which seed and seed_v1 need dev alone, and official test_gold.
        overwrite: replace the data that is there.
    """
    from ..tasks.enterprise.prepare import EnterpriseSpec

    spec = EnterpriseSpec(source, split, seed, val_share, test_share, test_only=test_only)
    _prepare({"tatqa": spec}, output_dir, overwrite)


def prepare_nl2sql(
    *,
    source: str,
    output_dir: str = "data/enterprise",
    split: Literal["stratified", "seed", "seed_v1", "official", "query"] = "stratified",
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
    only: list[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the data of the task nl2sql: train, val and test rows, databases, stats.json and manifest.json.

    Args:
        source: folder of text2sql-data (NAME.json, NAME-schema.csv, NAME-db.sqlite); a file of SkyRL-SQL's rows; hub;
            or hub:ORG/NAME.
        output_dir: the files go to its folder nl2sql.
        split: stratified = drawn by query patterns; seed = all but 150, 50 and 100 in file order; seed_v1 = 90% and
            10%; official and query = text2sql-data's question and query split.
        seed: of the draw.
        val_share: share of the rows that becomes val, with stratified.
        test_share: the same for test.
        only: names of text2sql-data's data sets to take; null = all.
        overwrite: replace the data that is there.
    """
    from ..tasks.enterprise.prepare import EnterpriseSpec

    spec = EnterpriseSpec(source, split, seed, val_share, test_share, only=only)
    _prepare({"nl2sql": spec}, output_dir, overwrite)


def prepare_all(
    *,
    source: str,
    output_dir: str = "data/enterprise",
    split: Literal["stratified", "seed", "seed_v1", "official"] = "stratified",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the data of banking77, pubmedqa, tatqa and nl2sql; all of it is read before anything is written.

    Args:
        source: folder with the folders banking77, pubmedqa, tatqa and text2sql; or hub.
        output_dir: each task gets a folder in it.
        split: the same for all.
        seed: of the draws.
        overwrite: replace the data that is there.
    """
    from ..tasks.enterprise.prepare import TASKS, EnterpriseSpec

    if source.startswith("hub:"):
        raise UserError(f"source={source}: one data set cannot be all four; write hub, or prepare the tasks one by one")
    _prepare({task: EnterpriseSpec(source, split, seed) for task in TASKS}, output_dir, overwrite)


def _prepare(specs: dict[str, EnterpriseSpec], output_dir: str, overwrite: bool) -> None:
    """Read everything, then write a folder for each task, each whole or not at all."""
    from ..records.files import whole_folder
    from ..tasks.enterprise.prepare import prepared

    folders = {task: Path(output_dir) / task for task in specs}
    for folder in folders.values():
        _check_free(folder, overwrite)
    made = {task: prepared(task, spec) for task, spec in specs.items()}
    for task, files in made.items():
        with whole_folder(folders[task]) as temporary:
            files.write(temporary)
        counts = ", ".join(f"{part} {rows}" for part, rows in files.rows.items())
        print(f"{folders[task]}: {counts} rows" + (f" ({files.note})" if files.note else ""))


def _check_free(folder: Path, overwrite: bool) -> None:
    """Raises UserError where something is in the way and may not be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not overwrite:
        raise UserError(f"{folder}: exists; replace with --overwrite true, or name another --output_dir")
    if not (folder / "manifest.json").is_file():
        raise UserError(f"{folder}: holds something else than prepared data; name another --output_dir")
