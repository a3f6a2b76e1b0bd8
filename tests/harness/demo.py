"""`make demo` and `make ui`: one DAG on real Airflow, told as it happens.

Everything runs on this machine: Airflow in `.demo/airflow`, and the emulator in place of Anthropic's API.
With `--live` it is the real API, the key comes from ANTHROPIC_API_KEY, and the bill is yours: five accounts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import importlib.util
import json
import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.emulator.testing import Emulator
from tests.harness import outsider
from tests.harness.local_airflow import PASSWORD, USERNAME, LocalAirflow, airflow_environment, free_port
from tests.harness.processes import ManagedProcess, ProcessFailed, WaitTimeout, stop_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
DAGS = REPOSITORY / "dags"
UI_PORT = 8080
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

BATCH_SECONDS = 12
SLOW_SECONDS = 3600
RUN_SECONDS = 180
EMULATOR_SETTINGS: dict[str, Any] = {"outcomes": {"errored": {"overloaded_error": 0.015}, "expired": 0.01}}
SLOW_SETTINGS = {"message_seconds": 0.5, "cancel_duration": 3, "cancel_finished_share": 0.4}
"""The batch takes an hour, and the report is needed in a minute."""
SLOW_CONF: dict[str, Any] = {"deadline": "PT1M", "direct_minutes": 0.7}

APPROVALS = {"trial_then_approve": "approve"}
"""Tasks that wait for a person, by DAG."""
WAITING = ("deferred", "awaiting_input")

RUNS: dict[str, list[dict[str, Any]]] = {"incremental_summaries": [{"night": night} for night in (1, 2, 3)]}
"""DAGs that show what they are for over several runs, with the conf of each."""
SHOWN_LINES, SHOWN_CHARACTERS = 6, 110

LIVE_ACCOUNTS = 5
LIVE_HOURS = 25
CHARACTERS_PER_TOKEN = 3  # on the safe side: English text has about 4

started = time.monotonic()


def main() -> int:
    arguments = parse_arguments()
    if arguments.live and not os.environ.get("ANTHROPIC_API_KEY"):
        print("LIVE=1 uses the real API: set ANTHROPIC_API_KEY.", file=sys.stderr)
        return 2
    for number in INTERRUPTS:
        signal.signal(number, interrupt)
    arguments.folder.mkdir(exist_ok=True)
    with only_one_at_a_time(arguments.folder), contextlib.ExitStack() as stack:
        try:
            return demo(arguments, stack)
        except Interrupted:
            say("stopping", "interrupted")
            return 130
        except (ProcessFailed, WaitTimeout) as error:
            say("failed", str(error))
            return 1
        finally:
            ignore_interrupts()


def demo(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    conf: dict[str, Any] = {}
    url = ""
    if arguments.live:
        conf = {"accounts": LIVE_ACCOUNTS}
        say("API", f"Anthropic's own; {live_estimate(arguments.dag)}")
        connection = {"conn_type": "anthropic", "password": os.environ["ANTHROPIC_API_KEY"]}
    else:
        seconds = SLOW_SECONDS if arguments.slow else BATCH_SECONDS
        url = start_emulator(stack, arguments.folder, seconds, SLOW_SETTINGS if arguments.slow else {})
        conf = SLOW_CONF if arguments.slow else {}
        say("API", f"emulated at {url}; a batch takes {seconds} s, and answers are made up")
        if arguments.slow:
            say("deadline", "in one minute: what the batch leaves open is asked by single calls")
        connection = {"conn_type": "anthropic", "password": "any-key", "host": url}

    say("Airflow", "starting API server, scheduler, DAG processor and triggerer …")
    airflow = LocalAirflow(
        arguments.folder / "airflow",
        dag_folders=[DAGS],
        connections={"anthropic_default": connection},
        settings=outsider.SETTINGS if arguments.dag == outsider.DAG else None,
        port=UI_PORT if arguments.stay and free_port(UI_PORT) else 0,
    )
    stack.callback(airflow.stop)
    airflow.start()
    say("Airflow", f"{airflow.url} (log in as {USERNAME}, password {PASSWORD})")

    airflow.api.wait_for_dag(arguments.dag)
    state = ""
    for run_conf in RUNS.get(arguments.dag, [conf]):
        run_id = begin(airflow, arguments.dag, run_conf, url)
        say("run", f"{arguments.dag} {run_id} {run_conf or ''}")
        state = follow(airflow, arguments.dag, run_id, LIVE_HOURS * 3600 if arguments.live else RUN_SECONDS)
        if state != "success":
            print_failures(airflow, arguments.dag, run_id)
            break
        print_results(airflow, arguments.dag, run_id)
    if arguments.stay:
        print(f"\n{airflow.url}/dags/{arguments.dag} — {USERNAME} / {PASSWORD} — Ctrl-C stops it", flush=True)
        stay(airflow)
    return 0 if state == "success" else 1


def begin(airflow: LocalAirflow, dag_id: str, conf: dict[str, Any], url: str) -> str:
    """Start a run, or do what starts one; returns its id."""
    if dag_id != outsider.DAG:
        return airflow.api.trigger(dag_id, conf)
    say("watching", "the workspace, for any batch that ends")
    outsider.begin_watching(airflow, Emulator(url))
    say("outside", f"somebody submits {outsider.submit(url)}; Airflow is not told")
    return outsider.wait_for_its_run(airflow)


def follow(airflow: LocalAirflow, dag_id: str, run_id: str, timeout: float) -> str:
    """Say each change of a task's state until the run has finished."""
    said: dict[tuple[str, int], str] = {}

    def say_changes() -> None:
        instances = airflow.api.task_instances(dag_id, run_id)
        for instance in sorted(instances, key=lambda one: one["start_date"] or "9"):
            key, state = (instance["task_id"], instance["map_index"]), instance["state"]
            if state in {None, "scheduled", "queued", said.get(key)}:
                continue
            said[key] = state
            say(task_name(instance), state if state != "deferred" else "deferred: " + slots(airflow))
            if state in WAITING and APPROVALS.get(dag_id) == instance["task_id"]:
                airflow.api.respond(dag_id, run_id, instance["task_id"], "Approve")
                say(task_name(instance), "approved by this script, through Airflow's API")

    return airflow.api.wait_for_run(dag_id, run_id, timeout, on_poll=say_changes)


def task_name(instance: dict[str, Any]) -> str:
    index = instance["map_index"]
    return str(instance["task_id"] if index < 0 else f"{instance['task_id']}[{index}]")


def slots(airflow: LocalAirflow) -> str:
    pool = airflow.api.pool()
    return f"no worker slot held ({pool['occupied_slots']} of {pool['slots']} occupied)"


def print_results(airflow: LocalAirflow, dag_id: str, run_id: str) -> None:
    """What the tasks returned, one after the other: summaries of jobs, their own values, and files."""
    for instance in sorted(
        airflow.api.task_instances(dag_id, run_id), key=lambda one: one["start_date"] or "9"
    ):
        name = task_name(instance)
        value = airflow.api.xcom(dag_id, run_id, instance["task_id"], map_index=instance["map_index"])
        if isinstance(value, dict) and "counts" in value:
            print_summary(name, value)
        elif isinstance(value, dict) and "job" not in value:
            print(f"\n{name}:\n{textwrap.indent(textwrap.shorten(json.dumps(value), 400), '    ')}")
        elif isinstance(value, str) and value.startswith("file://") and local_path(value).is_file():
            print_file(name, local_path(value))


def print_file(name: str, file: Path) -> None:
    lines = file.read_text().splitlines()
    print(f"\n{name}: {shown(file)}")
    for line in lines[:SHOWN_LINES]:
        print(f"    {line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + '…'}")
    if len(lines) > SHOWN_LINES:
        print(f"    … {len(lines) - SHOWN_LINES:,} more lines")


def print_summary(name: str, summary: dict[str, Any]) -> None:
    counts, usage, cost = summary["counts"], summary["usage"], summary.get("cost") or {}
    outcomes = [
        f"{number:,} {outcome}" for outcome, number in counts.items() if outcome != "total" and number
    ]
    print(f"\n{name}:")
    print(f"Requests  {counts['total']:,} in {len(summary['batch_ids'])} batch(es): {', '.join(outcomes)}")
    if summary.get("deadline"):
        ways = ", ".join(f"{told['requests']:,} {way}" for way, told in summary["ways"].items())
        kept = "kept" if summary["on_time"] else "missed"
        print(f"Deadline  {kept} ({summary['deadline']}); answered: {ways}")
    if summary["errors"]:
        print("Errors    " + ", ".join(f"{number:,} {kind}" for kind, number in summary["errors"].items()))
    cached = usage.get("cache_read_input_tokens") or 0
    print(
        f"Tokens    {usage['input_tokens']:,} in, {usage['output_tokens']:,} out"
        + (f", {cached:,} read from cache" if cached else "")
    )
    if "reused" in summary:
        share, saved = summary["asked"] / max(counts["total"], 1), summary["saved_by_reuse_usd"] or 0
        print(f"Asked     {summary['asked']:,} ({share:.0%}); {summary['reused']:,} had their answer already")
        print(f"Saved     ${saved:.4f} by reuse")
    if cost.get("total_usd") is not None:
        print(f"Cost      ${cost['total_usd']:.4f}")
    if not summary.get("summary_path"):
        return
    folder = local_path(summary["summary_path"]).parent
    print(f"Files     {shown(folder)}/")
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        print(f"            {file.relative_to(folder)}  {file.stat().st_size:,} bytes")
    answer = first_answer(folder / "succeeded")
    if answer is not None:
        text = textwrap.shorten(answer["text"], 350, placeholder=" …")
        print(f"An answer ({answer['custom_id']}):")
        print(textwrap.indent(textwrap.fill(text, 88), " " * 12))


def first_answer(folder: Path) -> dict[str, Any] | None:
    """A succeeded record, in whichever format they are."""
    for part in sorted(folder.iterdir()):
        if part.suffix == ".jsonl":
            with part.open() as lines:
                return json.loads(next(lines, "null"))  # type: ignore[no-any-return]
        if part.suffix == ".parquet":
            from pyarrow import parquet

            rows = parquet.read_table(part, columns=["custom_id", "text"]).slice(0, 1).to_pylist()
            return rows[0] if rows else None
    return None


def print_failures(airflow: LocalAirflow, dag_id: str, run_id: str) -> None:
    for instance in airflow.api.task_instances(dag_id, run_id):
        if instance["state"] == "failed":
            task_id, map_index = instance["task_id"], instance["map_index"]
            log = airflow.api.task_log(dag_id, run_id, task_id, map_index=map_index)
            print(f"\nTask {task_id} failed; the end of its log:")
            print("\n".join(f"    {line}" for line in log.splitlines()[-40:]))


def stay(airflow: LocalAirflow) -> None:
    while True:
        time.sleep(1)
        airflow.check()


def start_emulator(
    stack: contextlib.ExitStack, folder: Path, batch_seconds: float, settings: dict[str, Any]
) -> str:
    """Start the emulator as a process; returns its URL."""
    ready_file = folder / "emulator.url"
    ready_file.unlink(missing_ok=True)
    settings_file = folder / "emulator-settings.json"
    settings_file.write_text(json.dumps({**EMULATOR_SETTINGS, **settings}))
    command = ["-m", "airflow_claude_batch.emulator", "--port", "0", "--duration", str(batch_seconds)]
    emulator = ManagedProcess(
        "emulator",
        [sys.executable, *command, "--settings", str(settings_file), "--ready-file", str(ready_file)],
        env=airflow_environment(folder, {}),
        log_file=folder / "emulator.log",
    )
    stack.callback(stop_all, [emulator])

    def url() -> str | None:
        emulator.check()
        return ready_file.read_text().strip() if ready_file.exists() else None

    return wait_until(url, 30, "the emulator to be ready")


def live_estimate(dag_id: str) -> str:
    """The most that the live run can cost, in words."""
    from genai_prices import Usage, calc_price

    if dag_id != "nightly_report":
        raise SystemExit("LIVE=1 knows what nightly_report costs, and no other DAG.")
    module = load_dag_file(dag_id)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    requests = list(module.report_requests({"accounts": LIVE_ACCOUNTS}, today))
    characters = sum(len(module.SYSTEM) + len(request["prompt"]) for request in requests)
    usage = Usage(
        input_tokens=characters // CHARACTERS_PER_TOKEN,
        output_tokens=len(requests) * module.submit.max_tokens,
    )
    price = calc_price(
        usage, module.submit.model, provider_id="anthropic", price_context={"processing": "batch"}
    )
    return f"{len(requests)} requests to {module.submit.model} cost ${price.total_price:.4f} at most"


def load_dag_file(dag_id: str) -> Any:
    spec = importlib.util.spec_from_file_location(dag_id, DAGS / f"{dag_id}.py")
    if not (spec and spec.loader):
        raise SystemExit(f"no DAG file dags/{dag_id}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def local_path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def shown(path: Path) -> Path:
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


@contextlib.contextmanager
def only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Two demos in one folder would remove each other's Airflow."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"A demo is running already in {folder}; stop it first.") from None
        yield


def say(who: str, what: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"{minutes:2}:{seconds:02}  {who:12}  {what}", flush=True)


class Interrupted(BaseException):
    """Someone wants this to end.

    Not KeyboardInterrupt: where that goes through an `exec` of text, as in the making of a dataclass, Python
    ends itself by SIGINT in the end, although it was caught.
    """


def interrupt(*_: object) -> None:
    ignore_interrupts()
    raise Interrupted


def ignore_interrupts() -> None:
    """From here on only stopping is left. It is bounded, and interrupting it would leave processes behind."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dag", nargs="?", default="nightly_report", help="a file of dags/, without .py")
    parser.add_argument("--live", action="store_true", help="use Anthropic's API and ANTHROPIC_API_KEY")
    parser.add_argument("--slow", action="store_true", help="a batch that is late for a deadline")
    parser.add_argument("--stay", action="store_true", help="keep Airflow running until Ctrl-C")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".demo", help="where Airflow lives")
    arguments = parser.parse_args()
    if not (DAGS / f"{arguments.dag}.py").exists():
        known = ", ".join(sorted(file.stem for file in DAGS.glob("*.py")))
        parser.error(f"no DAG file dags/{arguments.dag}.py; there are: {known}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
