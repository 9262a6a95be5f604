"""Write effect_sizes.json: bounds of noncentralities by R, effect sizes of data by pingouin.

R's noncentral distributions are those of base R (algorithms AS 243 and AS 226), not the ones of SciPy.

    python make_effect_sizes.py
"""

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pingouin

R_PROGRAM = """
find <- function(f, lower, upper) uniroot(f, c(lower, upper), tol = 1e-13)$root
bound_t <- function(t, dof, p) find(function(ncp) pt(t, dof, ncp) - p, -37, 37)
bound_f <- function(F, dof1, dof2, p) {
  if (pf(F, dof1, dof2) <= p) 0 else find(function(ncp) pf(F, dof1, dof2, ncp) - p, 0, 20 * dof1 * F + 100)
}
for (dof in c(2, 7.3, 19, 120)) for (t in c(-9, -2.1, 0, 0.4, 3, 15)) for (p in c(0.975, 0.025, 0.95))
  cat("t", format(c(t, dof, p, bound_t(t, dof, p)), digits = 17), "\\n")
for (dof1 in c(1, 2, 8)) for (dof2 in c(4.5, 19, 120)) for (F in c(0.01, 0.8, 4, 30)) for (p in c(0.975, 0.025, 0.95))
  cat("F", format(c(F, dof1, dof2, p, bound_f(F, dof1, dof2, p)), digits = 17), "\\n")
cat("version", R.version$major, R.version$minor, "\\n")
"""


def run_r() -> tuple[dict[str, list], str]:
    """Return (statistic, degrees of freedom, probability, noncentrality) for t and for F, and R's version."""
    answer = subprocess.run(["Rscript", "-e", R_PROGRAM], check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in answer.strip().splitlines()]
    bounds = {kind: [[float(one) for one in line[1:]] for line in lines if line[0] == kind] for kind in ("t", "F")}
    return bounds, ".".join(lines[-1][1:])


def run_pingouin() -> dict[str, object]:
    """Return a one-sample d, a two-sample d and a partial eta squared of three samples."""
    rng = np.random.default_rng(20240119)
    samples = [(rng.normal(size=n) + mean).round(3) for n, mean in ((9, 0.4), (12, 1.1), (7, 0.0))]
    table = pd.DataFrame({"y": np.concatenate(samples), "group": np.repeat(["a", "b", "c"], [9, 12, 7])})
    return {
        "samples": [sample.tolist() for sample in samples],
        "d_one_sample": float(pingouin.compute_effsize(samples[0], y=0, eftype="cohen")),
        "d_two_samples": float(pingouin.compute_effsize(samples[0], samples[1], eftype="cohen")),
        "partial_eta_squared": float(pingouin.anova(table, dv="y", between="group", detailed=True)["np2"].iloc[0]),
    }


def main() -> None:
    """Write the numbers beside this script."""
    bounds, r_version = run_r()
    made_by = f"R {r_version}; pingouin {version('pingouin')}, Python {platform.python_version()}"
    pinned = {"made_by": made_by, "noncentrality": bounds, "pingouin": run_pingouin()}
    Path(__file__).with_name("effect_sizes.json").write_text(json.dumps(pinned) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
