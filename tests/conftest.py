"""What all tests share."""

import os

from hypothesis import settings

# The same examples each time, so that a test fails because of a change and not by chance;
# HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))
