#!/usr/bin/env python3
"""Run the app from a checkout: ``./run.py BIDS_DIR OUTPUT_DIR group --model SPEC.json``."""

import sys

from bids_group.cli import main

if __name__ == "__main__":
    sys.exit(main())
