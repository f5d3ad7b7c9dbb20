"""What predictions of files say."""

from ranet_jax.inference.files import predict_files


def failures(*arguments, **settings):
    """A sentence for each file that is wrong, of a prediction with these arguments."""
    results = predict_files(*arguments, **settings)
    return [result.error for result in results if result.error is not None]
