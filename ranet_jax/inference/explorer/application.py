"""The web application of the explorer: a page, and the data that it requests."""

import base64
import functools
import io
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.inference.colors import distinguishable
from ranet_jax.inference.explorer import facts
from ranet_jax.inference.explorer.construction import Constructions, RegionSettings
from ranet_jax.inference.explorer.library import MAX_BYTES, Library
from ranet_jax.inference.explorer.scene import Scene

PAGE = pathlib.Path(__file__).parent / "page"
LABEL_LAYERS = ("fine", "coarse", "boundary", "truth")
COLORMAP = "viridis"
# Nothing is loaded from elsewhere; pictures are made on the page, as blobs.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Query = Mapping[str, str]


class Explorer:
    """Answers to the page's requests, by their parameters; `title` names the model."""

    def __init__(self, library: Library, title: str):
        model = library.observer.model
        self.library = library
        self.title = title
        self.dataset = model.dataset
        network = model.config.model
        self.settings = RegionSettings(network.threshold, network.num_regions, network.per_region)
        largest = RegionSettings(1.0, max(64, network.num_regions), max(16, network.per_region))
        self.constructions = Constructions(largest)

    def network(self, query: Query) -> facts.Facts:
        """The model, its classes and settings, and the images to choose from."""
        return {
            "title": self.title,
            "classes": [
                {"name": name, "color": color}
                for name, color in zip(
                    self.dataset.class_names, distinguishable(self.dataset.palette), strict=True
                )
            ],
            "settings": _settings_json(self.settings),
            "largest": _settings_json(self.constructions.most),
            "images": self.library.keys,
            "note": self.library.note,
            "max_bytes": MAX_BYTES,
            "colormap": (255 * matplotlib.colormaps[COLORMAP](np.arange(256))[:, :3])
            .round()
            .astype(int)
            .tolist(),
        }

    def scene(self, query: Query) -> facts.Facts:
        """An image's sizes and available layers."""
        scene = self._scene(query)
        layers = [name for name in LABEL_LAYERS if getattr(scene, name) is not None]
        return {
            "size": scene.size,
            "view": scene.image.shape[:2],
            "grid": scene.grid,
            "align_corners": scene.align_corners,
            "layers": layers,
            "has_regions": scene.inputs is not None,
        }

    def picture(self, query: Query) -> bytes:
        """The image as PNG."""
        file = io.BytesIO()
        Image.fromarray(self._scene(query).image).save(file, format="PNG", compress_level=1)
        return file.getvalue()

    def layer(self, query: Query) -> bytes:
        """A map of the image, one byte per pixel: labels, or boundary probabilities times 255."""
        scene, name = self._scene(query), query.get("name", "")
        layer = getattr(scene, name) if name in LABEL_LAYERS else None
        if layer is None:
            raise UserError(f"The image has no layer {name!r}; choose another.")
        return layer.tobytes()

    def regions(self, query: Query) -> facts.Facts:
        """The regions for the settings of the request."""
        scene = self._scene(query)
        regions = self.constructions.regions(scene, self._settings(query))
        return facts.region_facts(scene, regions, self.dataset)

    def pixel(self, query: Query) -> facts.Facts:
        """One feature pixel and, if the network has regions, its relation to all other pixels.

        `other` is the second pixel (by default the same one), and `place` is the representative.
        """
        scene, pixel = self._scene(query), _whole(query, "pixel")
        found = facts.class_facts(scene, pixel, self.dataset)
        if scene.inputs is None:
            return found
        settings = self._settings(query)
        construction = self.constructions.construction(scene, settings)
        other, place = _whole(query, "other", pixel), _whole(query, "place", -1)
        return found | facts.attention_facts(scene, construction, settings, pixel, other, place)

    def _scene(self, query: Query) -> Scene:
        return self.library.scene(query.get("image", ""))

    def _settings(self, query: Query) -> RegionSettings:
        threshold = query.get("threshold", str(self.settings.threshold))
        try:
            number = float(threshold)
        except ValueError as error:
            raise UserError(f"The threshold is {threshold!r}; give a number.") from error
        return RegionSettings(
            number,
            _whole(query, "regions", self.settings.num_regions),
            _whole(query, "representatives", self.settings.per_region),
        )


def _settings_json(settings: RegionSettings) -> facts.Facts:
    return {
        "threshold": settings.threshold,
        "regions": settings.num_regions,
        "representatives": settings.per_region,
    }


def _whole(query: Query, name: str, default: int | None = None) -> int:
    text = query.get(name, "" if default is None else str(default))
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"The request's {name} is {text!r}; give a whole number.") from error


def to_json(found: facts.Facts) -> bytes:
    """Facts as JSON; an array is an object with its dtype and, in base64, little-endian bytes."""

    def default(array: np.ndarray) -> dict[str, str]:
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"dtype": str(array.dtype), "data": data}

    return json.dumps(found, default=default, allow_nan=False).encode()


def make_application(explorer: Explorer, hosts: tuple[str, ...]) -> Any:
    """The Starlette application; it answers requests to these host names ("*": to all).

    Raises:
      UserError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import Request
        from starlette.responses import FileResponse, Response
        from starlette.routing import Mount, Route
        from starlette.staticfiles import StaticFiles
    except ImportError as error:
        raise UserError(
            "Exploring needs Starlette and Uvicorn; install them with"
            " `pip install 'ranet_jax[explore]'`."
        ) from error

    def respond(content: bytes, media_type: str = "application/json", status: int = 200) -> Any:
        return Response(content, status, HEADERS, media_type)

    def refuse(error: UserError, status: int = 400) -> Any:
        return respond(to_json({"error": str(error)}), status=status)

    def answering(find: Callable[[Query], Any], media_type: str) -> Callable[[Any], Any]:
        def answer(request: Request) -> Any:
            try:
                found = find(request.query_params)
            except UserError as error:
                return refuse(error)
            return respond(found if isinstance(found, bytes) else to_json(found), media_type)

        return answer

    async def upload(request: Request) -> Any:
        encoded = bytearray()
        async for chunk in request.stream():
            encoded += chunk
            if len(encoded) > MAX_BYTES:
                break
        add = functools.partial(explorer.library.add, request.query_params.get("name", ""))
        try:
            key = await run_in_threadpool(add, bytes(encoded))
        except UserError as error:
            return refuse(error)
        return respond(to_json({"image": key}))

    def page(request: Request) -> Any:
        return FileResponse(PAGE / "index.html", headers=HEADERS)

    json_answers = ("network", "scene", "regions", "pixel")
    routes = [
        Route("/", page),
        Mount("/page", StaticFiles(directory=PAGE)),
        Route("/api/images", upload, methods=["POST"]),
        Route("/api/picture", answering(explorer.picture, "image/png")),
        Route("/api/layer", answering(explorer.layer, "application/octet-stream")),
        *(
            Route(f"/api/{name}", answering(getattr(explorer, name), "application/json"))
            for name in json_answers
        ),
    ]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return Starlette(routes=routes, middleware=[trusted])
