"""Any folder of images and of masks of class numbers."""
