"""The explorer's application on a port of this machine, and a client for it."""

import base64
import io
import json
import threading
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
import uvicorn
from PIL import Image

from ranet_jax.inference.explorer.application import make_application


class Client:
    """Sends requests to the explorer at an address."""

    def __init__(self, address):
        self.address = address

    def bytes(self, path, data=None, headers=None, **parameters):
        query = urllib.parse.urlencode(parameters)
        request = urllib.request.Request(f"{self.address}/{path}?{query}", data, headers or {})
        with urllib.request.urlopen(request) as response:
            return response.read()

    def json(self, path, data=None, **parameters):
        return json.loads(self.bytes(f"api/{path}", data, **parameters), object_hook=revived)

    def refusal(self, path, data=None, **parameters):
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.json(path, data, **parameters)
        with refused.value as response:
            return response.code, json.loads(response.read())["error"]


class Server(Client):
    """The application on a port of this machine."""

    def __init__(self, explorer):
        application = make_application(explorer, ("127.0.0.1",))
        self._server = uvicorn.Server(
            uvicorn.Config(application, port=0, log_level="error", ws="none")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        super().__init__(f"http://127.0.0.1:{port}")

    def stop(self):
        self._server.should_exit = True
        self._thread.join()


def revived(fields):
    if fields.keys() != {"dtype", "data"}:
        return fields
    return np.frombuffer(base64.b64decode(fields["data"]), fields["dtype"])


def encoded(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, **options)
    return file.getvalue()
