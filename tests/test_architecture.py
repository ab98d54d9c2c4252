"""The rooms and their floors: a module imports from lower floors or from its own folder, and stays readable in size."""

import ast
from pathlib import Path

import lightning_posttrain

ROOT = Path(lightning_posttrain.__file__).parent
FLOOR = {
    "types": 0, "progress": 0,
    "ops": 1, "text": 1, "records": 1, "sandbox": 1, "servers": 1,
    "env_config": 1,
    "config_errors": 2, "batching": 2, "losses": 2, "metrics": 2, "models": 3,
    "tasks": 3, "rollout": 3, "mixing": 3,
    "datamodules": 4, "modules": 4, "reports": 4,
    "callbacks": 5,
    "tuning": 6, "trainer_cli": 6, "commands": 7, "cli": 8,
}  # fmt: skip


def imports(path: Path) -> list[tuple[str, int]]:
    """Rooms of the package that a file imports from, with line numbers; relative and absolute imports alike."""
    here = path.relative_to(ROOT).parts
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = list(here[: len(here) - node.level])
                parts = base + (node.module or "").split(".") if node.module else base
            elif (node.module or "").startswith("lightning_posttrain"):
                parts = (node.module or "").split(".")[1:]
            else:
                continue
            rooms = [parts[0]] if parts else [alias.name for alias in node.names]
            found += [(room, node.lineno) for room in rooms]
        elif isinstance(node, ast.Import):
            found += [
                (a.name.split(".")[1], node.lineno) for a in node.names if a.name.startswith("lightning_posttrain.")
            ]
    return found


def test_imports_only_go_down():
    upward = []
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for there, line in imports(path):
            if there != here and FLOOR[there] >= FLOOR[here]:
                upward.append(f"{path.relative_to(ROOT)}:{line} imports {there}")
    assert not upward, "\n".join(upward)


def test_files_stay_readable():
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 320}
    assert not long


def test_every_file_says_what_it_is_for():
    silent = [
        str(p) for p in ROOT.rglob("*.py") if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not silent


def test_only_the_sandbox_executes_text():
    guilty = []
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] == "sandbox":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                guilty.append(f"{path}:{node.lineno}")
    assert not guilty
