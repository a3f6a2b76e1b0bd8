"""What the requests of a job ask of their models: noted while they are spooled, checked before they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_claude_batch.batches.requests.strict_schemas import asks_for_shape


@dataclass(kw_only=True)
class ModelRequirement:
    """The most that the requests to one model ask of it."""

    max_tokens: int = 0
    images: bool = False
    pdfs: bool = False
    shapes: bool = False
    """An output schema, or strict tools."""


@dataclass
class ModelRequirements:
    """What the requests of a job ask of their models; gathered while they are spooled."""

    models: dict[str, ModelRequirement] = field(default_factory=dict)

    def add(self, params: Mapping[str, Any]) -> None:
        """Take note of the parameters of one valid request."""
        required = self.models.get(params["model"])
        if required is None:
            required = self.models[params["model"]] = ModelRequirement()
        if params["max_tokens"] > required.max_tokens:
            required.max_tokens = params["max_tokens"]
        if not required.shapes and ("output_config" in params or "tools" in params):
            required.shapes = asks_for_shape(params)
        for message in params["messages"]:
            if type(message["content"]) is not str:
                _add_blocks(required, message["content"])


def _add_blocks(required: ModelRequirement, content: Any) -> None:
    for block in content if not isinstance(content, str) else ():
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "image":
            required.images = True
        elif kind == "document":
            source = block.get("source")
            required.pdfs |= isinstance(source, Mapping) and source.get("media_type") == "application/pdf"
