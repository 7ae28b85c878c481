"""Sphinx builds the site of these pages: `sphinx-build -W docs site/docs` (extra `docs`)."""

project = "gencompress"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
default_role = "literal"
exclude_patterns = ["images"]
html_theme = "furo"  # its fonts are the reader's own: the pages ask nothing of other servers
html_title = "How far can a generative model be compressed?"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Some links lead to files beside docs/, which are not in the site. `tests/test_docs.py` follows them.
suppress_warnings = ["myst.xref_missing"]
