"""Puts tests/ on the path, so that tests share `films` and `clips`; keeps idle threads from eating the cores."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
