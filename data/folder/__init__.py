"""Any folder of images and masks."""
