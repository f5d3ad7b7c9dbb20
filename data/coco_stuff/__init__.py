"""COCO-Stuff 10k in 171 categories, with the table of label ids of all of COCO-Stuff."""
