"""Records from files on any store: found, opened, told apart and read, one row at a time.

``find`` says which files, ``stored`` opens them, ``read`` picks the reader; a reader yields rows as JSON
has them, and :class:`Broken` in the place of what cannot be read.
"""

from airflow_claude_batch.batches.requests.files.find import ROW_SUFFIXES, find_all
from airflow_claude_batch.batches.requests.files.options import ReadOptions
from airflow_claude_batch.batches.requests.files.read import read_files
from airflow_claude_batch.batches.requests.files.rows import Broken

__all__ = ["ROW_SUFFIXES", "Broken", "ReadOptions", "find_all", "read_files"]
