"""The recipe for Airflow's own ``DeadlineAlert``, as the documentation has it, on running Airflow."""

from __future__ import annotations

import http.server
import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.processes import wait_until
from tests.system.cancels import cancel_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

PAGE = Path(__file__).parents[2] / "docs/alerts.md"
DAG = "nightly"


@pytest.fixture
def on_call() -> Iterator[tuple[str, list[Any]]]:
    """Where alerts go: an address, and what has come."""
    told: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", told
        server.shutdown()
        thread.join()


def recipe(url: str) -> list[str]:
    """The callback's module and the DAG, due at once and not in hours."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    module, dag = blocks[:2]
    for said, meant in (("hours=4", "seconds=1"), ("https://hooks.example.com/on-call", url)):
        assert dag.count(said) == 1
        dag = dag.replace(said, meant)
    return [module, dag]


def test_the_recipe_tells_of_a_batch_that_is_late_and_leaves_it_alone(
    local_airflow: LocalAirflow, emulator: Emulator, on_call: tuple[str, list[Any]]
) -> None:
    url, told = on_call
    module, dag = recipe(url)
    (local_airflow.home / "plugins" / "on_call.py").write_text(module)
    local_airflow.add_dag(DAG, dag)
    api = local_airflow.api
    run_id = api.trigger(DAG)
    api.wait_for_task(DAG, run_id, "reports", "deferred")
    wait_until(lambda: told, 30, "the alert")
    assert re.search(f"^{DAG} is late: {re.escape(run_id)} was due at 20", told[0]["text"])
    [batch] = emulator.batches()
    assert (batch["processing_status"], cancel_calls(emulator)) == ("in_progress", [])
    emulator.end(batch["id"])
    api.wait_for_success(DAG, run_id, timeout=60)
    assert len(told) == 1
