"""The hub: a folder stands in for it, and the real client without a network."""

import pathlib
import shutil
import sys

import huggingface_hub
import pytest

import ranet_jax
from ranet_jax.checkpoints import fingerprint
from ranet_jax.cli import main
from ranet_jax.errors import UserError

pytestmark = pytest.mark.slow


class FolderHub:
    """The part of `huggingface_hub` that is called, with a folder in place of the hub."""

    def __init__(self, folder):
        self._folder = folder
        self.made, self.fetched = [], []

    def HfApi(self):
        return self

    def create_repo(self, repo_id, private=None, exist_ok=False):
        assert exist_ok
        self.made.append((repo_id, private))
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self._folder / repo_id)

    def snapshot_download(self, repo_id, *, revision=None, allow_patterns):
        self.fetched.append((repo_id, revision))
        snapshot = self._folder / "snapshot"

        def ignore(folder, names):
            return set(names) - set(allow_patterns)

        return str(shutil.copytree(self._folder / repo_id, snapshot, ignore=ignore))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = FolderHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hub


def test_a_model_that_was_sent_is_fetched_as_the_same(model, run, hub, tmp_path):
    address = ranet_jax.push_to_hub(model, "me/sides", private=True, run=run)
    assert address == "https://huggingface.co/me/sides"
    assert hub.made == [("me/sides", True)]
    names = {path.name for path in (tmp_path / "hub/me/sides").iterdir()}
    assert names == {"README.md", "config.json", "manifest.json", "model.safetensors"}
    card = (tmp_path / "hub/me/sides/README.md").read_text()
    assert 'from_pretrained("me/sides")' in card
    assert "\n# sides\n" in card

    loaded = ranet_jax.from_pretrained("me/sides", revision="v1")
    assert hub.fetched == [("me/sides", "v1")]
    assert not (tmp_path / "hub/snapshot/README.md").exists()
    assert fingerprint(loaded.variables) == fingerprint(model.variables)


def test_the_command_writes_and_sends(run, hub, tmp_path, capsys):
    output = tmp_path / "sides"
    command = ["publish", str(run), "--output", str(output), "--license", "mit"]
    assert main([*command, "--push", "me/sides"]) == 0
    expected = f"Written to {output}.\nSent to https://huggingface.co/me/sides.\n"
    assert capsys.readouterr().out == expected
    assert hub.made == [("me/sides", None)]
    for path in output.iterdir():
        assert (tmp_path / "hub/me/sides" / path.name).read_bytes() == path.read_bytes()
    assert main(command) == 1
    assert f"{output} exists already" in capsys.readouterr().err


def test_wrong_options_are_refused_before_anything_is_written(run, tmp_path, capsys):
    command = ["publish", str(run), "--output", str(tmp_path / "new")]
    for options, sentence in (
        (["--private"], "--private belongs to --push"),
        (["--push", "sides"], "'sides' is not the name of a model on the hub; write OWNER/NAME."),
        (["--picture", str(tmp_path / "none.png")], "none.png"),
        (["--license", "My own"], "'My own' is not an identifier"),
    ):
        assert main([*command, *options]) == 1
        assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_a_sentence_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: ranet_jax.from_pretrained("me/sides"),
        lambda: ranet_jax.push_to_hub(model, "me/sides"),
    ):
        with pytest.raises(UserError, match="install it with `pip install huggingface_hub`"):
            call()


def test_without_a_network_a_sentence_says_so(model, monkeypatch, tmp_path):
    """The client's own errors for an address where nobody listens."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^Model me/sides cannot be fetched .*refused"):
        ranet_jax.from_pretrained("me/sides")
    with pytest.raises(UserError, match=r"^The model cannot be sent to me/sides .*refused"):
        ranet_jax.push_to_hub(model, "me/sides")
    with pytest.raises(UserError, match=r"^Model me/\.\. cannot be fetched"):
        ranet_jax.from_pretrained("me/..")
    assert not pathlib.Path("me").exists()
