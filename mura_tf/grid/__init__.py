"""A plan of many runs comes in; every one of them is trained in a process of its own, here or on
Ray, or said to have failed.

Open `plan` first. `worker` is one such process, `engines` place them, `progress` shows them,
`finished` tells which of them can be reported.
"""
