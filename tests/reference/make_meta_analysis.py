"""Write meta_analysis.json: random-effects meta-analyses by metafor (R) and PyMARE.

Needs Rscript with metafor, and PyMARE.

    python make_meta_analysis.py
"""

import json
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pymare.estimators import DerSimonianLaird, VarianceBasedLikelihoodEstimator

R_PROGRAM = """
suppressMessages(library(metafor))
read <- function(name) as.matrix(read.csv(paste0(name, ".csv"), header = FALSE))
y <- read("effects"); v <- read("variances"); x <- read("design")
show <- function(...) cat(format(c(...), digits = 17), "\\n")
for (method in c("DL", "REML")) for (voxel in 1:ncol(y)) {
  fit <- function(test) rma(y[, voxel], v[, voxel], mods = x, intercept = FALSE, method = method, test = test,
                            btt = 2:3, control = list(threshold = 1e-13, maxiter = 10000, stepadj = 0.5))
  wald <- fit("z"); knha <- fit("knha")
  show(knha$tau2, knha$QE, knha$I2 / 100, knha$QM, knha$beta, wald$se, knha$se)
}
show(R.version$major, R.version$minor, as.character(packageVersion("metafor")))
"""


def make_data() -> dict[str, np.ndarray]:
    """Two groups and a covariate; variances that differ fourfold in SD; voxels from no heterogeneity to much of it."""
    rng = np.random.default_rng(20240118)
    group = np.repeat([0.0, 1.0], [7, 8])
    age = rng.normal(size=15).round(2)
    design = np.column_stack([1.0 - group, group, age])
    variances = rng.uniform(0.3, 1.2, size=(15, 8)).round(3) ** 2
    tau = np.array([0.0, 0.0, 0.0, 0.2, 0.5, 0.8, 1.5, 5.0])
    noise = np.sqrt(variances + tau**2) * rng.normal(size=(15, 8))
    return {
        "effects": (design @ [0.3, 0.6, 0.2]).round(3)[:, None] + noise.round(3),
        "variances": variances,
        "design": design,
    }


def run_metafor(data: dict[str, np.ndarray]) -> tuple[dict[str, list], str]:
    """Return what metafor finds, per method and voxel, and its version."""
    with tempfile.TemporaryDirectory() as folder:
        for name, values in data.items():
            np.savetxt(Path(folder, f"{name}.csv"), values, delimiter=",", fmt="%.17g")
        Path(folder, "program.R").write_text(R_PROGRAM, encoding="utf-8")
        answer = subprocess.run(["Rscript", "program.R"], cwd=folder, check=True, capture_output=True, text=True)
    *lines, last = (line.split() for line in answer.stdout.strip().splitlines())
    rows = [dict(zip(("tau2", "q", "i2", "F"), map(float, line[:4]), strict=True)) for line in lines]
    for row, line in zip(rows, lines, strict=True):
        parts = np.array(line[4:], dtype=float).reshape(3, 3).tolist()
        row |= dict(zip(("effects", "standard_errors", "knapp_hartung_errors"), parts, strict=True))
    half = len(rows) // 2
    return {"dersimonian-laird": rows[:half], "reml": rows[half:]}, f"R {last[0]}.{last[1]}, metafor {last[2]}"


def run_pymare(data: dict[str, np.ndarray]) -> dict[str, list]:
    """Return what PyMARE finds, per method and voxel."""
    estimators = {
        "dersimonian-laird": DerSimonianLaird(small_sample_correction="wald"),
        "reml": VarianceBasedLikelihoodEstimator(method="REML", small_sample_correction="wald"),
    }
    found = {}
    for name, estimator in estimators.items():
        result = estimator.fit(data["effects"], data["variances"], data["design"]).params_
        effects = np.asarray(result["fe_params"]).T
        errors = np.sqrt(np.diagonal(result["inv_cov"]))
        found[name] = [
            {"tau2": float(tau2), "effects": one.tolist(), "standard_errors": error.tolist()}
            for tau2, one, error in zip(np.ravel(result["tau2"]), effects, errors, strict=True)
        ]
    return found


def main() -> None:
    """Write the numbers beside this script."""
    data = make_data()
    metafor, metafor_version = run_metafor(data)
    made_by = f"{metafor_version}; PyMARE {version('PyMARE')}, Python {platform.python_version()}"
    pinned = {name: values.tolist() for name, values in data.items()}
    pinned = {"made_by": made_by, **pinned, "metafor": metafor, "pymare": run_pymare(data)}
    Path(__file__).with_name("meta_analysis.json").write_text(json.dumps(pinned) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
