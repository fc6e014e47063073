"""How Sphinx builds these pages: Markdown by hand, the API from the docstrings."""

from __future__ import annotations

from libpycontainer._version import __version__

project = "libpycontainer"
author = "The libpycontainer contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autoclass_content = "class"
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
# Annotations are only imported for the type checker; they are shown as they were written.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False

# Comes with Sphinx and fetches nothing: pages are built and read without a network.
html_theme = "alabaster"
html_theme_options = {"description": "OCI containers as Python objects", "page_width": "60rem"}
html_show_copyright = False
