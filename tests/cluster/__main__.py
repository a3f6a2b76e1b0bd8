"""`make cluster`: a distributed Airflow that stays up for a browser, or for faults by hand, until Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path

from airflow_claude_batch.emulator.testing import start_emulator
from tests.cluster.cluster import COMPONENTS, Cluster
from tests.harness.local_airflow import PASSWORD, USERNAME, free_port

PORT = 8080
DAGS = Path(__file__).parents[2] / "dags"


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("Starting PostgreSQL, Redis, S3 and a distributed Airflow; about a minute …", flush=True)
    with (
        start_emulator() as emulator,
        Cluster(emulator.url, dag_folders=[DAGS], port=free_port(PORT)) as cluster,
    ):
        print(f"Airflow     {cluster.url}   {USERNAME} / {PASSWORD}")
        print(f"API         {emulator.url}   (emulated; /_emulator/state)")
        print(f"S3          http://127.0.0.1:{cluster.s3.port}   (connection 'objects')")
        print(f"PostgreSQL  postgresql://{cluster.postgres.url}")
        print(f"Logs, homes {cluster.folder}")
        for name in COMPONENTS:
            print(f"  {name:14} process {cluster.component(name).pid}")
        print("Ctrl-C ends and removes all of it.", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping …", flush=True)


if __name__ == "__main__":
    main()
