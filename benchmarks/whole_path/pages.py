"""Writes what a run found into docs/figures.md, docs/scaling.md and the headline of README.md."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from report import has_section, write_section
from whole_path.figures import (
    Figure,
    Target,
    against_the_baseline,
    at_seventy,
    busiest_over_idlest,
    cells,
    each_cpu,
    each_p50,
    each_rate,
    latencies,
    lighter,
    minus,
    over,
    per_cpu_second,
    rank,
    targets,
    tiers,
)
from whole_path.load import CALLERS, SAME_PIXELS, SIZE
from whole_path.markdown import lay_out, paragraph
from whole_path.overhead import ENVOY, FORM, GATEWAY, JSON, WHOLE, WORKER
from whole_path.plots import plot_callers, plot_scale
from whole_path.scaling import needs
from whole_path.stacks import CannotCompare

COMMAND = "make bench"
PARTS = {"side_by_side", "overhead", "scale"}
# What lies between two ways to ask: the one with it, and the one without.
HOPS = {
    "Envoy before the workers": (ENVOY, WORKER),
    "the gateway, with its hop": (GATEWAY, ENVOY),
    "Envoy at the edge": (WHOLE, GATEWAY),
    "multipart instead of the picture": (FORM, WHOLE),
    "JSON with base64 instead of the picture": (JSON, WHOLE),
}


def write_pages(run: dict[str, Any], docs: Path) -> str:
    """Write the sections and the plots, and give the text of the report. Raises CannotCompare for part of a run."""
    if missing := PARTS - run.keys():
        raise CannotCompare(f"the run has ended before it measured {', '.join(sorted(missing))}: measure again")
    text = "\n\n".join(part(run) for part in (target_table, comparison, contents, resources, overhead, scale))
    images = docs / "images"
    images.mkdir(exist_ok=True)
    plot_callers(run, images / "callers.png")
    plot_scale(run, images / "scale.png")
    write_section("path", COMMAND, text, docs / "figures.md", run["machine"])
    write_section("scaling", COMMAND, needs(run), docs / "scaling.md", run["machine"])
    if has_section("headline", readme := docs.parent / "README.md"):
        write_section("headline", COMMAND, headline(run), readme, run["machine"])
    return text


def headline(run: dict[str, Any]) -> str:
    """Say in three numbers how facet compares with the baseline."""
    cpu, rate = (target.got.text("x") for target in against_the_baseline(run)[:2])
    rows = [
        ["requests/s", rate],
        ["requests per CPU-second", cpu],
        ["memory, as many workers", f"{1 / lighter(run).middle:.2f}x"],
    ]
    return lay_out([f"facet over baseline, {SIZE}, {CALLERS} callers", ""], rows)


def target_table(run: dict[str, Any]) -> str:
    """Say of each target whether it is met."""
    rows = []
    for target in targets(run):
        bound = "at most " if target.most else ""
        must, aim = (f"{bound}{each:g}{target.unit}" for each in (target.must, target.aim))
        rows.append([target.what, must, aim, target.got.text(target.unit), verdict(target)])
    return lay_out(["target", "must", "aim", "got", "met"], rows)


def verdict(target: Target) -> str:
    """Say whether a target is met."""
    if target.reaches(target.aim):
        return "yes, and the aim"
    return "yes" if target.reaches(target.must) else f"**falls short**{target.short_of_must}"


def comparison(run: dict[str, Any]) -> str:
    """Lay both stacks side by side."""
    rows = []
    for size, callers in dict.fromkeys((cell["size"], cell["callers"]) for cell in run["side_by_side"]["cells"]):
        theirs, ours = (cells(run, stack, size, callers) for stack in ("baseline", "facet"))
        row = [size, str(callers)]
        for figure in (each_rate, per_cpu_second):
            row += [str(Figure.of(figure(theirs))), str(Figure.of(figure(ours)))]
            row.append(f"{over(figure(ours), figure(theirs)).middle:.1f}")
        for samples in (theirs, ours):
            waited = latencies(samples)
            row.append(" / ".join(rank(waited, each) for each in (50, 95, 99)) + f" of {len(waited)}")
        rows.append(row)
    head = [
        "picture",
        "callers",
        "baseline, requests/s",
        "facet",
        "times",
        "baseline, per CPU-second",
        "facet",
        "times",
    ]
    head += ["baseline, p50 / p95 / p99 ms", "facet"]
    both = run["side_by_side"]
    generator = Figure.of([cell["callers_cpu"] for cell in both["cells"]])
    text = paragraph(f"""
        Facet with {both["workers"]} workers, one a CPU, and the [baseline](../benchmarks/baseline/README.md) with
        {both["processes"]} processes get the same requests, JSON with base64, in turns: three pictures of a size, with
        one face, with several and with none, one after the other. Figures are medians over the rounds, {run["rounds"]}
        of them, with their range; "times" compares round by round; percentiles are of all requests, and p99 takes a
        hundred of them. A rate leaves out the last answers, when no more is asked. The callers, who wait for each
        answer, run on the same CPUs; they take {generator} ms of CPU time for a request, which is not counted.
        The machine's load was {run["load_before"]:.1f} when it began.
    """)
    plot = "![Requests per second and p95 over the callers](images/callers.png)"
    return "\n\n".join([text, lay_out(head, rows), spread(run), plot])


def spread(run: dict[str, Any]) -> str:
    """Say how evenly each stack uses its processes."""
    both = run["side_by_side"]
    callers = sorted({cell["callers"] for cell in both["cells"]})
    rows = []
    for stack, count in (("baseline", both["processes"]), ("facet", both["workers"])):
        those = [[cell for cell in both["cells"] if (cell["stack"], cell["callers"]) == (stack, n)] for n in callers]
        shares = [f"{100 * median(cell['busiest'] for cell in each):.0f} %" for each in those]
        rows.append([f"{stack}, {count}", f"{100 / count:.0f} %", *shares])
    head = ["share of the busiest process", "if all were even", *(f"callers: {count}" for count in callers)]
    text = paragraph("""
        Of the CPU time of all processes that detect, the busiest takes this share. The baseline makes a channel for
        each request, and gRPC lets those that live at the same time share a connection, which leads to one process.
    """)
    return f"{text}\n\n{lay_out(head, rows)}"


def contents(run: dict[str, Any]) -> str:
    """Say what was in the pictures, and how long one caller waits for each."""
    both = run["side_by_side"]
    rows = []
    for name, faces in both["faces"].items():
        size = name.partition(",")[0]
        waited = [rank(latencies(cells(run, stack, size, 1), name), 50) for stack in ("baseline", "facet")]
        rows.append([name, f"{both['bytes'][name] / 1000:.0f}", str(faces), *waited])
    head = ["picture", "kB", "faces, both", "baseline, p50 ms, one caller", "facet"]
    text = paragraph(f"""
        Both find the same faces, within {SAME_PIXELS} pixels, and as many in every one of these answers; else the run
        ends.
    """)
    return f"{text}\n\n{lay_out(head, rows)}"


def resources(run: dict[str, Any]) -> str:
    """Say what it takes before there is any work."""
    both = run["side_by_side"]
    starts = {
        f"facet, {both['workers']}": Figure.of(both["cold_start"]["facet"]),
        f"baseline, {both['processes']}": Figure.of(both["cold_start"]["baseline"]),
    }
    rows = [[name, f"{megabytes:.0f}", str(starts.get(name, ""))] for name, megabytes in both["memory"].items()]
    head = [
        "stack, and its workers",
        "memory of all processes (PSS), MB",
        "from the command to the first right answer, s",
    ]
    text = paragraph("""
        Each runs alone when its memory is read, after some three pictures of each kind for each of its processes, and
        when all of them have had work.
    """)
    return f"{text}\n\n{lay_out(head, rows)}"


def overhead(run: dict[str, Any]) -> str:
    """Say what the path costs beside the detector."""
    found = run["overhead"]
    rows = []
    for name, samples in found["one_caller"].items():
        waited, split = latencies(samples), tiers(samples)
        used = [f"{split[tier]:.1f}" if tier in split else "" for tier in ("envoy", "web", "inference")]
        ranks = [rank(waited, each, 1) for each in (50, 99)]
        rows.append([name, *ranks, str(Figure.of(each_cpu(samples))), *used])
    head = ["asked by one caller", "p50, ms", "p99, ms", "CPU, ms", "of it Envoy", "web", "inference"]
    text = paragraph(f"""
        What the path costs, with the picture `{found["picture"]}` as the request's body where nothing else is said. The
        detector alone decodes and detects in a loop, without a network; gRPC's caller is itself part of the latency.
    """)
    return "\n\n".join([text, lay_out(head, rows), hops(run), busy(run), seventy(run)])


def hops(run: dict[str, Any]) -> str:
    """Say what each hop and each form adds."""
    one = run["overhead"]["one_caller"]
    rows = []
    for name, (having, lacking) in HOPS.items():
        added = [minus(each(one[having]), each(one[lacking])) for each in (each_p50, each_cpu)]
        rows.append([name, *map(str, added)])
    text = paragraph("""
        So each part adds, in the median over the rounds of the differences between two of these rows. The gateway's row
        holds a caller by HTTP against one by gRPC. Base64 and the form were made before: what that costs a client is
        not in it.
    """)
    return f"{text}\n\n{lay_out(['what is added', 'p50, ms', 'CPU, ms'], rows)}"


def busy(run: dict[str, Any]) -> str:
    """Say what many callers get, and what it costs."""
    rows = []
    for name, samples in run["overhead"]["busy"].items():
        callers = f"{samples[0]['callers_cpu']:.1f}"
        rows.append([name, str(Figure.of(each_rate(samples))), str(Figure.of(each_cpu(samples))), callers])
    text = f"With {CALLERS} callers, and the detector alone in as many processes as there are workers:"
    return f"{text}\n\n{lay_out(['', 'pictures/s', 'CPU, ms', 'callers, ms'], rows)}"


def seventy(run: dict[str, Any]) -> str:
    """Say how long requests wait that come at 70 % of what the stack bears."""
    found = run["overhead"]
    waits = {when: [Figure.of(at_seventy(run, when, percent)) for percent in (50, 99)] for when in found["loaded"]}
    parts = [part for rounds in found["loaded"].values() for part in rounds]
    answers = sum(len(part["latencies"]) for part in parts)
    wrong = sum(count for part in parts for count in part["wrong"].values())
    middle, worst = found["ideal"]
    said = "; ".join(f"at {when} p50 is {ours} ms and p99 {tail} ms" for when, (ours, tail) in waits.items())
    return paragraph(f"""
        At 70 % of that, {found["rate"]:.0f} requests/s that heed no answer: {said} ({answers} requests, and
        {wrong or "no"} refusals, which count as waiting for ever). At random times some requests come together by
        chance: in a perfect queue before {run["side_by_side"]["workers"]} servers that always take just as long, p99
        would then be {worst / middle:.1f} times p50.
    """)


def scale(run: dict[str, Any]) -> str:
    """Say how throughput and spread go with the number of workers."""
    rows, seconds = [], run["scale"]["service_seconds"]
    for row in run["scale"]["rows"]:
        ideal = row["workers"] / seconds
        counts = [busiest_over_idlest(sample["workers"], row["workers"]) for sample in row["samples"]]
        found, used = Figure.of(each_rate(row["samples"])), Figure.of(each_cpu(row["samples"]))
        rows.append(
            [
                str(row["workers"]),
                str(found),
                f"{100 * found.middle / ideal:.0f} %",
                f"{max(counts):.2f}",
                f"{used.middle:.1f}",
            ]
        )
    head = ["workers", "requests/s", "of the ideal", "busiest worker over idlest, worst round", "CPU, ms"]
    text = paragraph(f"""
        How it grows: the workers' detector is a stand-in that sleeps for {1000 * seconds:.0f} ms, so that these CPUs
        suffice for all of them; everything else is real. Ideal are {1 / seconds:.0f} requests/s a worker, as if the
        sleep alone took time. [scaling.md](scaling.md) reckons on from there.
    """)
    return f"{text}\n\n{lay_out(head, rows)}\n\n![Requests per second over the sleeping workers](images/scale.png)"
