"""Static shape checks, for callers who run without jaxtyping."""

from jax import Array


def check_shapes(**arrays: tuple[Array, str]) -> dict[str, int]:
    """Bind the axis letters of several arrays and return their sizes.

    Each keyword is an argument's name with its array and its layout, such as
    `score=(score, "n")`; a letter that occurs twice must have one size.

    Raises:
      ValueError: an array has another rank than its layout, or a letter has two sizes.
    """
    sizes: dict[str, int] = {}
    for name, (array, layout) in arrays.items():
        letters = layout.split()
        if array.ndim != len(letters):
            raise ValueError(
                f"{name} must have the axes [{layout}], but its shape is {array.shape}"
            )
        for letter, size in zip(letters, array.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(
                    f"{name} [{layout}] has shape {array.shape}, but {letter} must be"
                    f" {sizes[letter]} to match the other arguments"
                )
    return sizes
