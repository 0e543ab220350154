"""Processes that tests start."""

import os
from pathlib import Path

HERE = Path(__file__).parent
PYTHONPATH = os.pathsep.join([str(HERE.parent.parent), str(HERE)])
"""Where they find Rolebook, and what keeps them from finding what people do not have."""
