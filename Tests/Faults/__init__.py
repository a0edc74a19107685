"""Faults on real processes, recorded client histories, and a checker of what clients were promised."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "System"))
