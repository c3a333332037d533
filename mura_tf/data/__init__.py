"""A data set on disk comes in; the views table, its uint8 squares and `tf.data` batches of them go
out.

Open `views` first: it loads the table. `mura` and `fracatlas` read a layout, `radiograph` decodes
one file, `cache` keeps the squares, `pipeline` makes the batches; `check` lists what is wrong,
`splits` deals patients, `counts` is Table I.
"""
