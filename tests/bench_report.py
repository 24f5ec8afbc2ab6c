"""bench_report: what bench measured -- its table, how cost grows, what threads gain, and what was asked of it."""

HEADER = "work precision ours peer unit ratio fraction_of_limit peak_mb".split()


def show(x):
    return "-" if x is None else f"{x:.4g}"


def align(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]


class Report:
    """Rows of FOLDER/bench.tsv; FOLDER/bench.txt gets what is said.  asked_of: the precisions of which something
    is asked on this processor; disturbed(): are the figures of now in doubt?"""

    def __init__(self, folder, asked_of, disturbed):
        self.folder, self.asked_of, self.disturbed = folder, asked_of, disturbed
        self.log = open(folder + "/bench.txt", "w")
        self.rows, self.growths, self.gains, self.lines = [], [], [], []
        self.write()

    def say(self, text=""):
        print(text, flush=True)
        print(text, file=self.log, flush=True)

    def write(self):
        with open(self.folder + "/bench.tsv", "w") as f:
            for row in (HEADER, *self.rows):
                f.write("\t".join(map(str, row)) + "\n")

    def add(self, work, precision, ours, peer, unit, mb, fraction=None):
        """Rates, or with unit s times; peer None: there is none.  Returns how many times better ours is."""
        ratio = None if not peer else peer / ours if unit == "s" else ours / peer
        self.rows.append([work, precision, show(ours), show(peer), unit, show(ratio), show(fraction), f"{mb:.0f}"])
        self.say(f"  {work} {precision}: {show(ours)} {unit}, peer {show(peer)}: {show(ratio)} times; "
                 f"{show(fraction)} of the limit; {mb:.0f} MB")
        self.write()
        return ratio

    # ---- lines of what is asked ----

    def judge(self, line, precision, value, asked, least=True, unit=""):
        """value is asked to be at least, or at most, so much; asked None: it is only shown."""
        verdict = "" if asked is None else "not measured" if value is None else \
            "not asked here" if precision not in (*self.asked_of, "-") else \
            "met" if (value >= asked if least else value <= asked) else f"MISSED by {abs(value / asked - 1):.0%}"
        if verdict and self.disturbed():
            verdict += " (disturbed)"
        self.lines.append([line, precision, "" if asked is None else f"{'>=' if least else '<='} {asked:g}{unit}",
                           show(value) + (unit if value is not None else ""), verdict])

    def growth(self, work, precision, unit, times, start=None):
        """Seconds at 1, 2, 4 times the data, start-up apart if known, else out of the first doubling."""
        one, two, four = (times[s] for s in sorted(times)[-3:])
        ratio = (four - two) / (two - one) / 2 if start is None else (four - start) / (two - start) / 2
        sizes = sorted(times)[-3:]
        self.growths.append([work, precision, f"{sizes[0]:g} {unit}", "-" if start is None else f"{start:.2f}",
                             *(f"{t:.2f}" for t in (one, two, four)), f"{ratio:.2f}"])
        self.judge(f"{work}: twice the data against proportional", precision, ratio, 1.1, least=False)

    def gain(self, work, precision, found, cores, asked=0.9):
        if not found:
            return
        ours, limit = found
        self.gains.append([work, precision, f"{ours:.2f}", f"{limit:.2f}", f"{ours / limit:.2f}"])
        self.judge(f"{work}: {cores} threads against one, of the limit's gain", precision, ours / limit, asked)

    def tables(self):
        if self.growths:
            self.say("cost as the data grow: seconds at 1, 2, 4 times; the last doubling against proportional")
            self.print("stage precision 1x start 1x 2x 4x doubling".split(), self.growths)
        if self.gains:
            self.say("all threads against one, and the machine's limit alternated with each")
            self.print("stage precision gain limit of-it".split(), self.gains)
        self.say("what is asked")
        self.print("line precision asked measured verdict".split(), self.lines)

    def print(self, header, rows):
        for line in align([header, *rows]):
            self.say(line)
