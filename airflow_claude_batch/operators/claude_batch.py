"""Submitting, waiting and delivering as one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.operators.results import ClaudeBatchResultsOperator
from airflow_claude_batch.operators.submit import ClaudeBatchSubmitOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class ClaudeBatchOperator(ClaudeBatchSubmitOperator, ClaudeBatchResultsOperator):
    """Send requests as message batches, wait without a worker slot, deliver, and return the summary.

    It is ``ClaudeBatchSubmitOperator`` and ``ClaudeBatchResultsOperator`` one after the other, takes
    the arguments of both except ``batch``, and does what they do. A retry goes on where the last try
    stopped: it neither asks the source again nor pays again.

    :returns: the summary, see ``ClaudeBatchResultsOperator``
    """

    template_fields: Sequence[str] = (*ClaudeBatchSubmitOperator.template_fields, "output_path")

    operator_extra_links = ClaudeBatchResultsOperator.operator_extra_links

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(batch=None, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit what is not submitted yet, then wait for it and deliver it.

        After each wait it starts again from here, perhaps on another worker: the ledger knows the rest.
        """
        self.batch = ClaudeBatchSubmitOperator.execute(self, context)
        return ClaudeBatchResultsOperator.execute(self, context)
