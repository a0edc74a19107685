"""A minute of faults on real processes. The long runs are scripts/faults."""

import pytest

from . import scenarios
from .run import run


@pytest.mark.parametrize("name", ["kill-leader", "pause-leader", "compaction", "partition", "lagging", "sync-error",
                                  "first-start"])
def test_scenario(name, tmp_path):
    """A run that was too slow to prove anything passes as well: slow machines are no bugs."""
    result = run(scenarios.ALL[name], seconds=3, seed=7, keep=tmp_path)
    assert result.verdict in ("pass", "void"), result.report()


def test_beside_etcd(tmp_path):
    """The same clients and the same checker in a cluster of both kinds."""
    result = run(scenarios.ALL["kill-leader"], seconds=3, seed=7, keep=tmp_path, kinds=("apus", "etcd35", "etcd35"))
    assert result.verdict in ("pass", "void"), result.report()
