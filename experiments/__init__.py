"""One file per table or system of the five documents; installed as `mura_tf.experiments`."""
