"""A document's table or systems come in as data; their runs are planned and reported beside the
published numbers.

Open `reproduce` first. `tables` are the paper's, `documents` and `document_reports` the four
others'; `claims` are answered, `deviations` told.
"""
