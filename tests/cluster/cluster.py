"""A distributed Airflow on this machine, for the tests beside this file and for `make cluster`.

API server, scheduler, DAG processor, two triggerers and two Celery workers, each with an AIRFLOW_HOME and a
scratch disk of its own; they share PostgreSQL, Redis, S3 and the DAG files, and nothing else.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from tests.cluster.services import BUCKET, S3, Postgres, Redis, install_missing
from tests.harness.airflow_api import AirflowApi
from tests.harness.local_airflow import (
    PASSWORD,
    USERNAME,
    airflow_environment,
    common_settings,
    free_port,
    merged,
    server_settings,
    write_settings,
)
from tests.harness.processes import ManagedProcess, stop_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
COMPONENTS = ("api-server", "scheduler", "dag-processor", *TRIGGERERS, *WORKERS)
SLOTS = 2
"""Tasks that a worker runs at once."""
PRELOADED = ("anthropic", "httpcore2", "genai_prices", "airflow.providers.amazon.aws.fs.s3", "s3fs")
START_SECONDS = 180
EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
STORAGE = "claude_batch"
"""Prefix in the bucket of what the package stores."""
REPOSITORY = Path(__file__).parents[2]


class Cluster:
    """The processes and what they share; use it as a context manager.

    Args:
        api_url: the Message Batches API.
        dag_folders: directories with DAG files, besides that of `write_dag`.
        port: the API server's; 0 takes a free one.
    """

    def __init__(self, api_url: str, *, dag_folders: Sequence[Path] = (), port: int = 0) -> None:
        install_missing()
        self.folder = Path(tempfile.mkdtemp(prefix="claude-batch-cluster-"))
        self.folder.chmod(0o711)  # PostgreSQL's user has to get to its data
        self.postgres, self.redis, self.s3 = (kind(self.folder) for kind in (Postgres, Redis, S3))
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self.api = AirflowApi(self.url)
        self.dags = self.folder / "dags"
        self.dags.mkdir()
        self.logs = self.folder / "logs"
        self._processes: dict[str, ManagedProcess] = {}
        self._started_at: dict[str, datetime.datetime] = {}
        self._retired: list[ManagedProcess] = []
        self._connections: dict[str, Mapping[str, Any]] = {
            "anthropic_default": {"conn_type": "anthropic", "password": "any-key", "host": api_url},
            "objects": self.s3.connection,
        }
        self._fernet_key = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        common = common_settings(self.folder, [self.dags, *dag_folders])
        self._settings = merged(common, server_settings(self.url), self._distributed())

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process that was started here and what those started; remove all files."""
        with contextlib.ExitStack() as stack:  # what fails or is interrupted keeps none of the rest
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for service in (self.postgres, self.redis, self.s3):
                stack.callback(service.stop)
            stack.callback(self.api.close)
            stop_all([*self._processes.values(), *self._retired])

    def home(self, component: str) -> Path:
        """AIRFLOW_HOME of one component."""
        return self.folder / component

    def write_dag(self, name: str, source: str) -> None:
        """Put a DAG file where all components find it."""
        (self.dags / f"{name}.py").write_text(source)

    # Faults

    def component(self, name: str) -> ManagedProcess:
        """One of `COMPONENTS`."""
        return self._processes[name]

    def start_component(self, name: str) -> None:
        if name in self._processes:
            self._retired.append(self._processes[name])
        log_file = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "airflow", *_arguments(name)]
        self._started_at[name] = _now()
        self._processes[name] = ManagedProcess(name, command, env=self._env(name), log_file=log_file)

    def kill_machine(self, name: str) -> None:
        """SIGKILL for a component and all its children at once, as when its machine is lost."""
        members = self.component(name).members()
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGSTOP)
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()

    def heal(self, since: datetime.datetime | None = None) -> None:
        """Start what has ended until all are at work, as what supervises components in earnest does.

        Args:
            since: each component has to give a sign of life later than this.
        """

        def is_whole() -> bool:
            for name, process in list(self._processes.items()):
                if not process.is_running():
                    self.start_component(name)
            return self._is_at_work(since)

        wait_until(is_whole, START_SECONDS, "all components to be at work")

    # How it is set up

    def _start(self) -> Self:
        self.postgres.create()
        self.redis.start()
        self.s3.start()
        self.s3.bucket().create()
        for name in COMPONENTS:
            self._create_home(name)
        self._migrate()
        for name in COMPONENTS:
            self.start_component(name)
        wait_until(self._answers, START_SECONDS, "the API server to answer")
        self.api.log_in(USERNAME, PASSWORD)
        self.api.prepare_for_tasks()
        wait_until(self._has_started, START_SECONDS, "all components to be at work")
        return self

    def _create_home(self, name: str) -> None:
        home = self.home(name)
        (home / "tmp").mkdir(parents=True)
        write_settings(home, self._settings)
        passwords = home / "simple_auth_manager_passwords.json.generated"
        passwords.write_text(json.dumps({USERNAME: PASSWORD}))

    def _migrate(self) -> None:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        with (self.folder / "migrate.log").open("wb") as log:
            env = self._env("scheduler")
            subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT, check=True, timeout=180)

    def _env(self, component: str) -> dict[str, str]:
        home = self.home(component)
        return airflow_environment(home, self._connections) | {
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(":"),
            "TMPDIR": str(home / "tmp"),
            "CLUSTER_COMPONENT": component,
        }

    def _distributed(self) -> dict[str, dict[str, str]]:
        database = f"postgresql+psycopg2://{self.postgres.url}"
        return {
            "core": {
                "executor": "CeleryExecutor",
                "parallelism": "64",
                "max_active_tasks_per_dag": "64",
                "fernet_key": self._fernet_key,
                "hostname_callable": "tests.cluster.hostname.component",
            },
            "database": {"sql_alchemy_conn": database},
            "celery": {
                "broker_url": self.redis.url,
                "result_backend": f"db+postgresql://{self.postgres.url}",
                "worker_concurrency": str(SLOTS),
                # A worker loads these before it forks; otherwise each task does.
                "extra_celery_config": json.dumps({"imports": PRELOADED}),
            },
            # Only log files are shared between the homes, in place of remote logging.
            "logging": {"base_log_folder": str(self.logs)},
            "scheduler": {
                "use_job_schedule": "True",
                # By default Airflow takes minutes to notice that a task or a machine is gone. A new API
                # server may take half a minute to start: no task is ended for that, no batch cancelled.
                "task_instance_heartbeat_timeout": "40",
                "task_instance_heartbeat_timeout_detection_interval": "3",
                "orphaned_tasks_check_interval": "15",
                "scheduler_health_check_threshold": "15",
            },
            "triggerer": {"triggerer_health_check_threshold": "10", "job_heartbeat_sec": "2"},
            "claude_batch": {
                "storage_path": f"s3://objects@{BUCKET}/{STORAGE}",
                "reconcile_grace_seconds": "5",
            },
        }

    def _answers(self) -> bool:
        self._check()
        return bool(self.api.health())

    def _has_started(self) -> bool:
        self._check()
        return self._is_at_work()

    def _check(self) -> None:
        for process in self._processes.values():
            process.check()

    def _is_at_work(self, since: datetime.datetime | None = None) -> bool:
        heartbeats = self.api.heartbeats()
        return all(self._takes_tasks(name) for name in WORKERS) and all(
            name in heartbeats and heartbeats[name] > max(self._started_at[name], since or EPOCH)
            for name in ("scheduler", "dag-processor", *TRIGGERERS)
        )

    def _takes_tasks(self, worker: str) -> bool:
        # Each start of a worker ends with this line in its log; asking Celery itself takes seconds.
        started = 1 + sum(process.name == worker for process in self._retired)
        return (
            self.component(worker).log_tail(100_000).count(f"{worker}@{socket.gethostname()} ready.")
            == started
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _arguments(component: str) -> list[str]:
    if component in WORKERS:
        queues = f"default,{component}"
        return [
            "celery",
            "worker",
            "--celery-hostname",
            f"{component}@%h",
            "--queues",
            queues,
            "--skip-serve-logs",
        ]
    if component in TRIGGERERS:
        return ["triggerer", "--skip-serve-logs"]
    return ["scheduler", "--skip-serve-logs"] if component == "scheduler" else [component]
