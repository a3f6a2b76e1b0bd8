"""What a distributed Airflow stands on: PostgreSQL, Redis and an S3 server, each one process on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.local_airflow import free_port
from tests.harness.processes import ManagedProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

START_SECONDS = 30
POSTGRES_BINARIES = Path("/usr/lib/postgresql")
POSTGRES_USER = "postgres"
BUCKET = "claude"
REGION = "us-east-1"


def install_missing() -> None:
    """Install PostgreSQL and Redis from Debian's packages where they are missing."""
    missing = []
    if not list(POSTGRES_BINARIES.glob("*/bin/postgres")):
        missing.append("postgresql")
    if shutil.which("redis-server") is None:
        missing.append("redis-server")
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    # In run level 1 a package's services are not started: the cluster starts its own.
    quiet = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq", "-y"]
    subprocess.run([*quiet, "update"], check=True, timeout=120)
    subprocess.run([*quiet, "install", *missing], stdout=subprocess.DEVNULL, check=True, timeout=300)


class Service:
    """A server process; `start` returns when it accepts connections."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: ManagedProcess | None = None

    def command(self) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def env(self) -> Mapping[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}

    def start(self) -> None:
        log_file = self.folder / f"{self.name}.log"
        self.process = ManagedProcess(self.name, self.command(), env=self.env(), log_file=log_file)
        wait_until(self._accepts, START_SECONDS, f"{self.name} to accept connections")

    def stop(self) -> None:
        """End it in order, and whatever it started."""
        if self.process is not None and self.process.is_running():
            self.process.signal(signal.SIGINT)
            wait_until(lambda: not self.process or not self.process.is_running(), 20, f"{self.name} to end")

    def _accepts(self) -> bool:
        assert self.process is not None
        self.process.check()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Postgres(Service):
    """A PostgreSQL with one database, `airflow`, whose data outlive a restart."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        newest = max(POSTGRES_BINARIES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
        self._binaries = newest.parent
        self._data = folder / "postgres"

    @property
    def url(self) -> str:
        return f"{POSTGRES_USER}@127.0.0.1:{self.port}/airflow"

    def create(self) -> None:
        """Start it for the first time."""
        self._data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self._data, POSTGRES_USER, POSTGRES_USER)
        initdb = self._as_user("initdb", "-D", str(self._data), "-U", POSTGRES_USER, "--auth=trust", "-N")
        subprocess.run(initdb, stdout=subprocess.DEVNULL, check=True, timeout=60, cwd="/")
        self.start()
        wait_until(self._create_database, START_SECONDS, "PostgreSQL to create a database")

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "off",  # the machine does not crash in these tests, only processes do
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        return self._as_user("postgres", "-D", str(self._data), *settings)

    def _create_database(self) -> bool:
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", POSTGRES_USER)
        command = [str(self._binaries / "createdb"), *address, "airflow"]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        # PostgreSQL refuses to run as root. setpriv becomes the program, so signals reach it.
        groups = (f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--init-groups")
        user = ["setpriv", *groups] if os.geteuid() == 0 else []
        return [*user, str(self._binaries / program), *arguments]


class Redis(Service):
    """Celery's broker."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        address = ("--bind", "127.0.0.1", "--port", str(self.port))
        return ["redis-server", *address, "--save", "", "--appendonly", "no", "--dir", str(self.folder)]


class S3(Service):
    """moto's server: objects in memory, conditional writes and multipart uploads as on S3."""

    name = "s3"

    @property
    def connection(self) -> dict[str, object]:
        """An Airflow connection to it."""
        url = f"http://127.0.0.1:{self.port}"
        extra = {"endpoint_url": url, "region_name": REGION}
        return {"conn_type": "aws", "login": "any", "password": "any", "extra": extra}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def bucket(self) -> Bucket:
        return Bucket(self.port)


class Bucket:
    """What lies in the bucket, asked of the server itself."""

    def __init__(self, port: int) -> None:
        import boto3

        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": REGION}
        self._client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)

    def create(self) -> None:
        self._client.create_bucket(Bucket=BUCKET)

    def keys(self, prefix: str) -> list[str]:
        """Every object's key, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
