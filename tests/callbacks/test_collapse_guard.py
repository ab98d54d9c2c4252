"""CollapseGuard: acts on a fall, not on noise, and remembers across a resume."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_posttrain.callbacks.collapse_guard import CollapseGuard
from lightning_posttrain.types import UserError


def follow(guard: CollapseGuard, values: list[float]) -> Any:
    trainer: Any = SimpleNamespace(
        callback_metrics={}, loggers=[], should_stop=False, is_global_zero=True, global_step=0
    )
    for value in values:
        trainer.callback_metrics["rollout/reward"] = value
        trainer.global_step += 1
        guard.on_train_batch_end(trainer, None)  # type: ignore[arg-type]
        if trainer.should_stop:
            break
    return trainer


def test_a_fall_stops_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = follow(CollapseGuard(min_steps=5), [0.6] * 20 + [0.05] * 40)
    assert trainer.should_stop
    assert 25 < trainer.global_step < 35  # 0.6 * 0.9 ** n falls below 0.3 after about nine steps
    assert "rollout/reward fell to" in capsys.readouterr().err


def test_noise_and_slow_starts_do_not() -> None:
    noisy = [0.5 + 0.2 * (-1) ** i for i in range(60)]
    assert not follow(CollapseGuard(min_steps=5), noisy).should_stop
    assert not follow(CollapseGuard(min_steps=5), [0.0] * 60).should_stop
    assert not follow(CollapseGuard(min_steps=20), [1.0] * 3 + [0.1] * 60).should_stop


def test_negative_rewards_are_judged_by_their_fall() -> None:
    assert not follow(CollapseGuard(), [-2.0] * 60).should_stop
    assert not follow(CollapseGuard(min_steps=3), [-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0] + [-1.0] * 40).should_stop
    rises_then_falls = follow(CollapseGuard(min_steps=3, smoothing=0.0), [-4.0, -4.0, -4.0, -1.0, -2.9, -3.1])
    assert rises_then_falls.should_stop
    assert rises_then_falls.global_step == 6  # below -1 - 0.5 * 4
    across_zero = follow(CollapseGuard(min_steps=1, smoothing=0.0), [-1.0, 0.2, -0.2, -0.4])
    assert across_zero.should_stop
    assert across_zero.global_step == 4  # below 0.2 - 0.5 * 1


def test_nothing_is_judged_or_remembered_before_min_steps() -> None:
    assert not follow(CollapseGuard(min_steps=20), [-2.0]).should_stop
    assert not follow(CollapseGuard(min_steps=4, smoothing=0.0), [1.0, 1.0, 1.0, 0.1, 0.1]).should_stop


def test_warn_goes_on_and_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = follow(CollapseGuard(min_steps=5, action="warn"), [0.6] * 20 + [0.0] * 40)
    assert not trainer.should_stop
    assert capsys.readouterr().err.count("fell to") == 1


def test_a_resumed_guard_goes_on_where_it_stood() -> None:
    whole = CollapseGuard(min_steps=5)
    follow(whole, [0.6] * 20 + [0.2] * 5)
    first = CollapseGuard(min_steps=5)
    follow(first, [0.6] * 20)
    second = CollapseGuard(min_steps=5)
    second.load_state_dict(first.state_dict())
    follow(second, [0.2] * 5)
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("options", [{"drop": 0.0}, {"drop": 1.5}, {"smoothing": 1.0}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        CollapseGuard(**options)  # type: ignore[arg-type]


def test_an_unknown_monitor_is_refused() -> None:
    with pytest.raises(UserError, match=r"rollout/rewards/other.*rollout/reward"):
        follow(CollapseGuard(monitor="rollout/rewards/other"), [0.5])
