"""Pages and Markdown files, read back."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a test wants to know of a page: its tags, its text and its tables."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.tables, self.pieces = [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert not self.open, "every tag is closed"
        self.text = " ".join("".join(self.pieces).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.pieces.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, first_header, number=0):
        """A table whose header row starts so: {row name: {header: cell}}."""
        found = [table for table in self.tables if table[0][0] == first_header]
        header, *body = found[number]
        return {row[0]: dict(zip(header, row, strict=True)) for row in body}


def markdown(folder, heading=None):
    """The rows of the first Markdown table below a heading, its headers first."""
    lines = iter((folder / "table.md").read_text(encoding="utf-8").splitlines())
    if heading:
        next(line for line in lines if line == f"## {heading}")
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line[1:-1].replace("\\|", "\0").split("|")])
        elif rows:
            return [[cell.replace("\0", "|") for cell in row] for row in [rows[0], *rows[2:]]]


def lines_of(rows):
    """(study type, what the line says) -> cells."""
    named, study_type = {}, ""
    for name, kind, *cells in rows:
        study_type = name or study_type
        named[study_type, kind] = cells
    return named


def listed(folder, heading):
    """The items of the list below a heading."""
    text = (folder / "table.md").read_text(encoding="utf-8").split(f"## {heading}\n\n")[1]
    lines = text.split("\n\n")[0].splitlines()
    return [line.removeprefix("- ").split(". ", 1)[-1 if line[0] != "-" else 0] for line in lines]
