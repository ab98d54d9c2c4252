"""Preference losses against TRL's own code: the loss of a step and its gradient, on the same weights and pairs.

    pip install -e . && pip install --no-deps trl            (or the `bench` extra)
    python benchmarks/dpo_losses_vs_trl.py --trl-python PY   (PY: an interpreter that has TRL, if this one has not)

Policy and reference are two random models of one layer, float32, CPU. TRL's trainers (`DPOTrainer`, and of its
experimental ones `CPOTrainer` and `ORPOTrainer`) get all pairs as one padded batch, the only way in which their loss is
that of the step. Ours packs them, shares prompts, and takes the step as one micro-batch and as four: "cut" is their
difference. "TRL cut" is that of TRL's loss to its mean over the same four, which is what gradient accumulation adds up.

Where the two mean different things the case says why, and its difference is reported, not judged. Elsewhere one above
1e-5 ends the benchmark: of losses relative to max(1, |loss|), of gradients relative to their largest entry.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

PAIRS, CUT, TOLERANCE = 12, 3, 1e-5
CUTS = range(0, PAIRS, CUT)
SFT = {"sigmoid": 1.0, "sft": 0.2}
TRL_NAMES = {"exo": "exo_pair", "nca": "nca_pair", "bco": "bco_pair", "sppo": "sppo_hard", "dpo_norm": "sigmoid_norm"}
TRL_DIVERGENCES = {"js": "js_divergence", "alpha": "alpha_divergence"}
DPO_DEFAULTS = {
    "beta": 0.1,
    "label_smoothing": 0.0,
    "f_divergence_type": "reverse_kl",
    "f_alpha_divergence_coef": 0.5,
    "ld_alpha": None,
    "use_weighting": False,
}


# ---- cases ----------------------------------------------------------------------------------------------------------


def dpo(name: Any, why: str | None = None, **options: Any) -> dict[str, Any]:
    """The same loss in both languages; ``why`` it is expected to differ."""
    beta = {} if name == "sft" else {"beta": 0.1}
    weights = {name: 1.0} if isinstance(name, str) else name
    renamed = {"divergence": "f_divergence_type", "divergence_alpha": "f_alpha_divergence_coef"}
    given = {renamed.get(k, k): TRL_DIVERGENCES.get(v, v) for k, v in options.items()}
    if "weighted" in given:
        given["use_weighting"] = given.pop("weighted")
    theirs = {"losses": [TRL_NAMES.get(n, n) for n in weights], "weights": list(weights.values()), **given}
    return {"ours": {"name": name, **beta, **options}, "trainer": "dpo", "trl": theirs, "why": why}


def other(name: str, trl: dict[str, Any], why: str | None = None, **options: Any) -> dict[str, Any]:
    trainer = "orpo" if name == "orpo" else "cpo"
    return {"ours": {"name": name, **options}, "trainer": trainer, "trl": trl, "why": why}


def cases() -> list[dict[str, Any]]:
    smooth = {"exo": 0.1, "robust": 0.2, "aot": 0.1, "aot_unpaired": 0.1}
    plain = ["sigmoid", "hinge", "ipo", "nca", "bco", "sppo", "aot", "aot_unpaired"]
    plain += ["apo_zero", "apo_down", "discopop", "dpo_norm", "sft"]
    found = [dpo(name) for name in plain] + [dpo(name, label_smoothing=e) for name, e in smooth.items()]
    scored = [("sigmoid", {}), ("hinge", {}), ("ipo", {}), ("discopop", {}), ("dpo_norm", {})]
    scored += [("exo", {"label_smoothing": 0.1}), ("robust", {"label_smoothing": 0.2})]
    for options in ({"divergence": "forward_kl"}, {"divergence": "js"}, {"divergence": "alpha"}):
        found += [dpo(name, **more, **options) for name, more in scored]
    found += [
        dpo("sigmoid", divergence="alpha", divergence_alpha=0.2),
        dpo(SFT),
        dpo({"sigmoid": 0.8, "bco": 0.2, "sft": 1.0}),
        *(dpo(name, ld_alpha=0.5) for name in ("sigmoid", "hinge", "nca", "aot", "aot_unpaired")),
        dpo(SFT, ld_alpha=0.5),
        *(dpo(name, weighted=True) for name in ("sigmoid", "ipo", "bco", "apo_zero")),
        other("cpo", {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0}, beta=0.1),
        other("cpo", {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 0.3}, beta=0.1, cpo_alpha=0.3),
        other(
            "cpo",
            {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0, "label_smoothing": 0.1},
            beta=0.1,
            label_smoothing=0.1,
        ),
        other(
            "simpo",
            {"loss_type": "simpo", "beta": 2.0, "cpo_alpha": 0.0, "simpo_gamma": 0.5},
            beta=2.0,
            simpo_gamma=0.5,
        ),
        other("orpo", {"beta": 0.1, "nll": "completion"}, beta=0.1),
    ]
    return found + different()


def different() -> list[dict[str, Any]]:
    """Where ours and TRL's mean different things."""
    unread = "TRL does not apply label smoothing to this loss; here it is cDPO"
    scores = "TRL takes the plain log-ratio whatever the divergence; here the reward of that divergence"
    return [
        dpo("sigmoid", unread, label_smoothing=0.1),
        dpo("dpo_norm", unread, label_smoothing=0.1),
        *(dpo(name, scores, divergence="js") for name in ("nca", "bco", "sppo")),
        dpo("aot", "TRL weighs the k-th smallest margin by the k-th pair's weight; here by its own", weighted=True),
        *(dpo(name, "TRL weighs in place, which cannot be differentiated", weighted=True) for name in ("hinge", SFT)),
        other("orpo", {"beta": 0.1, "nll": "all"}, "TRL's likelihood in ORPO includes the prompt", beta=0.1),
    ]


# ---- the comparison -------------------------------------------------------------------------------------------------


def compare(mine: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    theirs_in_order = (theirs[key] for key in ("values", "gradients", "cuts"))
    for case, (whole, cut), value, gradient, parts in zip(cases(), mine["values"], *theirs_in_order, strict=True):
        size = max(1.0, abs(whole))
        loss, trl_cut = (None if x is None else abs(x - y) / size for x, y in ((value, whole), (parts, value)))
        difference = {"loss": loss, "gradient": gradient, "cut": abs(cut - whole) / size, "trl_cut": trl_cut}
        found.append({**case["ours"], "ours": whole, "trl": value, "difference": difference, "why": case["why"]})
    return found


def show(row: dict[str, Any]) -> str:
    options = {k: v for k, v in row.items() if k not in ("name", "ours", "trl", "difference", "why")}
    what = f"{row['name']} {' '.join(f'{k}={v}' for k, v in options.items())}"
    numbers = "".join(f"{'-' if d is None else f'{d:.1e}':>10}" for d in row["difference"].values())
    trl = "fails" if row["trl"] is None else f"{row['trl']:.6f}"
    return f"{what:72.72}{row['ours']:>12.6f}{trl:>12}{numbers}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter that has TRL, if this one has not")
    parser.add_argument("--out", type=Path, default=common.HERE / "results" / "dpo_losses_vs_trl.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pythons = {"prepare": sys.executable, "ours": sys.executable, "trl": args.trl_python}
        made, mine, theirs = (
            common.child("dpo_losses_sides.py", python, 1, role, folder=folder) for role, python in pythons.items()
        )
    rows = compare(mine, theirs)
    print(f"{'':72}{'ours':>12}{'TRL':>12}{'loss':>10}{'gradient':>10}{'cut':>10}{'TRL cut':>10}")
    print(*(show(row) for row in rows if not row["why"]), sep="\n")
    print("different on purpose:", *(f"{show(row)}  {row['why']}" for row in rows if row["why"]), sep="\n")
    same = [row for row in rows if not row["why"]]
    worst = {k: max(r["difference"][k] for r in (rows if k == "cut" else same)) for k in ("loss", "gradient", "cut")}
    about = {"torch": mine["torch"], "trl": theirs["trl"], "tolerance": TOLERANCE, **made}
    args.out.write_text(json.dumps({"about": about, "worst": worst, "cases": rows}, indent=1) + "\n", "utf-8")
    print(f"{len(same)} cases; largest differences: {worst}")
    if max(worst.values()) > TOLERANCE:
        sys.exit(f"a difference is above {TOLERANCE}")


if __name__ == "__main__":
    main()
