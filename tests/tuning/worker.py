"""A process that works on a study with the stand-in program, so that a test can kill it: FOLDER URL RECORD."""

import subprocess
import sys
from pathlib import Path

from lightning_posttrain.commands.processes import passing_on
from lightning_posttrain.commands.tune_trial import TrialProcess
from lightning_posttrain.tuning import results
from lightning_posttrain.tuning.loop import Loop
from lightning_posttrain.tuning.overrides import words
from lightning_posttrain.tuning.space import Dimension
from tests.tuning.fakes import open_study, settings

SPACE = {
    "model.optimizer.lr": Dimension("categorical", [1e-5, 2e-5, 5e-5]),
    "trainer.max_epochs": Dimension("categorical", [1, 3]),
    "data.examples_per_step": Dimension("categorical", [8, 16]),
}


def main(folder: Path, url: str, record: str) -> int:
    results.write_figures = lambda *_: []
    children: list[subprocess.Popen[bytes]] = []
    with passing_on(children) as received:
        study = open_study(settings(folder, space=SPACE, storage=url or None))
        program = [sys.executable, str(Path(__file__).with_name("program.py")), record]
        run = TrialProcess(lambda job: ["fit", *words(job.params, {})], children, received, program)
        Loop(study, run, received).go()
        return 128 + received[0] if received else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:]))
