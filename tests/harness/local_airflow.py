"""Real Airflow on this machine: API server, scheduler, DAG processor and triggerer as processes of their own.

SQLite, LocalExecutor, loopback only, everything in one folder. Settings are written to that folder's
`airflow.cfg`, so `AIRFLOW_HOME=<folder> airflow …` works on it too; connections, which may hold a key, travel
in the environment and never touch the disk.
"""

from __future__ import annotations

import configparser
import contextlib
import importlib.metadata
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from tests.harness.airflow_api import CALL_SECONDS, AirflowApi
from tests.harness.processes import ManagedProcess, stop_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USERNAME = "admin"
PASSWORD = "admin"
PRELOAD = """
import sys
if "scheduler" in sys.argv:  # tasks are its forks, which each would import this anew
    import airflow_claude_batch.runtime.deliver
    import airflow_claude_batch.runtime.submit
    import anthropic
    import genai_prices
    from airflow_claude_batch import ClaudeBatchOperator
"""
"""Halves the time of a task, most of which was imports."""
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
COMPLAINT = re.compile(r"\[(warning|error|critical)|^\w*(Error|Exception)\b", re.IGNORECASE)
READ_ONCE = {"dag_processor": {"min_file_process_interval": "300"}}
"""A DAG file that changes is read at once; to read all others twice a minute takes a tenth of a processor."""
STARTUP_SECONDS = 120
MIGRATION_SECONDS = 120


class LocalAirflow:
    """One Airflow installation in `home`; use it as a context manager, or call `start` and `stop`.

    Args:
        home: AIRFLOW_HOME, created anew: whatever is there is removed.
        dag_folders: directories with DAG files; `home/dags` is always one more, for `write_dag`.
        connections: Airflow connections by id, in the form of `AIRFLOW_CONN_*` JSON.
        env: further environment variables for every component.
        settings: Airflow settings by section, added to the ones below.
        port: the API server's; 0 takes a free one.
    """

    def __init__(
        self,
        home: Path,
        *,
        dag_folders: Sequence[Path] = (),
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        port: int = 0,
    ) -> None:
        self.home = home.absolute()
        self.dags = self.home / "dags"
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self.api = AirflowApi(self.url)
        self._processes: dict[str, ManagedProcess] = {}
        self._retired: list[ManagedProcess] = []

        if self.home.exists():
            shutil.rmtree(self.home)
        self.dags.mkdir(parents=True)
        (self.home / "components").mkdir()
        (self.home / "config").mkdir()
        (self.home / "plugins").mkdir()  # a folder that comes later is not imported from
        (self.home / "config" / "airflow_local_settings.py").write_text(PRELOAD)
        common = common_settings(self.home, [self.dags, *dag_folders])
        write_settings(self.home, merged(common, server_settings(self.url), READ_ONCE, settings or {}))
        (self.home / "simple_auth_manager_passwords.json.generated").write_text(
            json.dumps({USERNAME: PASSWORD})
        )
        self.env = airflow_environment(self.home, connections or {}) | dict(env or {})

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Start all components and return when each reports that it is healthy."""
        create_database(self.home)
        try:
            for name in COMPONENTS:
                self.start_component(name)
            wait_until(self._is_healthy, STARTUP_SECONDS, "Airflow's components to be healthy")
            self.api.log_in(USERNAME, PASSWORD)
            self.api.prepare_for_tasks()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process that was started here, and everything that those started."""
        stop_all([*self._processes.values(), *self._retired])
        self._processes, self._retired = {}, []
        self.api.close()

    def write_dag(self, name: str, source: str) -> Path:
        """Put a DAG file into `home/dags`; `api.wait_for_dag` tells when Airflow has seen it."""
        file, staged = self.dags / f"{name}.py", self.home / f"{name}.py"
        staged.write_text(source)
        staged.replace(file)  # half a file would not be read again for minutes
        return file

    def add_dag(self, name: str, source: str) -> None:
        """Write a DAG's file, indented or not, and wait until Airflow knows the DAG of that name."""
        self.write_dag(name, textwrap.dedent(source))
        self.api.wait_for_dag(name)

    def trigger_log(self, run_id: str) -> str:
        """What the triggers of a run have said."""
        logs = (self.home / "logs").glob(f"dag_id=*/run_id={run_id}/**/*.trigger.*.log")
        return "".join(file.read_text() for file in logs)

    def complaints(self, lines: int = 60) -> str:
        """The last warnings and errors of each component."""
        told = []
        for file in sorted((self.home / "components").glob("*.log")):
            said = [line for line in file.read_text().splitlines() if COMPLAINT.search(line)]
            told += [f"{file.stem}:", *said[-lines:]]
        return "\n".join(told)

    # Faults: what operators, kernels and out-of-memory killers do to processes

    def component(self, name: str) -> ManagedProcess:
        """One of `api-server`, `scheduler`, `dag-processor`, `triggerer`."""
        return self._processes[name]

    def start_component(self, name: str) -> None:
        if name in self._processes:
            self._retired.append(self._processes[name])
        self._processes[name] = ManagedProcess(
            name,
            [sys.executable, "-m", "airflow", *COMPONENTS[name]],
            env=self.env,
            log_file=self.home / "components" / f"{name}.log",
        )

    def stop_retired(self) -> None:
        """End the components that `start_component` has put another one beside."""
        stop_all(self._retired)
        self._retired = []

    def kill_component(self, name: str, *, with_children: bool = True) -> None:
        """SIGKILL, as when a machine is lost; `start_component` brings a new one.

        The triggers run in a child of the triggerer, the tasks in children of the scheduler; without
        `with_children` they outlive it.
        """
        component = self.component(name)
        children = [member for member in component.members() if member.pid != component.pid]
        component.signal(signal.SIGKILL)
        for child in children if with_children else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    @contextlib.contextmanager
    def paused(self, name: str) -> Any:
        """Stop a component's clock (SIGSTOP) for the length of the block."""
        self.component(name).signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.component(name).signal(signal.SIGCONT)

    def task_process(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> psutil.Process:
        """The process that runs the task's code now; its parent is the executor's worker that watches it."""
        ti_id = self.api.task_instance(dag_id, run_id, task_id, map_index)["id"]

        def find() -> psutil.Process | None:
            for process in self.component("scheduler").members():
                with contextlib.suppress(psutil.Error):
                    if f"airflow worker -- {ti_id}" in " ".join(process.cmdline()):
                        return process
            return None

        return wait_until(find, 15, f"a process that runs task {task_id} of {dag_id}")

    def kill_task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """SIGKILL for the task's own process, as the out-of-memory killer sends it."""
        self.task_process(dag_id, run_id, task_id, map_index).kill()

    def check(self) -> None:
        """Raise `ProcessFailed` when a component has ended that nobody stopped."""
        for process in self._processes.values():
            process.check()

    def _is_healthy(self) -> bool:
        self.check()
        health = self.api.health()
        return bool(health) and all(status == "healthy" for status in health.values())


def airflow_environment(home: Path, connections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """This process's environment for Airflow in `home`, free of settings meant for another Airflow or API."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "ANTHROPIC_"))
    }
    no_proxy = ",".join(filter(None, [inherited.get("NO_PROXY"), "127.0.0.1", "localhost"]))
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PYTHONUNBUFFERED": "1",
        **{
            f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(connection)
            for conn_id, connection in connections.items()
        },
    }


def write_settings(home: Path, settings: Mapping[str, Mapping[str, str]]) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(settings)
    with (home / "airflow.cfg").open("w") as file:
        parser.write(file)


def create_database(home: Path) -> None:
    """Put a migrated database into `home`, copied from one that is migrated once a virtual environment."""
    version = importlib.metadata.version("apache-airflow-core")
    template = Path(sys.prefix) / f"airflow-{version}.db"
    if not template.exists():
        with tempfile.TemporaryDirectory() as scratch_name:
            scratch = Path(scratch_name)
            write_settings(scratch, {"core": {"load_examples": "False"}, "database": _database(scratch)})
            subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=airflow_environment(scratch, {}),
                stdout=subprocess.DEVNULL,
                timeout=MIGRATION_SECONDS,
                check=True,
            )
            # The mode is stored in the file: the processes' readers and writers no longer block each other.
            with contextlib.closing(sqlite3.connect(scratch / "airflow.db")) as database:
                database.execute("PRAGMA journal_mode=WAL")
            staged = template.with_suffix(f".{os.getpid()}")
            shutil.copyfile(scratch / "airflow.db", staged)
            staged.replace(template)
    shutil.copyfile(template, home / "airflow.db")


def common_settings(home: Path, dag_folders: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Settings of an Airflow in `home` that hold with and without running components."""
    bundles = [
        {
            "name": f"dags-{number}",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder.absolute()), "refresh_interval": 2},
        }
        for number, folder in enumerate(dag_folders)
    ]
    return {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": "4",
            "load_examples": "False",
            "dags_folder": str(dag_folders[0]),
            "dags_are_paused_at_creation": "False",
        },
        "database": _database(home),
        "dag_processor": {
            "dag_bundle_config_list": json.dumps(bundles),
            "refresh_interval": "2",
            "bundle_refresh_check_interval": "2",
        },
        # Only what somebody triggers runs: no nightly run at the moment a DAG file is first seen.
        "scheduler": {"use_job_schedule": "False"},
        "logging": {"base_log_folder": str(home / "logs")},
        # A triggerer that was killed is replaced as soon as it has been silent for so long.
        "triggerer": {"job_heartbeat_sec": "2", "triggerer_health_check_threshold": "15"},
        "workers": {
            # Without it Airflow now and then fails a task whose deferral lasts only seconds.
            "min_heartbeat_interval": "1",
            # A task gives up, and has failed, after five calls of five seconds.
            "execution_api_timeout": str(CALL_SECONDS),
        },
        "usage_data_collection": {"enabled": "False"},
    }


def server_settings(url: str) -> dict[str, dict[str, str]]:
    return {
        "core": {
            "simple_auth_manager_users": f"{USERNAME}:admin",
            "execution_api_server_url": f"{url}/execution/",
        },
        "api": {
            "host": "127.0.0.1",
            "port": url.rsplit(":", 1)[1],
            "base_url": url,
            "workers": "1",
            "secret_key": secrets.token_hex(32),
        },
        "api_auth": {"jwt_secret": secrets.token_hex(32)},
    }


def _database(home: Path) -> dict[str, str]:
    # Who has to wait for five seconds gives up otherwise, and a triggerer or scheduler ends by that.
    return {"sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}?timeout=60"}


def merged(*layers: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    result: dict[str, dict[str, str]] = {}
    for layer in layers:
        for section, options in layer.items():
            result.setdefault(section, {}).update(options)
    return result


def free_port(port: int = 0) -> int:
    """A loopback port that nobody listens on: the given one, or any; 0 when the given one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])
