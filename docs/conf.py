"""Sphinx's settings: ``make docs`` builds ``build/docs``, and any warning fails it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

# Airflow writes its settings where it is first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="claude-batch-docs-")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import airflow_claude_batch

project = "airflow-claude-batch"
version = release = airflow_claude_batch.__version__
copyright = "Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_ext"]

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!airflow_claude_batch\b).*")]  # only our own names are described here

autodoc_member_order = "bysource"
napoleon_use_rtype = False  # what stands before a colon is no type here
autodoc_typehints = "none"
add_module_names = False

html_theme = "furo"
html_title = f"airflow-claude-batch {version}"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
highlight_language = "none"  # of blocks that name no language: commands, mostly
