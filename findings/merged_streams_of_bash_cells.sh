#!/usr/bin/env bash
# myst-nb 1.4.0 with IPython 9.18.1: the output of a `%%bash` cell is broken every 100 bytes.
#
# With `nb_merge_streams = True`, myst-nb joins the pieces in which a cell's output arrives, and
# ends each of them with a newline. Pieces of Python's `print` end with one anyway. But IPython
# hands over the output of a command in pieces of 100 bytes, regardless of where lines end, so that
# tables in the page have lines broken in the middle of words. Without the option each piece becomes
# a separate block, which breaks lines too. nbclient's option `coalesce_streams` joins correctly,
# but myst-nb does not pass it on. A workaround is one `print` of what `subprocess.run` returns.
#
# Fails if a line of 150 letters that a `%%bash` cell prints reaches the page whole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  myst-nb==1.4.0 myst-parser==5.2.0 Sphinx==9.0.4 ipython==9.18.1 ipykernel==7.4.0
mkdir "$folder/docs"
cat > "$folder/docs/conf.py" <<'PYTHON'
extensions = ["myst_nb"]
nb_execution_mode = "force"
nb_merge_streams = True
PYTHON
cat > "$folder/docs/index.md" <<'MARKDOWN'
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---

# Page

```{code-cell} ipython3
%%bash
python3 -c "print('a' * 150)"
```
MARKDOWN
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/sphinx-build" --quiet --builder html \
  "$folder/docs" "$folder/pages"
longest=$(grep --only-matching 'aa*' "$folder/pages/index.html" | awk '{ if (length > n) n = length } END { print n }')
echo "the longest run of letters in the page is $longest of 150"
[ "$longest" -eq 100 ]
