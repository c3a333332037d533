"""Keras without graphs."""

import contextlib


@contextlib.contextmanager
def run_eagerly():
    """Spares the seconds of tracing, where nothing hangs on the last bit."""
    import tensorflow as tf  # most test files do without

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
