"""How many random examples are tried: few and the same in `make test`, as many as FUZZ_EXAMPLES says in `make fuzz`."""

import os

from hypothesis import settings

FUZZ_EXAMPLES = os.environ.get("FUZZ_EXAMPLES")


def examples(number: int) -> settings:
    """Return the settings of a law that `make test` tries on a number of examples, always the same ones."""
    if FUZZ_EXAMPLES is None:
        return settings(max_examples=number, deadline=None, derandomize=True)
    return settings(max_examples=int(FUZZ_EXAMPLES), deadline=None, derandomize=False)
