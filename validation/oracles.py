"""What this app computes against what other programs compute of the same data, in one table.

    python -m validation.oracles

Programs of the environment are asked anew; the numbers of the others are pinned in tests/reference, beside the scripts
that asked them. The exit status is 1 where a difference is larger than allowed.
"""

import sys
from collections.abc import Callable

from validation import live_oracles, pinned_oracles
from validation.comparison import Row, write_table

CHECKS: tuple[Callable[[], list[Row]], ...] = (
    live_oracles.check_linear_model,
    live_oracles.check_t_tests,
    live_oracles.check_unequal_variances,
    live_oracles.check_repeated_measures,
    pinned_oracles.check_r,
    pinned_oracles.check_pingouin,
    pinned_oracles.check_tails,
    live_oracles.check_corrections,
    pinned_oracles.check_random_fields,
    live_oracles.check_enumeration,
    live_oracles.check_refitting,
    pinned_oracles.check_tfce,
    pinned_oracles.check_meta_analysis,
    pinned_oracles.check_effect_sizes,
    pinned_oracles.check_atlases,
)


def collect_rows() -> list[Row]:
    """Ask every oracle."""
    return [row for check in CHECKS for row in check()]


def main() -> int:
    """Print the table, and name the rows that do not hold."""
    rows = collect_rows()
    print(write_table(rows))
    failed = [row.what for row in rows if not row.holds]
    if failed:
        print(f"more than allowed: {'; '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
