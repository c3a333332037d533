"""A document's table or systems come in as data; their runs are planned and reported beside the
published numbers.

Open `reproduce` first. `tables` are the paper's, `parameters` its Table III; `documents` and
`document_reports` the four others', `routing` the system that 004 ends with. `claims` are answered,
`deviations` told; `*_pages` show it.
"""
