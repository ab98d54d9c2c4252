"""A process that launches a swarm with the stand-in program, so that a test can kill it: FOLDER BASE RECORD."""

import sys
from pathlib import Path

from lightning_posttrain.commands.mix_jobs import LaunchSpec, launch_swarm

if __name__ == "__main__":
    folder, base, record = sys.argv[1:]
    program = [sys.executable, str(Path(__file__).with_name("mix_program.py")), record]
    raise SystemExit(launch_swarm(Path(folder), LaunchSpec([base], at_a_time=2), program))
