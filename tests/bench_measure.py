"""bench_measure: programs run side by side on a machine that others may use, too.

A measurement during which others took more than a tenth of the processors is made again, as long as patience
lasts; what is compared alternates, and medians are taken."""
import json
import os
import shutil
import statistics
import subprocess
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.abspath(os.environ.get("BIN", TOP + "/out/bin"))
PEERS = TOP + "/tests/peers/"
CORES = len(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")
MUCH = 0.10     # of the processors, in others' hands


class Failed(Exception):
    pass


# ---- others ----

class Others:
    """What share of the processors others took since; a peer that lives on is counted by its id."""

    def __init__(self, peer=None):
        self.peer = peer
        self.start, self.busy, self.own = time.perf_counter(), self.busy_seconds(), self.own_seconds()

    @staticmethod
    def busy_seconds():
        user, low, system, _, _, irq, soft, steal = map(int, open("/proc/stat").readline().split()[1:9])
        return (user + low + system + irq + soft + steal) / TICKS

    def own_seconds(self):
        t = os.times()
        own = t.user + t.system + t.children_user + t.children_system
        if self.peer:
            own += sum(map(int, open(f"/proc/{self.peer}/stat").read().rsplit(")", 1)[1].split()[11:13])) / TICKS
        return own

    def share(self):
        took = self.busy_seconds() - self.busy - (self.own_seconds() - self.own)
        return max(took, 0) / (time.perf_counter() - self.start) / CORES


class Patience:
    """Seconds left for measuring again, and how much was taken by others in the worst measurement kept."""
    left, worst, again = 100, 0, 0

    @classmethod
    def begin(cls):
        cls.worst = 0


def steady(measure, peer=None):
    """measure(); again when others disturbed it.  What was disturbed least."""
    best = None
    while True:
        others, start = Others(peer), time.perf_counter()
        found = measure()
        share = others.share()
        if best is None or share < best[0]:
            best = share, found
        if share <= MUCH or Patience.left <= 0:
            Patience.worst = max(Patience.worst, best[0])
            return best[1]
        Patience.left -= time.perf_counter() - start + 0.5
        Patience.again += 1
        time.sleep(0.5)


# ---- programs ----

class Run:
    """A tool run to its end, by one process or, with a launcher's words, by several."""

    def __init__(self, tool, *words, threads=CORES, launch=()):
        self.command = [*launch, f"{BIN}/{tool}", "-q", "-j", str(threads), *map(str, words)]
        self.forget(words)
        start = time.perf_counter()
        p = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        error = p.stderr.read().decode()
        _, status, used = os.wait4(p.pid, 0)
        self.seconds = time.perf_counter() - start
        self.mb = used.ru_maxrss / 1024
        self.read_mb = used.ru_inblock * 512 / 1e6      # from the disk
        if status:
            raise Failed((error.strip().splitlines() or [f"{tool}: status {status}"])[-1])

    @staticmethod
    def forget(words):
        """No output of an earlier run: a tool that finds its own does nothing."""
        out = words[words.index("-o") + 1]
        for name in (out, out + ".stamp"):
            if os.path.isdir(name):
                shutil.rmtree(name)
            elif os.path.exists(name):
                os.remove(name)


class Peer:
    """A script of tests/peers, warm and waiting to be told to repeat its work."""

    def __init__(self, name, python, script, *words, env=None):
        self.name, self.rates, self.mb, self.last = name, [], 0, {}
        self.command = [python, PEERS + script, *map(str, words)]
        self.p = subprocess.Popen(self.command, env={**os.environ, **(env or {})}, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.about = json.loads(self.answer())

    def answer(self):
        line = self.p.stdout.readline()
        if not line:
            raise Failed((self.p.stderr.read().strip().splitlines() or ["died"])[-1])
        return line

    def repeat(self):
        self.p.stdin.write("\n")
        self.p.stdin.flush()
        return json.loads(self.answer())

    def go(self):
        self.last = steady(self.repeat, self.p.pid)
        self.rates.append(self.last["amount"] / self.last["seconds"])
        self.mb = self.last["peak_mb"]

    def end(self):
        self.p.stdin.close()
        self.p.wait()


def started(specs, env, say):
    """Each of the peers in turn, warm; those that cannot run here are left out with a line."""
    for name, *words in specs:
        try:
            peer = Peer(name, *words, env=env(name))
        except (Failed, OSError) as e:
            say(f"  left out: {name}: {e}")
            continue
        try:
            yield peer
        finally:
            peer.end()


# ---- the machine's limit ----

def limit_now(threads, precision="f32"):
    """Multiply-adds in GFLOP/s of this many threads: by processor time, by the clock."""
    line = subprocess.run([f"{BIN}/tests/bench", str(threads), "no-op", "best", *["best"] * (precision == "bf16")],
                          stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[0]
    words = line.replace(",", " ").split()
    number = lambda key: float(words[words.index(key) + 1])
    return {"cpu": number("limit"), "wall": number("clock"), "line": line}


def limit(threads, precision="f32", cache={}):
    """The same, measured once."""
    if (threads, precision) not in cache:
        cache[threads, precision] = steady(lambda: limit_now(threads, precision))
    return cache[threads, precision]


# ---- alternation ----

def slope(times):
    """Seconds of a unit, start-up apart: from the smallest and the largest of {units: seconds}."""
    low, high = min(times), max(times)
    return (times[high] - times[low]) / (high - low)


class Rounds:
    """Rounds of: ours(size, threads) at each of the sizes; at the sizes `against` with one thread or, if that is
    what `threads` says, with all; the machine's limit with one thread and with all; a repetition of the first
    peer.  Then the other peers, once each."""

    def __init__(self, ours, sizes, against=(), threads=CORES, repetitions=3, peers=(), say=print):
        self.sizes, self.against, self.threads, self.say = sizes, against if CORES > 1 else (), threads, say
        self.ours, self.times, self.limits, self.rates, self.mb, self.command = ours, {}, {}, {}, 0, []
        done = 0
        for peer in peers:
            for _ in range(1 if done else repetitions):
                if not self.rates:
                    self.round()
                    done += 1
                peer.go()
            self.rates[peer.name] = statistics.median(peer.rates)
            say(f"  {peer.name}: {self.rates[peer.name]:.4g} a second, {peer.mb:.0f} MB, "
                f"{json.dumps({**peer.about, **peer.last})}")
            say("    " + " ".join(peer.command))
        for _ in range(repetitions - done):
            self.round()
        self.tell()

    def run(self, size, threads):
        run = steady(lambda: self.ours(size, threads))
        self.times.setdefault((size, threads), []).append(run.seconds)
        self.mb = max(self.mb, run.mb)
        return run

    def round(self):
        other = 1 if self.threads == CORES else CORES
        for size in self.sizes:
            self.command = self.run(size, self.threads).command
        for size in self.against:
            if size not in self.sizes:
                self.command = self.run(size, self.threads).command
            for threads in 1, CORES:
                self.limits.setdefault(threads, []).append(steady(lambda: limit_now(threads))["wall"])
            self.run(size, other)

    def tell(self):
        for threads in sorted({t for _, t in self.times}):
            self.say(f"  ours, {threads} thread{'s' * (threads > 1)}: " + ", ".join(
                f"{s}: " + "/".join(f"{x:.2f}" for x in t) + " s" for (s, n), t in self.times.items() if n == threads))
        self.say("    " + " ".join(self.command))

    def seconds(self, threads=None):
        """{size: median}"""
        return {s: statistics.median(t) for (s, n), t in self.times.items() if n == (threads or self.threads)}

    def gain(self):
        """All threads against one, and the limit's own gain; None where there is one processor."""
        if not self.against:
            return None
        per = lambda t: slope(t) if len(self.against) > 1 else t[self.against[0]]
        one, both = (per({s: self.seconds(n)[s] for s in self.against}) for n in (1, CORES))
        return one / both, statistics.median(self.limits[CORES]) / statistics.median(self.limits[1])
