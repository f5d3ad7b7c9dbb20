"""An S3 server on this machine, and its buckets through Amazon's own client."""

import contextlib
import itertools
import logging

import boto3
import pytest
from moto.server import ThreadedMotoServer

ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}
_numbers = itertools.count()


class Bucket:
    """A bucket of a server, empty at first."""

    def __init__(self):
        self.name = f"bucket-{next(_numbers)}"
        self.client = boto3.client("s3")
        self.client.create_bucket(Bucket=self.name)

    def url(self, name=""):
        return f"s3://{self.name}/{name}"

    def put(self, name, contents):
        self.client.put_object(Bucket=self.name, Key=name, Body=contents)

    def put_folder(self, name, folder):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def files(self, below=""):
        """Contents of the names that begin with `below`, by the rest of the name."""
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=below).get("Contents", ())
        return {
            entry["Key"].removeprefix(below): self.client.get_object(
                Bucket=self.name, Key=entry["Key"]
            )["Body"].read()
            for entry in found
        }


@contextlib.contextmanager
def serve():
    """Start the server, and name it in the environment as users do for one that is not Amazon's."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (ACCOUNT | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            environment.setenv(name, value)
        yield
    server.stop()
