"""Write partitioned.json: repeated-measures analyses by R, pingouin and statsmodels.

Needs Rscript (base R only), pingouin and statsmodels. R's H-F epsilon is Lecoutre's (``dof + 1`` in its source, where
Huynh and Feldt had the number of subjects).

    python make_partitioned.py
"""

import json
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pingouin
from statsmodels.stats.anova import AnovaRM

R_PROGRAM = """
options(digits = 17)
read <- function(name) as.matrix(read.csv(paste0(name, ".csv"), header = FALSE))
tell <- function(table, rows) for (i in seq_along(rows)) {
  line <- table[rows[i], c("F", "num Df", "den Df", "Pr(>F)", "G-G Pr", "H-F Pr")]
  cat(names(rows)[i], format(unlist(line), digits = 17), "\\n")
}
spherical <- function(fit, ...) anova(fit, ..., test = "Spherical")
tell(spherical(lm(read("oneway") ~ 1), X = ~ 1), c(oneway = 1))
cells <- expand.grid(B = gl(3, 1), A = gl(3, 1))
fit <- lm(read("factorial") ~ 1)
tell(spherical(fit, M = ~ A, X = ~ 1, idata = cells), c(factorial_A = 1))
tell(spherical(fit, M = ~ A + B, X = ~ A, idata = cells), c(factorial_B = 1))
tell(spherical(fit, M = ~ A * B, X = ~ A + B, idata = cells), c(factorial_AB = 1))
group <- factor(read("group"))
tell(spherical(lm(read("mixed") ~ group), X = ~ 1), c(mixed_condition = 1, mixed_interaction = 2))
age <- read("age")
tell(spherical(lm(read("covariate") ~ age), X = ~ 1), c(covariate_condition = 1, covariate_interaction = 2))
slope <- coef(summary(lm(rowMeans(read("covariate")) ~ age)))["age", ]
cat("covariate_slope", format(slope, digits = 17), "\\n")
cat("version", R.version$major, R.version$minor, "\\n")
"""
R_FIELDS = ("F", "dof1", "dof2", "p", "p_greenhouse_geisser", "p_huynh_feldt")


def make_data() -> dict[str, np.ndarray]:
    """Subjects x conditions, with effects of conditions, subjects and unequal correlated noise."""
    rng = np.random.default_rng(20240117)

    def draw(n_subjects: int, n_cells: int) -> np.ndarray:
        mixing = np.tril(rng.normal(size=(n_cells, n_cells))) * np.linspace(0.5, 2, n_cells)
        noise = rng.normal(size=(n_subjects, n_cells)) @ mixing.T
        return 10 + 3 * rng.normal(size=(n_subjects, 1)) + rng.normal(size=n_cells) + noise

    age = rng.normal(size=14)
    data = {"oneway": draw(11, 4), "factorial": draw(12, 9), "mixed": draw(16, 3), "covariate": draw(14, 3)}
    data["covariate"] += np.outer(age, [0.5, 1.0, 2.0])
    data = {name: values.round(3) for name, values in data.items()}
    # Rounding must not leave a mean behind: the covariate is centred.
    data["age"] = (age.round(3) - age.round(3).mean())[:, None]
    data["group"] = np.repeat([0, 1], [7, 9])[:, None]
    return data


def ask_r(data: dict[str, np.ndarray], folder: Path) -> dict[str, dict[str, float] | str]:
    """Run R's multivariate linear models on the data."""
    for name, values in data.items():
        np.savetxt(folder / f"{name}.csv", values, delimiter=",", fmt="%.17g")
    lines = subprocess.run(
        ["Rscript", "--vanilla", "-e", R_PROGRAM], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    found: dict = {}
    for name, *numbers in (line.split() for line in lines):
        if name == "version":
            found["version"] = ".".join(numbers)
        elif name == "covariate_slope":
            found[name] = dict(zip(("effect", "se", "t", "p"), map(float, numbers), strict=True))
        else:
            found[name] = dict(zip(R_FIELDS, map(float, numbers), strict=True))
    return found


def melt(values: np.ndarray, **factors: list[int]) -> pd.DataFrame:
    """One row per subject and cell."""
    n_subjects, n_cells = values.shape
    table = {"subject": np.repeat(np.arange(n_subjects), n_cells), "y": values.ravel()}
    return pd.DataFrame(table | {name: np.tile(levels, n_subjects) for name, levels in factors.items()})


def ask_pingouin(data: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Run pingouin's repeated-measures and mixed analyses of variance."""
    common = {"dv": "y", "subject": "subject", "correction": True}
    oneway = pingouin.rm_anova(melt(data["oneway"], A=[0, 1, 2, 3]), within="A", detailed=False, **common)
    two = melt(data["factorial"], A=[0, 0, 0, 1, 1, 1, 2, 2, 2], B=[0, 1, 2] * 3)
    factorial = pingouin.rm_anova(two, within=["A", "B"], **common)
    table = melt(data["mixed"], A=[0, 1, 2]).assign(group=np.repeat(data["group"].ravel(), 3))
    mixed = pingouin.mixed_anova(table, within="A", between="group", **common)
    named = {
        **dict(zip(["oneway"], oneway.itertuples(index=False), strict=True)),
        **dict(zip(["factorial_A", "factorial_B", "factorial_AB"], factorial.itertuples(index=False), strict=True)),
        **dict(
            zip(["mixed_group", "mixed_condition", "mixed_interaction"], mixed.itertuples(index=False), strict=True)
        ),
    }
    fields = {"F": "F", "eps": "epsilon", "p_GG_corr": "p_greenhouse_geisser", "p_unc": "p"}
    return {
        name: {new: float(getattr(row, old)) for old, new in fields.items() if pd.notna(getattr(row, old, None))}
        for name, row in named.items()
    }


def ask_statsmodels(data: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Run statsmodels' repeated-measures analysis of variance: F, numerator and denominator dof, p."""
    two = melt(data["factorial"], A=[0, 0, 0, 1, 1, 1, 2, 2, 2], B=[0, 1, 2] * 3)
    table = AnovaRM(two, "y", "subject", within=["A", "B"]).fit().anova_table
    names = ["factorial_A", "factorial_B", "factorial_AB"]
    return dict(zip(names, table.to_numpy().tolist(), strict=True))


def main() -> None:
    """Make the data, ask every program, and write what they said."""
    data = make_data()
    with tempfile.TemporaryDirectory() as folder:
        r = ask_r(data, Path(folder))
    made_by = {name: version(name) for name in ("pingouin", "statsmodels", "numpy")}
    made_by |= {"R": r.pop("version"), "python": platform.python_version()}
    document = {
        "made_by": made_by,
        "data": {name: values.tolist() for name, values in data.items()},
        "R": r,
        "pingouin": ask_pingouin(data),
        "statsmodels": ask_statsmodels(data),
    }
    Path(__file__).with_name("partitioned.json").write_text(json.dumps(document) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
