"""The errors that predictions of files report."""

from ranet_jax.inference.files import predict_files


def failures(*arguments, **settings):
    """The error of each file that a prediction with these arguments cannot handle."""
    results = predict_files(*arguments, **settings)
    return [result.error for result in results if result.error is not None]
