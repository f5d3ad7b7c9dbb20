"""Reading TensorBoard's event files."""

import io
import struct

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event


def pictures_of_events(directory):
    """Pictures of TensorBoard's event files, by tag and step, read as TFRecords."""
    found = {}
    for path in directory.iterdir():
        rest = path.read_bytes()
        while rest:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", rest)
            event, rest = Event.FromString(rest[12 : 12 + length]), rest[16 + length :]
            for value in event.summary.value:
                if value.HasField("image"):
                    encoded = io.BytesIO(value.image.encoded_image_string)
                    found[value.tag, event.step] = np.asarray(Image.open(encoded))
    return found
