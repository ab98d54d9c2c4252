"""Without a terminal, progress is lines in the log."""

import re

import yaml

from lightning_posttrain.cli import main


def test_a_log_file_gets_lines_and_silence_on_request(tiny_config, tmp_path, capsys):
    value = yaml.safe_load(tiny_config.read_text())
    assert main(["fit", "-c", str(tiny_config)]) == 0
    assert "loss" not in capsys.readouterr().out  # the fixture turns progress off
    del value["trainer"]["enable_progress_bar"]
    tiny_config.write_text(yaml.safe_dump(value))
    assert main(["fit", "-c", str(tiny_config), "--run.dir", str(tmp_path / "second")]) == 0
    lines = re.findall(r"step (\d)/3  loss \d+\.\d+  \d+ s, (\d+) s left", capsys.readouterr().out)
    assert lines[0][0] == "1"
    assert lines[-1] == ("3", "0")
