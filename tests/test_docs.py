"""README and docs: their links, commands, fields and configs exist, and none is left out."""

import pathlib
import re
import runpy
import shlex

import pytest

from ranet_jax.cli import main
from ranet_jax.config import field_type
from ranet_jax.porting.networks import NETWORKS, find_network

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/*/*.md", "launch/*.md", "data/*/*.md")
    for path in ROOT.glob(pattern)
)
COMMANDS = ("prepare", "pack", "train", "evaluate", "predict", "explore", "export", "port")
COMMANDS += ("publish", "reproduce", "inspect")
COMMANDS += ("bench regions", "bench heads", "bench step", "bench export")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def commands(page):
    """Lines of code blocks and cells that begin with `ranet`, and such code in the text."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ {4}(ranet .*)$", text, re.MULTILINE)
    for cell in re.findall(r"^shell\((.*?)\)$", text, re.MULTILINE | re.DOTALL):
        lines += re.findall(r'^(?:")?(ranet [^"\n]*)', cell, re.MULTILINE)
    inline = re.findall(r"`(ranet [^`]*)`", text)
    return [" ".join(line.split("#")[0].split()) for line in [*lines, *inline]]


@pytest.fixture
def options(capsys):
    """The options that `ranet COMMAND --help` lists."""

    def read(command):
        with pytest.raises(SystemExit, match="0"):
            main([*command.split(), "--help"])
        listed = re.split("examples:|Fields of", capsys.readouterr().out)[0]
        return set(re.findall(r"--[a-z][a-z-]*", listed))

    return read


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@each_page
def test_commands_have_the_options_that_are_named(page, options):
    for line in commands(page):
        _, name, *rest = shlex.split(line.replace("[", " ").replace("]", " "))
        known = [c for c in COMMANDS if f"{name} {rest[0] if rest else ''}".startswith(c)]
        if not known:
            assert name in ("COMMAND", "bench", "--help", "--print-completion"), line
            continue
        named = {word.split("=")[0] for word in rest if word.startswith("--")}
        fields = {word for word in named if word.startswith("--config.")}
        assert named - fields <= options(known[0]) | {"--help"}, line
        for field in fields - {"--config.SECTION.FIELD"}:
            field_type(field.removeprefix("--config."))


@each_page
def test_configs_that_are_named_exist(page):
    for name in re.findall(r"configs/(\w+\.py)", page.read_text()):
        exists = (ROOT / "configs" / name).is_file()
        assert exists or name in ("CONFIG.py", "FILE.py", "NAME.py")


def test_every_option_is_described(options):
    """Options of all commands are on the page of commands, others on the page of their command."""

    def described(page):
        return set(re.findall(r"--[a-z][a-z-]*", (ROOT / "docs" / page).read_text()))

    common = options("") - {"--print-completion"}
    assert common
    assert common <= described("commands.md") | {"--help"}
    for command in COMMANDS:
        page = f"commands/{command.split()[0]}.md"
        assert options(command) <= described(page) | common, command


def test_every_command_has_a_page_with_an_example_that_is_run():
    names = {command.split()[0] for command in COMMANDS}
    script = runpy.run_path(str(ROOT / "docs/command_examples.py"))
    assert script["EXAMPLES"].keys() | {"explore"} == names | {"ranet"}
    assert {path.stem for path in (ROOT / "docs/commands").iterdir()} == names
    for name in names:
        text = (ROOT / f"docs/commands/{name}.md").read_text()
        assert text.startswith(f"# ranet {name}\n")
        assert f"../../build/examples/{name}.txt" in text
        assert f"](commands/{name}.md)" in (ROOT / "docs/commands.md").read_text()


def test_every_config_and_data_set_has_a_row():
    configs = (ROOT / "docs/configs.md").read_text()
    for path in (ROOT / "configs").glob("[!_]*.py"):
        assert f"| `{path.name}` |" in configs
    datasets = (ROOT / "docs/datasets.md").read_text()
    for path in (ROOT / "data").glob("*/README.md"):
        assert f"`ranet prepare {path.parent.name}" in datasets
        assert f"../data/{path.parent.name}/README.md" in datasets


def test_the_readme_fits_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110


@pytest.mark.parametrize("name", ["config", "networks"])
def test_generated_pages_are_those_that_are_generated(name):
    script = runpy.run_path(str(ROOT / f"docs/{name}_page.py"))
    assert script["PAGE"].read_text() == script["page"](), f"run `make {name}-page`"


def test_the_page_of_networks_has_a_row_for_each_and_for_each_naming():
    rows = re.findall(
        r"^\| (`[\w-]+`)? .*\| `(\S+)` \|$", (ROOT / "docs/networks.md").read_text(), re.M
    )
    named = [name.strip("`") for name, _ in rows if name]
    assert named == list(NETWORKS)
    assert len(rows) == sum(len(find_network(name).namings) for name in NETWORKS)
    assert ("`resnet101`", "conv1.weight") in rows
