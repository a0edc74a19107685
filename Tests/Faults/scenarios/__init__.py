"""What goes wrong, one injection at a time. `ALL` has every scenario by name."""

from . import (  # noqa: F401  each registers its scenarios
    processes, links, disks, power, points, clocks, membership, clients, users, mixed)
from .base import ALL, Context, Scenario

__all__ = ["ALL", "Context", "Scenario"]
