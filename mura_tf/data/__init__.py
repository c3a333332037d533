"""A data set on disk comes in; the views table, its uint8 squares and `tf.data` batches of them go
out.

Open `views` first: it loads the table. `mura`, `fracatlas`, `grazpedwri` and `class_folders` read
a layout; `radiograph` decodes one file or refuses it, by `png`, `jpeg` and `dicom`; `cache` keeps
the squares, `pipeline` makes the batches, `augment` changes them, `boxes` says where lesions are.
`check` lists what is wrong, `splits` deals patients, `counts` is Table I and the weights of the
loss, `tasks` what a model is to tell, `study` a look at it all.
"""
