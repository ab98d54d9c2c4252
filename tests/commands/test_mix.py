"""`mix`: the chain from shards to a proposal, and the launching of a swarm through failures and kills."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml

from lightning_posttrain.cli import main
from lightning_posttrain.commands.mix_jobs import LaunchSpec, launch_swarm, words_of
from lightning_posttrain.commands.mix_launch import check_configs
from lightning_posttrain.commands.mix_swarm import Claim, Variant, read_variants, state_of
from lightning_posttrain.commands.mix_worker import Worker
from lightning_posttrain.mixing.tree import flatten_mix
from lightning_posttrain.records.files import read_json
from lightning_posttrain.types import UserError
from tests.commands.conftest import write_config
from tests.conftest import HANGS

SIZES = {"code": 300, "wiki": 500, "web:law": 120, "web:art": 80}
HERE = Path(__file__).parent


@pytest.fixture
def shards(tmp_path):
    """A configuration for `mix priors`."""
    for leaf, tokens in SIZES.items():
        np.save(tmp_path / f"{leaf.replace(':', '_')}.npy", np.zeros(tokens, np.uint16))
    web = {"topics": {"law": str(tmp_path / "web_law.npy"), "art": str(tmp_path / "web_art.npy")}}
    sources = {"code": str(tmp_path / "code.npy"), "wiki": [str(tmp_path / "wiki.npy")], "web": web}
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"sources": sources, "cache": str(tmp_path / "cache.json")}))
    return tmp_path / "sources.yaml"


@pytest.fixture
def swarm(tmp_path):
    """A function that makes a swarm of so many variants and gives its folder and a base configuration."""

    def make(variants: int) -> tuple[Path, Path]:
        priors = {"priors": {"token_counts": SIZES}, "name": "proxy", "group": "g", "swarm": {"variants": variants}}
        (tmp_path / "swarm.yaml").write_text(yaml.safe_dump(priors))
        assert (
            main(["mix", "generate", "-c", str(tmp_path / "swarm.yaml"), "--output-dir", str(tmp_path / "swarm")]) == 0
        )
        (tmp_path / "base.yaml").write_text(
            yaml.safe_dump({"data": {"init_args": {"sources": dict.fromkeys(SIZES, "x")}}})
        )
        return tmp_path / "swarm", tmp_path / "base.yaml"

    return make


def program(tmp_path):
    return [sys.executable, str(HERE / "mix_program.py"), str(tmp_path / "record.jsonl")]


def record(tmp_path):
    path = tmp_path / "record.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def states(folder):
    return [state_of(variant)["state"] for variant in read_variants(folder)]


def test_priors_counts_tokens_and_looks_them_up(shards, tmp_path, capsys):
    out = tmp_path / "priors.yaml"
    assert main(["mix", "priors", "-c", str(shards), "--output-file", str(out)]) == 0
    assert "1,000 tokens in 4 leaves; 0 shards" in capsys.readouterr().out
    priors = yaml.safe_load(out.read_text())["priors"]
    assert priors["token_counts"] == SIZES
    assert priors["relative_sizes"]["wiki"] == 0.5
    assert main(["mix", "priors", "-c", str(shards)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["priors"] == priors


def test_generate_writes_the_same_bytes_and_replaces_nothing(swarm, tmp_path, capsys):
    folder, _ = swarm(4)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == [*(f"proxy-g-000{i}.yaml" for i in range(4)), "swarm.json"]
    (folder / "proxy-g-0002.yaml").unlink()  # as after a kill
    swarm(4)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for index in range(4):
        mix = yaml.safe_load(before[f"proxy-g-000{index}.yaml"])["data"]["init_args"]["mix"]
        weights = {leaf: part.weight for leaf, part in flatten_mix(mix).items()}
        kept = json.loads(before["swarm.json"])["variants"][index]["mix"]
        assert {leaf: weight for leaf, weight in kept.items() if weight} == weights
    words = ["mix", "generate", "-c", str(tmp_path / "swarm.yaml"), "--output-dir", str(folder), "--swarm.seed=7"]
    assert main(words) == 2
    assert "is of another swarm" in capsys.readouterr().err
    assert main([*words, "--swarm.variants=2", "--overwrite"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["proxy-g-0000.yaml", "proxy-g-0001.yaml", "swarm.json"]
    (folder / "runs").mkdir()
    assert main([*words, "--swarm.seed=8", "--overwrite"]) == 2
    assert "holds runs of other variants" in capsys.readouterr().err


def test_generate_takes_pins_and_existing_swarms(swarm, tmp_path):
    folder, _ = swarm(6)
    words = [
        "mix",
        "generate",
        "-c",
        str(tmp_path / "swarm.yaml"),
        "--output-dir",
        str(tmp_path / "more"),
        "--existing",
    ]
    assert main([*words, str(folder), '--pins={"web": {"weight": 0.5, "topics": {"law": 0.5}}}']) == 0
    mixes = [entry["mix"] for entry in read_json(tmp_path / "more" / "swarm.json")["variants"]]
    assert len(mixes) == 6
    assert all(mix["web:law"] == pytest.approx(0.25) == mix["web:art"] for mix in mixes)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--name=a/b"], "name='a/b'"),
        (["--priors.token_counts={}"], "priors: nothing is there"),
        (["--existing=[nowhere]"], "nowhere"),
        (['--pins={"nope": 0.5}'], "pins: unknown nope"),
        (["--swarm.min_strength=-1"], "strengths"),
    ],
)
def test_generate_refuses_by_name(swarm, tmp_path, capsys, options, told):
    swarm(1)
    assert (
        main(["mix", "generate", "-c", str(tmp_path / "swarm.yaml"), f"--output-dir={tmp_path / 'x'}", *options]) == 2
    )
    assert told in capsys.readouterr().err


def test_launch_runs_skips_and_tells(swarm, tmp_path, capsys):
    folder, base = swarm(3)
    failing = read_variants(folder)[1]
    failing.run.mkdir(parents=True)
    (failing.run / "FAIL").write_text("")
    spec = LaunchSpec([str(base)], cluster="debug", at_a_time=2, devices=["5", "7"])
    assert launch_swarm(folder, spec, program(tmp_path)) == 1
    assert states(folder) == ["finished", "failed", "finished"]
    said = capsys.readouterr()
    assert "failed with exit code 3" in said.err
    assert "the planted failure" in said.err
    assert {entry["device"] for entry in record(tmp_path)} <= {"5", "7"}
    launch = read_json(folder / "launch.json")
    assert [entry["state"] for entry in launch["variants"]] == ["finished", "failed", "finished"]
    assert {"timestamp", "group", "git_commit", "git_branch"} <= set(launch["metadata"])
    assert launch["config"]["swarm"]["swarm"]["variants"] == 3

    (failing.run / "FAIL").unlink()
    before = len(record(tmp_path))
    assert launch_swarm(folder, spec, program(tmp_path)) == 0
    assert {entry["run"] for entry in record(tmp_path)[before:]} == {failing.name}
    assert launch_swarm(folder, spec, program(tmp_path)) == 0
    assert "3 of 3 variants are finished already" in capsys.readouterr().out
    assert main(["mix", "status", str(folder)]) == 0
    assert "3 finished" in capsys.readouterr().out

    base.write_text(base.read_text() + "seed_everything: 3\n")
    with pytest.raises(UserError, match="3 runs were made with another content of"):
        launch_swarm(folder, spec, program(tmp_path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"at_a_time": 0}, "at_a_time=0"),
        ({"at_a_time": 3, "devices": ["0", "1"]}, "there are 2 devices"),
        ({"cluster": "slurm"}, "cluster=slurm: submitit cannot submit"),
        ({"executor": {"nodes": 2}}, "cannot submit"),
    ],
)
def test_launch_refuses_by_name(swarm, tmp_path, change, told):
    folder, base = swarm(1)
    with pytest.raises(UserError) as error:
        launch_swarm(folder, LaunchSpec([str(base)], **change), program(tmp_path))
    assert told in str(error.value)


def test_slurm_gets_an_array_of_variants(swarm, tmp_path, monkeypatch, capsys):
    folder, base = swarm(5)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool, said in (("sbatch", "Submitted batch job 12"), ("srun", ""), ("scancel", "")):
        (tools / tool).write_text(f'#!/bin/sh\necho "{tool} $@" >> {tmp_path}/calls\necho "{said}"\n')
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    executor = {"slurm_partition": "gpu", "gpus_per_node": 1}
    spec = LaunchSpec([str(base)], cluster="slurm", at_a_time=2, hours=3, executor=executor, wait=False)
    assert launch_swarm(folder, spec, program(tmp_path)) == 0
    script = next((folder / "jobs").glob("*submission*.sh")).read_text()
    for line in ("--array=0-4%2", "--partition=gpu", "--time=180", "--gpus-per-node=1", "--job-name=proxy"):
        assert f"#SBATCH {line}" in script
    launch = read_json(folder / "launch.json")["launches"][-1]
    assert launch["cluster"] == "slurm"
    assert launch["jobs"] == [f"12_{index}" for index in range(5)]
    assert main(["mix", "cancel", str(folder)]) == 0
    assert "scancel 12_0" in (tmp_path / "calls").read_text()


def test_a_job_that_slurm_ends_is_queued_again(swarm, tmp_path):
    folder, _ = swarm(1)
    worker = Worker(str(folder), ("proxy-g-0000",), ("true",), {}, (), False, "x")
    assert worker.checkpoint().function is worker


def test_an_unknown_leaf_is_refused_before_anything_runs(swarm, tmp_path):
    folder, base = swarm(1)
    base.write_text(yaml.safe_dump({"data": {"init_args": {"sources": {"code": "x"}}}}))
    with pytest.raises(UserError, match=r"unknown source .*; there are: code"):
        check_configs(read_variants(folder), LaunchSpec([str(base)]))
    with pytest.raises(UserError, match="base="):
        check_configs(read_variants(folder), LaunchSpec([]))
    (folder / "proxy-g-0000.yaml").unlink()
    with pytest.raises(UserError, match=r"proxy-g-0000\.yaml: is missing"):
        read_variants(folder)
    with pytest.raises(UserError, match=r"holds no swarm\.json"):
        read_variants(tmp_path)


def test_dry_run_prints_the_commands_and_starts_nothing(swarm, tmp_path, capsys):
    folder, _ = swarm(2)
    base = write_config(tmp_path)  # of another data module, which knows no mix of leaves
    assert main(["mix", "launch", str(folder), "--base", str(base), "--dry-run"]) == 2
    assert "the command is refused" in capsys.readouterr().err
    line = words_of(read_variants(folder)[1], LaunchSpec([str(base)], overrides=["--trainer.max_steps=3"]))
    assert line[:3] == ["fit", "-c", str(base)]
    assert line[-3:] == ["--trainer.max_steps=3", f"--run.dir={folder / 'runs' / 'proxy-g-0001'}", "--run.resume=true"]
    assert not (folder / "runs").exists()


def test_a_claim_is_held_by_one_and_passes_to_a_child(tmp_path):
    first, second = Claim(tmp_path / "a.lock"), Claim(tmp_path / "a.lock")
    assert not first.taken()
    assert first.acquire()
    assert second.taken()
    assert not second.acquire()
    waits = [sys.executable, "-c", "input()"]  # for what never comes
    child = subprocess.Popen(waits, stdin=subprocess.PIPE, pass_fds=[first.descriptor])
    first.release()
    assert second.taken()
    child.kill()
    child.wait()
    assert not second.taken()


def test_a_note_of_a_killed_attempt_is_an_interruption(swarm):
    folder, _ = swarm(1)
    variant = read_variants(folder)[0]
    variant.note.parent.mkdir()
    variant.note.write_text(json.dumps({"state": "running"}))
    assert state_of(variant)["state"] == "interrupted"
    assert state_of(Variant("other", 1, folder))["state"] == "waiting"


def wait_for(condition):
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def processes(word, folder):
    """Processes with ``word`` in their command line that are at work in ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if word in words and str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.e2e
def test_killed_anywhere_only_what_is_missing_is_run(swarm, tmp_path):
    folder, base = swarm(4)
    held = {run: tmp_path / f"HOLD_{run}" for run in ("proxy-g-0002", "proxy-g-0003")}
    for hold in held.values():
        hold.touch()
    words = [
        sys.executable,
        "-m",
        "tests.commands.mix_launcher",
        str(folder),
        str(base),
        str(tmp_path / "record.jsonl"),
    ]
    launcher = subprocess.Popen(words, cwd=HERE.parents[1], stdout=subprocess.DEVNULL)
    wait_for(lambda: all((folder / "runs" / run / "steps").is_file() for run in held))
    launcher.kill()  # the jobs outlive it
    launcher.wait()
    victim, other = (next(e for e in record(tmp_path) if e["run"] == run) for run in held)
    for pid in [*processes(b"submitit", folder), victim["pid"]]:
        os.kill(pid, signal.SIGKILL)  # the run that is left goes on by itself and keeps its claim
    done = {entry["run"] for entry in record(tmp_path) if entry["what"] == "end"}
    assert done == {"proxy-g-0000", "proxy-g-0001"}
    (claim,) = (variant.claim for variant in read_variants(folder) if variant.name == victim["run"])
    wait_for(lambda: not Claim(claim).taken())  # a process that was killed is gone a little later
    held[victim["run"]].unlink()
    with ThreadPoolExecutor() as pool:
        launching = pool.submit(launch_swarm, folder, LaunchSpec([str(base)], at_a_time=2), program(tmp_path))
        wait_for(lambda: sum(e["run"] == victim["run"] and e["what"] == "start" for e in record(tmp_path)) == 2)
        held[other["run"]].unlink()
        assert launching.result(HANGS) == 0
    assert states(folder) == ["finished"] * 4
    entries = record(tmp_path)
    assert sorted(entry["run"] for entry in entries if entry["what"] == "end") == [f"proxy-g-000{i}" for i in range(4)]
    begun = Counter(entry["run"] for entry in entries if entry["what"] == "start")
    assert begun == {**dict.fromkeys(done, 1), other["run"]: 1, victim["run"]: 2}


@pytest.mark.e2e
def test_cancel_stops_runs_which_then_go_on(swarm, tmp_path):
    folder, base = swarm(2)
    spec = LaunchSpec([str(base)], at_a_time=2)
    with ThreadPoolExecutor() as pool:
        for i in range(2):
            (tmp_path / f"HOLD_proxy-g-000{i}").touch()
        launching = pool.submit(launch_swarm, folder, spec, program(tmp_path))
        wait_for(lambda: states(folder).count("running") == 2 and len(record(tmp_path)) == 2)
        assert main(["mix", "cancel", str(folder)]) == 0
        assert launching.result(HANGS) == 1
    assert states(folder) == ["stopped", "stopped"]
    reached = {entry["run"]: entry["step"] for entry in record(tmp_path) if entry["what"] == "stop"}
    assert len(reached) == 2
    for hold in tmp_path.glob("HOLD_*"):
        hold.unlink()
    assert launch_swarm(folder, LaunchSpec([str(base)], cluster="debug"), program(tmp_path)) == 0
    for entry in record(tmp_path)[4:]:
        assert entry["what"] == "end" or entry["step"] == reached[entry["run"]]


def test_the_chain_recovers_the_best_domain(swarm, tmp_path, capsys):
    folder, base = swarm(12)
    assert launch_swarm(folder, LaunchSpec([str(base)], cluster="debug"), program(tmp_path)) == 0
    out = tmp_path / "tables"
    assert main(["mix", "export", str(folder), "--output-dir", str(out)]) == 0
    assert "12 runs, 4 domains and 2 tasks" in capsys.readouterr().out
    fit = [
        "mix",
        "fit",
        f"--ratios={out}/ratios.csv",
        f"--metrics={out}/metrics.csv",
        f"--output-dir={tmp_path / 'fit'}",
    ]
    fit += ["-c", str(tmp_path / "priors.yaml"), "--regression.folds=3"]
    (tmp_path / "priors.yaml").write_text(yaml.safe_dump({"priors": {"token_counts": SIZES}}))
    assert main(fit) == 0
    assert main([*fit, "--propose"]) == 0  # the same again, and a mix at once
    assert (tmp_path / "fit" / "proposal" / "mix.yaml").is_file()
    assert main([*fit, "--regression.seed=1"]) == 2
    assert "made with another regression" in capsys.readouterr().err
    found = json.loads((tmp_path / "fit" / "correlations.json").read_text())
    assert found["train"]["average"] > 0.99
    for name in ("config.json", "model.json", "interaction_matrix.csv", "interaction_matrix.png", "correlations.png"):
        assert (tmp_path / "fit" / name).stat().st_size > 0
    for weights, best in (('{"code": 1}', "code"), ('{"facts": "7/7"}', "wiki")):
        place = tmp_path / best
        words = ["mix", "propose", str(tmp_path / "fit"), f"--obj_weights={weights}", f"--output-dir={place}"]
        assert main([*words, "--kl_weight=0.01"]) == 0
        mix = {entry["domain"]: entry["weight"] for entry in json.loads((place / "proposal.json").read_text())}
        assert max(mix, key=mix.__getitem__) == best
        assert sum(mix.values()) == pytest.approx(1)
        ready = yaml.safe_load((place / "mix.yaml").read_text())["data"]["init_args"]["mix"]
        assert flatten_mix(ready)[best].weight == mix[best]
        assert (place / "proposal.png").is_file()
        assert main(words) == 2  # another KL weight: not replaced unasked
    capped = ["mix", "propose", str(tmp_path / "fit"), f"--output-dir={tmp_path / 'capped'}", "--kl_weight=0.01"]
    assert main([*capped, "--target-tokens=1000", "--repetition-factor=1.5", '--obj_weights={"code": 1}']) == 0
    mix = {
        entry["domain"]: entry["weight"] for entry in json.loads((tmp_path / "capped" / "proposal.json").read_text())
    }
    assert mix["code"] <= 0.45
    ready = yaml.safe_load((tmp_path / "capped" / "mix.yaml").read_text())["data"]["init_args"]["mix"]
    assert ready["code"]["repetition_factor"] == 1.5


@pytest.fixture
def finished(tmp_path):
    """A function that writes a finished run directory."""

    def make(name: str, metrics: dict[str, float], mix: dict[str, float], status: str = "finished") -> Path:
        folder = tmp_path / "done" / name
        for step in (1, 2):
            place = folder / "eval" / f"step_{step:06d}" / "t"
            place.mkdir(parents=True)
            values = {key: value + (step == 1) for key, value in metrics.items()}
            (place / "metrics.json").write_text(
                json.dumps({"task": "t", "step": step, "n": 1, "metrics": values, "stderr": {}})
            )
        mixture = {leaf: {"requested": 0.5, "realised": share} for leaf, share in mix.items()}
        (folder / "run.json").write_text(json.dumps({"status": status, "mixture": mixture}))
        return folder

    return make


def test_export_takes_the_last_evaluation_and_either_proportions(finished, tmp_path):
    runs = [
        str(finished("a", {"bpb": 1.5, "acc": 0.1}, {"x": 0.25, "y": 0.75})),
        str(finished("b", {"bpb": 2.5, "acc": 0.2}, {"y": 0.5, "z": 0.5})),
    ]
    assert main(["mix", "export", *runs, f"--output-dir={tmp_path / 'o'}"]) == 0
    assert (
        tmp_path / "o" / "ratios.csv"
    ).read_text() == ",run,name,index,x,y,z\n0,a,a,0,0.25,0.75,0.0\n1,b,b,1,0.0,0.5,0.5\n"
    assert (tmp_path / "o" / "metrics.csv").read_text() == ",run,name,index,t\n0,a,a,0,1.5\n1,b,b,1,2.5\n"
    words = ["mix", "export", *runs, f"--output-dir={tmp_path / 'o'}", "--metric=acc", "--proportions=requested"]
    assert main(words) == 2
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / "o" / "ratios.csv").read_text().splitlines()[1] == "0,a,a,0,0.5,0.5,0.0"
    assert (tmp_path / "o" / "metrics.csv").read_text().splitlines()[2] == "1,b,b,1,0.2"


def test_export_names_what_is_unfinished_or_without_a_number(finished, tmp_path, capsys):
    good = str(finished("a", {"bpb": 1.5}, {"x": 1.0}))
    half = str(finished("b", {"bpb": 1.5}, {"x": 1.0}, status="running"))
    empty = str(finished("c", {"bpb": float("nan")}, {"x": 1.0}))
    words = ["mix", "export", f"--output-dir={tmp_path / 'o'}"]
    assert main([*words[:2], good, half, *words[2:]]) == 2
    assert "b: is not finished" in capsys.readouterr().err
    assert main([*words[:2], good, half, empty, *words[2:], "--skip-unfinished"]) == 2
    assert "c: no number for bpb of t" in capsys.readouterr().err
    assert main([*words[:2], good, half, empty, *words[2:], "--skip-unfinished", "--drop-incomplete"]) == 0
    assert "left out: " in capsys.readouterr().out
    for run, told in (("nowhere", "is neither"), (good, "two runs are called a")):
        assert main([*words[:2], good, run, f"--output-dir={tmp_path / 'p'}"]) == 2
        assert told in capsys.readouterr().err
    assert main([*words[:2], good, f"--output-dir={tmp_path / 'p'}", "--metric=f1"]) == 2
    assert "no evaluation has the metric f1; there are bpb" in capsys.readouterr().err


def test_the_published_configuration_is_that_of_the_published_swarm():
    root = HERE.parents[1]
    stage0 = root.parent / "shared" / "data" / "olmix_swarm" / "stage0.json"
    if not stage0.is_file():
        pytest.skip("the published swarm is not here")
    config, stage = yaml.safe_load((root / "configs/olmix/fit/dclm.yaml").read_text()), json.loads(stage0.read_text())
    assert config["priors"] == {key: stage[key] for key in ("relative_sizes", "token_counts")}
    assert config["targets"]["drop_metrics"] == stage["drop_metrics"]
    assert config["proposer"]["kl_weight"] == stage["proposer"]["kl_reg"]
    assert config["constraints"] == {key: stage["constraints"][key] for key in ("target_tokens", "repetition_factor")}
    assert {key: config["regression"][key] for key in ("seed", "train_split")} == {"seed": 0, "train_split": 64}
