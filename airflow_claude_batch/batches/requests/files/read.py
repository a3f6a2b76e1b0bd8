"""From locations to rows: each file by the reader of its kind, and nothing but rows and faults out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from airflow_claude_batch.batches.errors import ClaudeBatchError
from airflow_claude_batch.batches.requests.files.arrow_files import read_orc, read_parquet
from airflow_claude_batch.batches.requests.files.avro import read_avro
from airflow_claude_batch.batches.requests.files.csv_rows import read_csv
from airflow_claude_batch.batches.requests.files.excel import read_xlsx
from airflow_claude_batch.batches.requests.files.find import ROW_SUFFIXES, find_all, suffix_of
from airflow_claude_batch.batches.requests.files.json_rows import is_json, read_json
from airflow_claude_batch.batches.requests.files.options import FORMATS, ReadOptions
from airflow_claude_batch.batches.requests.files.rows import Broken, Row, UnreadableFileError
from airflow_claude_batch.batches.requests.files.stored import Stored
from airflow_claude_batch.batches.storage import Folder

_MAGIC = (
    (b"PAR1", "parquet"),
    (b"PARE", "parquet"),
    (b"ORC", "orc"),
    (b"Obj\x01", "avro"),
    (b"PK\x03\x04", "xlsx"),
)
_READERS: dict[str, Callable[[Stored, ReadOptions], Iterator[Row]]] = {
    "jsonl": lambda stored, options: read_json(stored, options, lines=True),
    "json": lambda stored, options: read_json(stored, options, lines=False),
    "csv": read_csv,
    "tsv": lambda stored, options: read_csv(stored, options, tabs=True),
    "parquet": read_parquet,
    "orc": read_orc,
    "avro": read_avro,
    "xlsx": read_xlsx,
}
_TEXT = ("jsonl", "json", "csv", "tsv")


def read_files(
    locations: Iterable[Folder], options: ReadOptions | None = None, left_out: Counter[str] | None = None
) -> Iterator[Row]:
    """The rows of all files at the locations, in the order of their names.

    Args:
        locations: Files, globs, or directories, which are searched for files that end with one of
            ``ROW_SUFFIXES`` (or with anything, where the options name a format); names that begin with ``_``
            or ``.`` are left out.
        options: What the user says about the files.
        left_out: Counts what directories hold besides, by suffix.

    Raises:
        EmptyInputError: Where directories and globs hold no file.
        InputError: Where a file is not there, or of a kind that is not known.
        ConfigurationError: For a kind of file whose library is not installed.
    """
    said = options or ReadOptions()
    besides = Counter() if left_out is None else left_out
    # All locations are looked up before the first row is read: a typing error should not cost an hour.
    found = find_all(
        locations,
        ROW_SUFFIXES,
        left_out=besides,
        literal=said.literal,
        any_name=said.format is not None,
    )
    for file in found:
        yield from _read(file, said)


def _read(file: Folder, options: ReadOptions) -> Iterator[Row]:
    """The rows of a file. The store's own failures are raised; a retry of the task may cure them."""
    stored = None
    try:
        stored = Stored(file, options.compression)
        stored.look()
        rows = _READERS[_format(stored, options)](stored, options)
        first = next(rows, None)
        stored.say_guesses()
        if first is not None:
            yield first
            yield from rows
    except UnreadableFileError as error:
        yield error.broken(file.url)
    except (ClaudeBatchError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        # Libraries that read files raise all kinds of things at odd ones, which are no fault of the worker.
        if stored is None or stored.failure is not None:
            raise
        rule = "the file cannot be read any further: it is damaged, or holds what its reader does not know"
        yield Broken(where=file.url, value=type(error).__name__, rule=rule, ends=True)
    finally:
        if stored is not None:
            stored.say_guesses()
            stored.close()


def _format(stored: Stored, options: ReadOptions) -> str:
    """What a file is: what the user says, what its first bytes say, or its name."""
    if options.format is not None:
        return options.format
    named = FORMATS.get(suffix_of(stored.name), "")
    held = next((name for magic, name in _MAGIC if stored.head.startswith(magic)), None)
    if held is not None and held != named and not (held == "orc" and named in _TEXT):
        stored.guess(f"format {held}")
        return held
    if named in ("csv", "tsv") and not options.says_csv and is_json(stored.head):
        stored.guess("format json")
        return "json"
    return named
