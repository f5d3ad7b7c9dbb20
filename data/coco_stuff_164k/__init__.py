"""COCO-Stuff of all training and validation images of COCO 2017, in 171 categories."""
