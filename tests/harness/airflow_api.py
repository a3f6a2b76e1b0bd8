"""Airflow's public REST API, as far as the demo and the system tests need it.

The command line would do the same, at 4 to 7 seconds of imports a call.
"""

from __future__ import annotations

import datetime
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from tests.harness.processes import WaitTimeout, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

CALL_SECONDS = 75
"""How long an answer may take: on a busy machine an API server on SQLite stands still for half a minute."""
LOCKED_TRIES = 5
"""How often a call is made that finds SQLite locked; Airflow has rolled it back then."""
FINISHED_STATES = frozenset({"success", "failed"})
LOG_FIELDS_SHOWN = frozenset({"timestamp", "level", "event", "error_detail"})
LOG_FIELDS_REPEATED = frozenset({"dag_id", "run_id", "task_id", "map_index", "try_number", "ti_id"})
LOG_FIELDS_DROPPED = LOG_FIELDS_SHOWN | LOG_FIELDS_REPEATED | {"logger", "filename", "lineno"}


class AirflowApi:
    """A client of one API server. Every method asks the server; nothing is cached."""

    def __init__(self, url: str) -> None:
        self.url = url
        # trust_env off: a proxy has no business between two processes of this machine.
        self._http = httpx.Client(base_url=url, timeout=CALL_SECONDS, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def log_in(self, username: str, password: str) -> None:
        token = self._call("POST", "/auth/token", json={"username": username, "password": password})
        self._http.headers["Authorization"] = f"Bearer {token['access_token']}"

    def prepare_for_tasks(self) -> None:
        """Have the server build what it answers tasks with: 7 s on an idle machine, at the first call."""
        self._call("GET", "/execution/health")

    def health(self) -> dict[str, str | None]:
        """Status of each component; empty while the server does not answer."""
        try:
            answer = self._call("GET", "/api/v2/monitor/health")
        except httpx.HTTPError:
            return {}
        return {name: (state or {}).get("status") for name, state in answer.items()}

    def heartbeats(self) -> dict[str, datetime.datetime]:
        """Last sign of life of schedulers, DAG processors and triggerers by host; empty without an answer."""
        try:
            answer = self._call("GET", "/api/v2/jobs", params={"order_by": "-latest_heartbeat"})
        except httpx.HTTPError:
            return {}
        newest_last = reversed([job for job in answer["jobs"] if job["latest_heartbeat"]])
        return {
            job["hostname"]: datetime.datetime.fromisoformat(job["latest_heartbeat"]) for job in newest_last
        }

    # DAGs and runs

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """The DAG as Airflow knows it; None until the DAG processor has parsed it."""
        response = self._http.get(f"/api/v2/dags/{dag_id}")
        return None if response.status_code == 404 else _checked(response)

    def import_errors(self) -> list[str]:
        """The traceback of each DAG file that could not be parsed."""
        return [error["stack_trace"] for error in self._call("GET", "/api/v2/importErrors")["import_errors"]]

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> dict[str, Any]:
        def parsed() -> dict[str, Any] | None:
            if errors := self.import_errors():
                raise AssertionError("DAG files failed to parse:\n" + "\n".join(errors))
            return self.dag(dag_id)

        return wait_until(parsed, timeout, f"DAG {dag_id} to be parsed")

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run dated now (so that `{{ ds }}` exists) with the given params; returns its run id."""
        now = datetime.datetime.now(datetime.UTC).isoformat()
        body = {"logical_date": now, "conf": conf or {}}
        return self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"]

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The DAG's first hundred runs."""
        return self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"]

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Do what a person does with "Mark run as failed" or "Mark run as success"."""
        self._call("PATCH", _run_path(dag_id, run_id), json={"state": state})

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self._call("GET", _run_path(dag_id, run_id))

    def wait_for_run(
        self, dag_id: str, run_id: str, timeout: float = 120, on_poll: Callable[[], None] = lambda: None
    ) -> str:
        """Wait until the run is finished; returns `success` or `failed`."""

        def finished() -> str | None:
            on_poll()
            state = self.run(dag_id, run_id)["state"]
            return state if state in FINISHED_STATES else None

        return wait_until(finished, timeout, f"run {run_id} of {dag_id} to finish")

    def wait_for_success(self, dag_id: str, run_id: str, timeout: float) -> None:
        """Wait until the run is finished; raise AssertionError with its tasks' logs unless it succeeded."""
        try:
            state = self.wait_for_run(dag_id, run_id, timeout)
        except WaitTimeout as error:
            raise WaitTimeout(f"{error}; {self._how_far(dag_id, run_id)}") from None
        if state != "success":
            raise AssertionError(f"run {run_id} of {dag_id} is {state}; {self._how_far(dag_id, run_id)}")

    # Task instances

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self._call("GET", f"{_run_path(dag_id, run_id)}/taskInstances")["task_instances"]

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        return self._call("GET", _task_path(dag_id, run_id, task_id, map_index))

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, map_index: int = -1, timeout: float = 60
    ) -> dict[str, Any]:
        """Wait until the task instance is in one of `states`; returns it. Fails early when the run ends."""

        def reached() -> dict[str, Any] | None:
            run_state = self.run(dag_id, run_id)["state"]
            instance = self.task_instance(dag_id, run_id, task_id, map_index)
            if instance["state"] in states:
                return instance
            if run_state in FINISHED_STATES:
                raise AssertionError(
                    f"run {run_id} is {run_state} and task {task_id} {instance['state']}, not {states}; "
                    f"its log:\n{self.task_log(dag_id, run_id, task_id, map_index=map_index)}"
                )
            return None

        what = f"task {task_id} of {dag_id} to be {' or '.join(states)}"
        try:
            return wait_until(reached, timeout, what)
        except WaitTimeout as error:
            raise WaitTimeout(f"{error}; {self._how_far(dag_id, run_id)}") from None

    def _how_far(self, dag_id: str, run_id: str) -> str:
        """The state of each task of a run, and what it logged."""
        told = []
        for ti in self.task_instances(dag_id, run_id):
            told.append(f"{ti['task_id']} is {ti['state']} in try {ti['try_number']} on {ti['hostname']}:")
            for number in range(1, ti["try_number"] + 1):
                told.append(self.task_log(dag_id, run_id, ti["task_id"], number, ti["map_index"]))
        return "\n".join(told)

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Do what a person does with "Mark as failed" or "Mark as success"."""
        path = _task_path(dag_id, run_id, task_id, map_index)
        self._call("PATCH", path, json={"new_state": state})

    def respond(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer what a human-in-the-loop operator asks."""
        path = f"{_task_path(dag_id, run_id, task_id, -1)}/-1/hitlDetails"
        self._call("PATCH", path, json={"chosen_options": [option], "params_input": {}})

    def clear(
        self, dag_id: str, run_id: str, *task_ids: str, include_downstream: bool = True
    ) -> list[dict[str, Any]]:
        """Do what a person does with "Clear task"; returns the cleared task instances."""
        body = {
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "dry_run": False,
            "only_failed": False,
            "include_downstream": include_downstream,
            "reset_dag_runs": True,
        }
        return self._call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body)["task_instances"]

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """The XCom's value; None when there is no such XCom."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{quote(key, safe='')}"
        response = self._http.get(path, params={"map_index": map_index})
        return None if response.status_code == 404 else _checked(response)["value"]

    def links(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """The extra links of a task instance by name."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/links"
        return self._call("GET", path, params={"map_index": map_index})["extra_links"]

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> str:
        """One try's log as lines of text; the latest try when `try_number` is None."""
        if try_number is None:
            try_number = max(1, self.task_instance(dag_id, run_id, task_id, map_index)["try_number"])
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        answer = self._call(
            "GET",
            path,
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/json"},
        )
        return "\n".join(_log_line(entry) for entry in answer["content"])

    def pool(self, name: str = "default_pool") -> dict[str, Any]:
        """Slots of a pool: `occupied_slots` (running and queued), `deferred_slots`, `open_slots`, …"""
        return self._call("GET", f"/api/v2/pools/{name}")

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        for attempt in range(1, LOCKED_TRIES):
            response = self._http.request(method, path, **kwargs)
            if response.status_code != 500 or '"Database error"' not in response.text:
                return _checked(response)
            time.sleep(0.5 * attempt)
        return _checked(self._http.request(method, path, **kwargs))


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _task_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}"
    return path if map_index < 0 else f"{path}/{map_index}"


def _checked(response: httpx.Response) -> Any:
    if response.is_error:
        raise httpx.HTTPStatusError(
            f"{response.request.method} {response.request.url} answered {response.status_code}: "
            f"{response.text[:2000]}",
            request=response.request,
            response=response,
        )
    return response.json()


def _log_line(entry: str | dict[str, Any]) -> str:
    if isinstance(entry, str):
        return entry
    shown = " ".join(str(entry[key]) for key in ("timestamp", "level", "event") if entry.get(key))
    if detail := entry.get("error_detail"):
        shown += "".join(_traceback(error) for error in detail)
    rest = {key: value for key, value in entry.items() if key not in LOG_FIELDS_DROPPED}
    return f"{shown} {json.dumps(rest)}" if rest else shown


def _traceback(error: dict[str, Any]) -> str:
    frames = "".join(
        f"\n  {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error.get("frames") or ()
    )
    return f"{frames}\n{error['exc_type']}: {error['exc_value']}"
