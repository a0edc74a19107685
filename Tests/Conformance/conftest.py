import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "System")]

import driver  # noqa: E402
import protos  # noqa: E402
from differences import DIFFERENCES  # noqa: E402


@pytest.fixture(scope="session")
def api():
    return protos.load()


@pytest.fixture(scope="module")
def servers(api):
    """A fresh single member of every kind, shared by the scenarios of one file."""
    with driver.Servers(api) as group:
        yield group


@pytest.fixture
def same(servers, request):
    """Runs a scenario on every server and fails on any difference the table does not explain."""
    return lambda scenario, **options: servers.compare(scenario, request.node.nodeid, **options)


def pytest_collection_modifyitems(items):
    # What it checks is known only after everything else has run.
    items.sort(key=lambda item: item.name == "test_no_stale_difference")


def pytest_terminal_summary(terminalreporter):
    tally = driver.TALLY
    terminalreporter.write_line(
        f"conformance: {tally.requests} requests to Apus, {tally.compared} answers compared, "
        f"{sum(tally.explained.values())} differences explained by "
        f"{len({name for name, _ in tally.explained})} of {len(DIFFERENCES)} entries")
    for (name, kind), count in sorted(tally.explained.items()):
        terminalreporter.write_line(f"  {name} ({kind}): {count}")
