"""What `ranet explore` shows: a network's view of an image, pixel by pixel, in a browser."""
