import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from PIL import Image

from helpers.explored import explored_image, explored_model
from ranet_jax.cli import main


@pytest.mark.browser
def test_the_command_serves_the_page_until_ctrl_c(tmp_path):
    explored_model("none").save(tmp_path / "model")
    Image.fromarray(explored_image()).save(tmp_path / "tiles.png")
    command = [sys.executable, "-m", "ranet_jax", "explore", "model", "tiles.png", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        said = program.stdout.readline()
        address = said.removeprefix("Open ").split(" ")[0]
        with urllib.request.urlopen(f"{address}api/network") as response:
            network = json.load(response)
        with urllib.request.urlopen(address) as response:
            assert b"<title>ranet explore</title>" in response.read()
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    assert network["title"] == "model" and network["images"] == ["tiles.png"]
    assert (program.returncode, errors) == (130, "ranet: loading model.\nranet: interrupted.\n")


def test_a_port_that_is_taken_is_refused_before_anything_is_loaded(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["explore", str(tmp_path / "missing"), "--port", str(port)]) == 1
    assert f"Port {port} of 127.0.0.1 is not available" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "70000"], "Port 70000 does not exist; choose one from 0 to 65535"),
        (["--host", "no.such.host.invalid"], "is not available"),
        (["photo.jpg", "--split", "val"], "--split has no effect with images"),
        (["--port", "0"], "missing"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, capsys, arguments, said):
    assert main(["explore", str(tmp_path / "missing"), *arguments]) == 1
    refusal = capsys.readouterr().err.removeprefix(f"ranet: loading {tmp_path / 'missing'}.\n")
    assert said in refusal and refusal.count("\n") == 1
