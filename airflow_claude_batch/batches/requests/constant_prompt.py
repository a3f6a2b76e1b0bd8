"""A template without a column: right for one question about many documents, a mistake for rows of data.

``{text}`` of ``str.format`` and ``$text`` of the shell are no Jinja, and would be sent as they are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.addresses import is_file_address
from airflow_claude_batch.batches.requests.descriptions import shorten

log = logging.getLogger(__name__)

_PLACEHOLDER = re.compile(
    r"\$?(?<!\{)\{\s*(?P<brace>[^{}]+?)\s*\}(?!\})|\$(?P<dollar>\w+)|%\((?P<percent>[^()]+)\)[a-z]"
)
_REST = re.compile(r"[!.\[]|:(?!\s)")
"""What follows a name between braces: a conversion, an attribute, an index, a format."""


class ConstantPrompt:
    """Looks at the first records that such a template is for.

    Args:
        text: What of the template is text.
        no_columns: Names that say something else of a record: its key, its documents.

    Raises:
        ConfigurationError: For the address of a file.
    """

    def __init__(self, text: str, no_columns: Collection[str | None]) -> None:
        if is_file_address(text):
            raise ConfigurationError(
                "The prompt is an address, which would be sent as it is: give the text of that file "
                "(--prompt @FILE on the command line). Nothing was sent."
            )
        self._placeholders: dict[str, str] = {}
        for match in _PLACEHOLDER.finditer(text):
            whole = match[match.lastgroup or 0]
            for name in (whole, _REST.split(whole, maxsplit=1)[0]):
                self._placeholders.setdefault(name, match[0])
        self._no_columns = no_columns
        self._is_first = True

    def is_settled(self, record: Mapping[str, Any], *, has_documents: bool) -> bool:
        """Whether there is nothing more to say, after what there is to say of this record.

        Raises:
            ConfigurationError: For a placeholder of another language that names a column.
        """
        columns = [name for name in record if name not in self._no_columns]
        for name in columns:
            if (written := self._placeholders.get(name)) is not None:
                raise ConfigurationError(
                    f"Nothing was sent. The prompt uses no column, and {written} in it is sent as it is "
                    f"written: the column is {_reference(name)}; to send it so, write {{{{ {written!r} }}}}."
                )
        if self._is_first and not has_documents:
            self._is_first = False
            return False
        if columns and not has_documents:
            log.warning(
                "The prompt uses no column, so that all records ask the same. Their columns are %s; %s in the"
                " prompt stands for what a record has there",
                shorten(sorted(columns), 300),
                _reference(next(filter(str.isidentifier, columns), columns[0])),
            )
        return True


def _reference(name: str) -> str:
    return f"{{{{ {name} }}}}" if name.isidentifier() else f"{{{{ record[{name!r}] }}}}"
