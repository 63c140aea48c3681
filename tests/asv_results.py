"""Files of results as airspeed velocity writes them, in its format 2, and pages read back."""

import itertools
import json
from html.parser import HTMLParser

VOID = {"meta", "link", "wbr", "br", "hr", "img", "input", "path"}
DAY = 86_400_000  # milliseconds
COLUMNS = ["result", "params", "version", "started_at", "duration"]
MODULES = {"Conv": "conv", "BatchNorm": "batchnorm", "TrainingStep": "nets"}


def benchmark(values, version="1", started_at=DAY):
    """A row of results: ``{(part, dtype, case): value}``, every choice of each of the three."""
    lists = [list(dict.fromkeys(column)) for column in zip(*values, strict=True)]
    return [
        [values[key] for key in itertools.product(*lists)],
        [[repr(value) for value in column] for column in lists],
        version,
        started_at,
        1.5,
    ]


def run(
    tracks, *, machine="vm", cpu="Some CPU", commit="a" * 40, day=20_000, env=None, req=None,
    version="1", level=None,
):  # fmt: skip
    """One file of results: ``{"Conv ratio": {(part, dtype, case): value}}``."""
    params = {"machine": machine, "cpu": cpu, "arch": "x86_64", "num_cpu": "2",
              "os": "Linux 6.1", "ram": "8589934592", "python": "3.11"}  # fmt: skip
    results = {}
    for name, values in tracks.items():
        layer, metric = name.split()
        full = f"{MODULES.get(layer, layer.lower())}.{layer}Tracks.track_{metric}"
        results[full] = benchmark(values, version, day * DAY)
    if level is not None:
        results["package.Build.track_cpu_level"] = [[level], [], "v", day * DAY, 0.1]
    return {
        "commit_hash": commit,
        "env_name": "virtualenv-py3.11",
        "date": day * DAY,
        "params": params,
        "python": "3.11",
        "requirements": req or {"numpy": "2.4"},
        "env_vars": {"FASTBN_NUM_THREADS": "1"} if env is None else env,
        "result_columns": COLUMNS,
        "results": results,
        "durations": {},
        "version": 2,
    }


def write(folder, *runs):
    """A folder of results with these runs."""
    units = {}
    for number, data in enumerate(runs):
        name = data["params"]["machine"]
        place = folder / ("machine" if "/" in name else name)
        place.mkdir(parents=True, exist_ok=True)
        (place / "machine.json").write_text(json.dumps({**data["params"], "version": 1}))
        (place / f"{data['commit_hash'][:8]}-env{number}.json").write_text(json.dumps(data))
        for full in data["results"]:
            unit = "GFLOP/s" if "Conv" in full else "GB/s"
            names = ["part", "dtype", "case"] if "Tracks" in full else []
            units[full] = {"name": full, "param_names": names, "unit": unit, "version": "1"}
    (folder / "benchmarks.json").write_text(json.dumps({**units, "version": 2}))
    return folder


class Page(HTMLParser):
    """What a page holds: tables with their cells' text, attributes, tags, text."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.content = content
        self.tables, self.tags, self.attributes, self.words, self.open = [], [], [], [], []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID - {"path"}:
            self.open.append(tag)
        if tag == "table":
            self.tables.append({"caption": "", "rows": [], "heads": []})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append("")
            if tag == "th":
                self.tables[-1]["heads"].append(dict(attributes))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # well formed

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if "caption" in self.open:
            self.tables[-1]["caption"] += data
        elif {"td", "th"} & {*self.open} and not {"svg"} & {*self.open}:
            cell = self.tables[-1]["rows"][-1]
            cell[-1] += (" " if self.open[-1] == "small" else "") + data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def table(self, start):
        """Rows of the one table whose caption starts so."""
        (found,) = [table for table in self.tables if table["caption"].startswith(start)]
        return found["rows"]

    def every_case(self):
        """Rows of the tables of all cases, without headings."""
        tables = [table for table in self.tables if "Bars go from" in table["caption"]]
        return [row for table in tables for row in table["rows"][1:] if len(row) > 1]
