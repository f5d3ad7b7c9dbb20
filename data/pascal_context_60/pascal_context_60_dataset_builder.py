"""TFDS builder of PASCAL Context with the background as a category."""

from ranet_data.pascal_context import pascal_context_dataset_builder


class Builder(pascal_context_dataset_builder.Builder):
    """Works as the builder of the 59 categories, which become 1 to 59 after the background."""

    HAS_BACKGROUND = True
