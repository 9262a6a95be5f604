"""In how many datasets of each scenario the app warns that the errors are not what the test presumes.

    python -m validation.alarms [--datasets 100]

A warning is wanted where the table of error rates says that a level does not hold, and nowhere else. The table is
written to validation/results/alarms.tsv.
"""

import argparse
import zlib

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from bids_group.analysis.fitting import estimate_contrasts
from bids_group.analysis.presumptions import find_error_warnings, find_presumption_warnings
from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import NodePlan
from bids_group.outputs.results import ContrastResult
from validation.rates import RESULTS
from validation.scenarios import SCENARIOS, Scenario
from validation.simulate import describe_tests, draw_data, plan_scenario

TABLE = RESULTS / "alarms.tsv"


def find_warnings(plan: NodePlan, data: GroupData) -> list[str]:
    """Return what a run would say of the errors."""
    model = plan.models[0]
    found, voxels = estimate_contrasts(plan, model, data)
    epsilon = None if found.sphericity is None else found.sphericity.median
    contrasts = tuple(ContrastResult(*one, ()) for one in zip(model.contrasts, describe_tests(found), strict=True))
    kept = voxels.mask[data.voxels.mask]
    return [*find_error_warnings(contrasts, epsilon), *find_presumption_warnings(plan, model, data, kept)]


def count_alarms(scenario: Scenario, n_datasets: int) -> int:
    """Return in how many datasets a warning is given."""
    rng = np.random.default_rng([zlib.crc32(scenario.name.encode()), 0])
    plan = plan_scenario(scenario, rng)
    with threadpool_limits(1):
        return sum(bool(find_warnings(plan, draw_data(scenario, plan, rng))) for _ in range(n_datasets))


def main() -> None:
    """Count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=100)
    options = parser.parse_args()
    rows = [(one.name, options.datasets, count_alarms(one, options.datasets)) for one in SCENARIOS]
    RESULTS.mkdir(exist_ok=True)
    table = pd.DataFrame(rows, columns=["scenario", "n_datasets", "n_warned"])
    table.to_csv(TABLE, sep="\t", index=False, lineterminator="\n")
    print(table.to_string())


if __name__ == "__main__":
    main()
