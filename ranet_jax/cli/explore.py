"""`ranet explore`: look into a network, in a browser."""

import argparse
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ranet_jax.cli import compilation_cache
from ranet_jax.cli.arguments import PathText, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config_files import override
from ranet_jax.display.output import note, tell
from ranet_jax.display.tables import show
from ranet_jax.errors import Interrupted, UserError

EXAMPLES = (
    "ranet explore runs/demo",
    "ranet explore runs/camvid photos/ street.jpg --port 9000",
)
LOCAL = ("127.0.0.1", "localhost")


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "explore",
        help="show a network's regions, and how they are constructed, in a browser",
        **with_examples(*EXAMPLES, overriding=True),
    )
    parser.add_argument(
        "checkpoint", type=PathText, help="working directory, checkpoint or exported model"
    )
    parser.add_argument(
        "images",
        type=PathText,
        nargs="*",
        help="image files, or directories that hold them (default: the data set's split)",
    )
    parser.add_argument("--split", help="split of the data set (default: the config's)")
    parser.add_argument(
        "--host",
        default=LOCAL[0],
        help="address to listen on; 0.0.0.0 lets other machines connect (default: only this one)",
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="port (default: 8765; 0: a free one)"
    )
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    if arguments.images and arguments.split is not None:
        raise UserError("--split has no effect with images; leave one of them out.")

    from ranet_jax.inference.explorer.application import Explorer, make_application
    from ranet_jax.inference.explorer.library import Library
    from ranet_jax.inference.explorer.scene import Observer
    from ranet_jax.inference.files import find_images
    from ranet_jax.inference.model import load
    from ranet_jax.inference.video import is_video

    compilation_cache.use_cache(arguments)
    files = [file for file in find_images(arguments.images) if not is_video(file)]
    if arguments.images and not files:
        raise UserError("Only videos are named; name an image, or nothing.")
    with _listening(arguments.host, arguments.port) as listener:
        note(f"loading {arguments.checkpoint}.")
        model = load(
            arguments.checkpoint, configure=lambda config: override(config, arguments.overrides)
        )
        split = None if files else arguments.split or model.config.data.eval_split
        library = Library(Observer(model), files, split)
        host, port = listener.getsockname()[:2]
        hosts = (*LOCAL, host) if host in LOCAL else ("*",)
        application = make_application(Explorer(library, str(arguments.checkpoint)), hosts)
        if library.note:
            tell(library.note)
        address = f"http://{host}:{port}/"
        show(f"Open {address} in a browser; Ctrl-C ends it.")
        show_document({"address": address})
        _serve(application, listener)
    return 0


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens at the address.

    Raises:
      UserError: there is no such port, or the address is not available.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"Port {port} does not exist; choose one from 0 to {2**16 - 1}.")
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"Port {port} of {host} is not available ({error}); choose another with --port."
        ) from error
    with listener:
        yield listener


def _serve(application: Any, listener: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM, which end the program even while it computes for a page."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(application, log_level="critical"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        thread.join()
    except (KeyboardInterrupt, Interrupted) as stop:
        # Python would wait for the threads that compute, which may take minutes.
        print(f"ranet: {str(stop) or 'interrupted.'}", file=sys.stderr, flush=True)
        os._exit(stop.status if isinstance(stop, Interrupted) else 130)
