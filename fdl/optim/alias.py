"""How a direction becomes a complete optimizer."""

import optax


def searched(
    direction: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule | None,
    linesearch: optax.GradientTransformation | None,
) -> optax.GradientTransformationExtraArgs:
    """Chain a direction, its sign and length, and a line search, as `optax.lbfgs` does.

    Args:
      direction: with the sign of the gradient.
      learning_rate: its factor; None: 1.
      linesearch: the last link; None: none.

    Example:
      >>> tx = searched(optax.identity(), 0.1, None)
      >>> float(tx.update(1.0, tx.init(0.0))[0])
      -0.1
    """
    if learning_rate is None:
        scale = optax.scale(-1.0)
    else:
        scale = optax.scale_by_learning_rate(learning_rate)
    links = [direction, scale, *([] if linesearch is None else [linesearch])]
    return optax.with_extra_args_support(optax.chain(*links))
