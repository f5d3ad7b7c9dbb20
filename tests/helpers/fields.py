"""Values to put into fields of the config."""


def another_value(field):
    """A value in a field's form, other than its default and its value in `training.tiny_config`."""
    if field.choices:
        return next(choice for choice in field.choices if choice != field.default)
    if field.kind is bool:
        return not field.default
    if field.range is None:
        return "another"
    if field.pairs:
        return (("head", 0.5),)
    number = 0.7 if field.kind is float else 7
    return (number,) * max(len(field.default), 1) if field.kind is tuple else number
