"""What the requests of a job ask of their models: noted while they are spooled, checked before they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Need:
    """The most that the requests to one model ask of it."""

    max_tokens: int = 0
    images: bool = False
    pdfs: bool = False


@dataclass
class Needs:
    """What the requests of a job ask of their models; gathered while they are spooled."""

    models: dict[str, Need] = field(default_factory=dict)

    def add(self, params: Mapping[str, Any]) -> None:
        """Take note of the parameters of one valid request."""
        need = self.models.get(params["model"])
        if need is None:
            need = self.models[params["model"]] = Need()
        if params["max_tokens"] > need.max_tokens:
            need.max_tokens = params["max_tokens"]
        for message in params["messages"]:
            if not isinstance(message["content"], str):
                self.add_content(need, message["content"])

    @staticmethod
    def add_content(need: Need, content: Any) -> None:
        """Take note of images and PDFs."""
        for block in content:
            kind = block.get("type") if isinstance(block, Mapping) else None
            if kind == "image":
                need.images = True
            elif kind == "document":
                source = block.get("source")
                need.pdfs |= isinstance(source, Mapping) and source.get("media_type") == "application/pdf"
