"""From images to predictions, and to files of them."""
