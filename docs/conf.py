"""Sphinx: ``sphinx-build -W --keep-going -n docs docs/_build``, with the extra `docs`."""

import sys
from pathlib import Path

import fastbn

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "fastbn"
author = "The fastbn developers"
copyright = author
version = release = fastbn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_argparse_cli",
    "myst_nb",
    "drawings",
    "mathml",
]
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = "fastbn"
html_static_path = ["_static"]
html_css_files = ["fastbn.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

# Types are in the docstrings.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
viewcode_follow_imported_members = False
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True
