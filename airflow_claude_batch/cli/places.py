"""Where commands work: ``storage_path``, a job below it, and the API behind a connection."""

from __future__ import annotations

import argparse
import os
import shlex
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.errors import ClaudeBatchError, ConfigurationError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import BATCH_ID, find_claim
from airflow_claude_batch.batches.job.history import current_job
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.cli.command import NothingFoundError
from airflow_claude_batch.common.settings import open_folder, price_factor, storage_root

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.job.ledger import Ledger
    from airflow_claude_batch.batches.storage import Folder

DEFAULT_CONNECTION = "anthropic_default"


def storage(options: argparse.Namespace) -> Folder:
    """``storage_path``; it need not exist yet."""
    given = options.storage_path
    return storage_root(place_at(given) if given else None)


def existing_storage(options: argparse.Namespace) -> Folder:
    """``storage_path``, which must be there.

    Raises:
        ConfigurationError: Where there is no such folder or bucket.
    """
    root = storage(options)
    if not root.is_there:
        raise ConfigurationError(
            f"There is no {root.url}. Check [claude_batch] storage_path or --storage-path, and the "
            "connection that it names."
        )
    return root


def folder_at(place: str) -> Folder:
    """A folder that a person has named by a path or a URI."""
    return open_folder(place_at(place))


def place_at(place: str) -> str:
    """A path or a URI as a URI; a relative path is meant from where the person stands."""
    return place if "://" in place else f"file://{os.path.abspath(os.path.expanduser(place))}"  # noqa: PTH100, PTH111


def text_of(path: str, flag: str) -> str:
    """The text of a file that an argument names.

    Raises:
        ConfigurationError: Where it is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{flag} {path}: the file is no text in UTF-8.") from None


def retry_line(options: argparse.Namespace, name: str, *more: str) -> str:
    """The command that goes on with a job, as it can be pasted into a shell."""
    where = ("--storage-path", options.storage_path) if options.storage_path else ()
    return shlex.join(["claude-batch", "retry", name, *more, *where])


def find_job(root: Folder, text: str) -> tuple[Folder, Ledger]:
    """The job that a person has named: as ``list`` does, by its URL, by its task's folder, or by a batch.

    Raises:
        NothingFoundError: Where there is no such job.
        ConfigurationError: For a place outside of ``storage_path``.
    """
    if BATCH_ID.fullmatch(text):
        claim = find_claim(root, text)
        if claim is None:
            raise NothingFoundError(f"No job under {root.url} claims {text}.")
        text = claim.job
    folder = root_relative(root, url_of(root, text))
    ledger = ledgers.load(folder)
    if ledger is None:
        current = current_job(folder)
        if current is None:
            raise NothingFoundError(
                f"There is no job at {folder.url}. `claude-batch list` says how jobs are named."
            )
        return current.folder, current.ledger
    return folder, ledger


def url_of(root: Folder, text: str) -> str:
    """Where a job lies that is named by its URL, or as `list` does."""
    if "://" in text:
        return text
    return f"{root.url.rstrip('/')}/jobs/{text.strip('/').removeprefix('jobs/')}"


def owner_of(root: Folder, batch_id: str) -> tuple[Folder, Ledger] | str:
    """The job that claims a batch, with its ledger; else, in words, why there is none."""
    claim = find_claim(root, batch_id)
    if claim is None:
        return f"No job under {root.url} claims {batch_id}: something else has submitted it, or it was lost."
    part = f"{batch_id} is part {claim.part} of {claim.job}"
    try:
        return find_job(root, batch_id)
    except NothingFoundError:
        return f"{part}, whose ledger is lost. `claude-batch adopt` gives it to its task again."
    except ClaudeBatchError as error:
        return f"{part}, whose ledger says nothing: {error}"


def name_of(root: Folder, url: str) -> str:
    """A job as ``list`` names it."""
    return url.removeprefix(f"{root.url.rstrip('/')}/jobs/")


def api_of(options: argparse.Namespace, ledger: Ledger | None = None) -> BatchesApi:
    """The API over the connection that the person has named, else the job's."""
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

    recorded = ledger.conn_id if ledger is not None else ""
    return ClaudeBatchHook(options.conn_id or recorded or DEFAULT_CONNECTION).batches


def price_factor_of(api: BatchesApi) -> Decimal:
    """The discount of the connection that an API is reached over, else the setting's."""
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

    return price_factor(ClaudeBatchHook(api.conn_id).connection_price_factor)
