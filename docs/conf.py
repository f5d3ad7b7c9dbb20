"""Settings of the documentation site, which `make docs` builds with Sphinx into build/site.

Pages are Markdown. Those of docs/notebooks/ are notebooks, which every build runs anew; a cell that
fails ends the build. The API pages are generated from the source without importing it, so that no
edit is needed here when a module moves.
"""

import pathlib
import re
import tomllib
from typing import Any

from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[1]

project = "ranet_jax"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_nb", "sphinx.ext.napoleon", "autoapi.extension", "sphinx_copybutton"]
exclude_patterns = ["api/index.rst"]  # docs/api.md stands in its place
default_role = "code"  # `name` in docstrings, as in Markdown
highlight_language = "text"

# Every heading can be linked to.
myst_heading_anchors = 3

# Notebooks run in temporary folders, so that the files they write do not stay.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell, on a busy machine too
nb_merge_streams = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"ranet_jax {version}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"light_css_variables": {"sidebar-item-font-size": "85%"}}

autoapi_dirs = [str(ROOT / "ranet_jax")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "undoc-members", "show-inheritance"]
autoapi_member_order = "bysource"
add_module_names = False
python_maximum_signature_line_length = 88
napoleon_use_ivar = True  # a class lists its attributes once

# The static analysis does not see names if several are assigned at once.
suppress_warnings = ["autoapi.python_import_resolution"]

_HEADER = re.compile(r"[A-Z][a-z]+:$")
_BAR = re.compile(r"\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")
_SUFFIX = re.compile(r"(`[^`]*`)(?=\w)|(`[^`]*`)")
_LETTER = re.compile(r"(?<=: )([A-Z])\.$")
_JAXTYPING = re.compile(r"jaxtyping\.(\w+)\[([\w.]+(?: \| [\w.]+)*), ([^\[\]]*)\]")


def docstring_as_markdown(
    app: Sphinx, what: str, name: str, object_: Any, options: Any, lines: list[str]
) -> None:
    """Turn the Markdown in docstrings into reStructuredText, line by line and in place.

    An indented block is code (for example a table): it begins after a blank line and ends before a
    line without indentation. Lines below a header such as "Args:" are not a block. Elsewhere, |x|
    is not a substitution, a letter may follow a name in backticks, and "F." does not begin a list.
    """
    result: list[str] = []
    code, paragraph = False, ""
    for line in lines:
        indented = line.startswith("    ")
        if line.strip() and not indented:
            code, paragraph = False, line
        elif indented and not code and result and not result[-1].strip():
            code = not _HEADER.match(paragraph)
            if code and not paragraph.endswith("::"):
                result += [".. code-block:: text", ""]
        if not code:
            line = _SUFFIX.sub(lambda m: f"{m[1]}\\ " if m[1] else m[2], _BAR.sub(r"\|", line))
            line = _LETTER.sub(r"\1\.", line)
        result.append(line)
    lines[:] = result


def shapes_in_quotes(
    app: Sphinx, what: str, name: str, object_: Any, skip: bool, options: Any
) -> None:
    """Write an array's type as the source has it, `Float[Array, "h w"]`."""
    if what in ("class", "exception"):
        if object_.constructor:
            arguments = object_.constructor.obj["args"]
            arguments[:] = [tuple(map(_quoted, argument)) for argument in arguments]
        return
    for field in ("args", "return_annotation", "annotation"):
        if hasattr(object_, field):
            setattr(object_, field, _quoted(getattr(object_, field)))


def _quoted(text: str | None) -> str | None:
    if text is None:
        return None
    return _JAXTYPING.sub(r'\1[\2, "\3"]', text).replace("jaxtyping.", "")


def setup(app: Sphinx) -> None:
    """Process docstrings here before napoleon does, which has priority 500."""
    app.connect("autodoc-process-docstring", docstring_as_markdown, priority=400)
    app.connect("autoapi-skip-member", shapes_in_quotes)
