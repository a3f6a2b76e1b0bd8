"""The directive ``generated``: parts of the reference that are made from the code that defines them.

``{generated} settings`` and the like; each is a function below, which returns Markdown.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, ClassVar

import declared
import part_states
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

EXAMPLES = Path(__file__).with_name("examples.json")
"""What came out of a job of five requests; ``python -m tests.docs_examples`` writes it anew."""


def arguments(declaration: str) -> str:
    """The arguments of an operator."""
    from airflow_claude_batch.operators import arguments as module

    kind = getattr(module, declaration)
    operator: Any = declared.import_name(OPERATORS[declaration])
    own = module.own_arguments(kind)
    known = {field.name: field for field in declared.fields_of(kind, own)}
    return "\n\n".join(
        _entry(
            name,
            known[name].annotation,
            "required" if name in kind.__required_keys__ else f"default `{module.DEFAULTS.get(name)!r}`",
            "a template" if name in operator.template_fields else "",
            doc=known[name].doc,
        )
        for name in own
    )


OPERATORS = {
    "SubmitArguments": "airflow_claude_batch.ClaudeBatchSubmitOperator",
    "SensorArguments": "airflow_claude_batch.ClaudeBatchSensor",
    "ResultsArguments": "airflow_claude_batch.ClaudeBatchResultsOperator",
    "BatchArguments": "airflow_claude_batch.ClaudeBatchOperator",
}


def groups() -> str:
    """The groups of settings, with their fields."""
    from airflow_claude_batch import options

    return "\n\n".join(_group(kind) for kind in options.Options.__subclasses__())


def _group(kind: Any) -> str:
    entries = [
        _entry(field.name, field.annotation, f"default `{field.default}`", doc=field.doc)
        for field in declared.fields_of(kind)
        if field.name in {one.name for one in dataclass_fields(kind)}
    ]
    signature = ", ".join(f"{field.name}={field.default!r}" for field in dataclass_fields(kind))
    name = f"airflow_claude_batch.{kind.__name__}(*, {signature})"
    described = f"```{{py:class}} {name}\n\n{declared.doc_of(kind)}\n```"
    plain = [f"A plain value in its place stands for `{kind.plain}`."] if kind.plain else []
    return "\n\n".join([f"## {kind.__name__}", described, *plain, *entries])


def fields(dotted: str) -> str:
    """The fields of any class, with their types."""
    found = declared.fields_of(declared.import_name(dotted))
    return "\n\n".join(_entry(field.name, field.annotation, doc=field.doc) for field in found)


def settings() -> str:
    """Airflow's section ``[claude_batch]``."""
    from airflow_claude_batch.get_provider_info import get_provider_info

    [(section, content)] = get_provider_info()["config"].items()
    entries = []
    for name, option in sorted(content["options"].items()):
        example = f"example `{option['example']}`" if option["example"] else ""
        default = f"default `{option['default']}`" if option["default"] else "not set"
        variable = f"`AIRFLOW__{section.upper()}__{name.upper()}`"
        doc = option["description"].strip()
        entries.append(_entry(name, option["type"], default, example, variable, doc=doc))
    return "\n\n".join(entries)


def exception_tree() -> str:
    """The drawing of all errors."""
    from airflow_claude_batch.batches import errors

    drawing = (errors.__doc__ or "").partition("::\n")[2].strip("\n")
    return "```text\n" + "\n".join(line[4:] for line in drawing.splitlines()) + "\n```"


def exceptions() -> str:
    """What each error means, by whether a retry may help."""
    from airflow_claude_batch.batches import errors

    parts = []
    for base in (errors.Transient, errors.Final):
        parts += [f"## {base.__name__}", declared.doc_of(base)]
        for kind in _below(base):
            parts.append(_entry(kind.__name__, doc=declared.doc_of(kind).partition("\n\nArgs:")[0]))
    return "\n\n".join(parts)


def _below(base: type) -> list[type]:
    return [kind for child in base.__subclasses__() for kind in (child, *_below(child))]


def docstring(dotted: str) -> str:
    """A module's docstring, tables included."""
    return "```{eval-rst}\n" + declared.doc_of(declared.import_name(dotted)) + "\n```"


def example(name: str) -> str:
    """What the emulator made of a small job."""
    value = json.loads(EXAMPLES.read_text())[name]
    return "```json\n" + json.dumps(value, indent=2, ensure_ascii=False) + "\n```"


def names() -> str:
    """Everything that can be imported from the package, each a link to its description."""
    import airflow_claude_batch

    lines = ["| name | what it is |", "|---|---|"]
    for name in airflow_claude_batch.__all__:
        first = declared.doc_of(getattr(airflow_claude_batch, name)).partition("\n\n")[0].replace("\n", " ")
        lines.append(f"| {{py:obj}}`~airflow_claude_batch.{name}` | {first.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def example_dags() -> str:
    """Every file of the repository's folder ``dags``."""
    files = sorted((Path(__file__).parents[2] / "dags").glob("*.py"))
    return "\n\n".join(f"## {file.stem}\n\n```python\n{file.read_text().rstrip()}\n```" for file in files)


def document_limits() -> str:
    """What the API takes of documents."""
    from airflow_claude_batch.batches.requests import document_blocks as blocks
    from airflow_claude_batch.batches.requests import documents as reader

    small_pages, small_images = reader.SMALL_FOR_PAGES, reader.SMALL_FOR_IMAGES
    rows = [
        ("all documents of one request, in base64", f"{blocks.LARGEST_REQUEST / 1e6:.0f} MB"),
        ("an image, in base64", f"{blocks.LARGEST_IMAGE / 1024**2:.0f} MiB"),
        ("an image's width and height", f"{blocks.LARGEST_SIDE:,} pixels"),
        (
            f"the same where a request has more than {reader.FEW_IMAGES} images",
            f"{reader.LARGEST_SIDE_OF_MANY:,} pixels",
        ),
        ("PDF pages of one request", f"{reader.MOST}"),
        (
            f"the same for a model whose context window has at most {small_pages:,} tokens",
            f"{reader.MOST_IN_SMALL_CONTEXT}",
        ),
        ("images and PDFs of one request", f"{reader.MOST}"),
        (
            f"the same for a model whose context window has at most {small_images:,} tokens",
            f"{reader.MOST_IN_SMALL_CONTEXT}",
        ),
    ]
    return _table(("what", "at most"), rows)


def cache_minimums() -> str:
    """The shortest prefix that each model caches."""
    from airflow_claude_batch.batches.requests import prompt_cache

    rows = [(f"`{start}…`", f"{tokens:,}") for start, tokens in prompt_cache.MINIMUM_TOKENS.items()]
    return _table(("model", "tokens"), [*rows, ("others", f"{prompt_cache.USUAL_MINIMUM_TOKENS:,}")])


def message_parameters() -> str:
    """The keys of a short record that are sent."""
    from airflow_claude_batch.batches.requests.parameters import MESSAGE_PARAMETERS

    return ", ".join(f"`{name}`" for name in sorted(MESSAGE_PARAMETERS))


def refused_parameters() -> str:
    """What message batches refuse, and the way out."""
    from airflow_claude_batch.batches.requests.parameters import REFUSED_PARAMETERS

    rows = [(f"`{name}`", why) for name, why in REFUSED_PARAMETERS.items()]
    return _table(("parameter", "why, and the way out"), rows)


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {first} | {second} |" for first, second in [head, ("---", "---"), *rows]]
    return "\n".join(lines)


def _entry(name: str, *said: str, doc: str) -> str:
    """One name with its type, default and explanation, as an item of a definition list."""
    kind = [f"`{said[0]}`"] if said and said[0] else []
    rest = [text for text in said[1:] if text]
    head = f"`{name}`"
    about = f"*{', '.join([*kind, *rest])}*\n\n" if kind or rest else ""
    body = (about + doc).replace("\n", "\n    ")
    return f"{head}\n:   {body}"


class Generated(SphinxDirective):
    """Puts what a function above returns into the page."""

    required_arguments = 1
    optional_arguments = 1
    functions: ClassVar[dict[str, Callable[..., str]]] = {
        function.__name__: function
        for function in (
            *(arguments, groups, fields, settings, exception_tree, exceptions, docstring, example, names),
            *(example_dags, document_limits, cache_minimums, message_parameters, refused_parameters),
        )
    }

    def run(self) -> list[nodes.Node]:
        """The nodes of the part."""
        name, *rest = self.arguments
        self.env.note_reread()  # the code may have changed
        if name == "part-states":
            return [nodes.raw("", part_states.draw(), format="html")]
        return self.parse_text_to_nodes(self.functions[name](*rest), allow_section_headings=True)


def _without_arguments(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Leave out what refers to the declaration of an operator's arguments, which are listed below it."""
    for number, line in enumerate(lines):
        if line.strip().startswith("arguments: See ``airflow_claude_batch.operators.arguments."):
            del lines[number - 1 : number + 1]
            return


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    # A place in the table of contents for a page that is not written yet is no fault.
    logging.getLogger("sphinx.sphinx.directives.other").addFilter(
        lambda record: "didn't match any documents" not in str(record.msg)
    )
    app.add_directive("generated", Generated)
    app.connect("autodoc-process-docstring", _without_arguments, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
