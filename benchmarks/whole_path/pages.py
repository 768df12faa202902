"""Writes the results of a run into docs/figures.md, docs/scaling.md and the headline of README.md."""

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
# The cost of a part: the difference between a path with it and one without.
HOPS = {
    "Envoy before the workers": (ENVOY, WORKER),
    "the gateway, with its hop": (GATEWAY, ENVOY),
    "Envoy at the edge": (WHOLE, GATEWAY),
    "multipart instead of the image": (FORM, WHOLE),
    "JSON with base64 instead of the image": (JSON, WHOLE),
}


def write_pages(run: dict[str, Any], docs: Path) -> str:
    """Write the sections and the plots, and return the report. Raises CannotCompare for an incomplete run."""
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
    """Return three figures that compare facet with the baseline."""
    cpu, rate = (target.got.text("x") for target in against_the_baseline(run)[:2])
    rows = [
        ["requests/s", rate],
        ["requests per CPU-second", cpu],
        ["memory, same number of workers", f"{1 / lighter(run).middle:.2f}x"],
    ]
    return lay_out([f"facet over baseline, {SIZE}, {CALLERS} callers", ""], rows)


def target_table(run: dict[str, Any]) -> str:
    """Return the targets, and whether each is met."""
    rows = []
    for target in targets(run):
        bound = "at most " if target.most else ""
        must, aim = (f"{bound}{each:g}{target.unit}" for each in (target.must, target.aim))
        rows.append([target.what, must, aim, target.got.text(target.unit), verdict(target)])
    return lay_out(["target", "required", "goal", "measured", "met"], rows)


def verdict(target: Target) -> str:
    """Return whether a target is met, in words."""
    if target.reaches(target.aim):
        return "yes, and the goal"
    return "yes" if target.reaches(target.must) else f"**falls short**{target.short_of_must}"


def comparison(run: dict[str, Any]) -> str:
    """Compare both stacks."""
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
        "image",
        "callers",
        "baseline, requests/s",
        "facet",
        "ratio",
        "baseline, per CPU-second",
        "facet",
        "ratio",
    ]
    head += ["baseline, p50 / p95 / p99 ms", "facet"]
    both = run["side_by_side"]
    generator = Figure.of([cell["callers_cpu"] for cell in both["cells"]])
    text = paragraph(f"""
        facet with {both["workers"]} workers, one per CPU, and the [baseline](../benchmarks/baseline/README.md) with
        {both["processes"]} processes get the same requests in turns: JSON with base64, and three images per size, one
        with one face, one with several and one with none. Figures are medians over {run["rounds"]} rounds, with their
        range; "ratio" compares round by round. Percentiles cover all requests; p99 needs at least a hundred. The rate
        excludes responses that arrive after the callers have stopped sending. The callers wait for each response and
        run on the same CPUs. They use {generator} ms of CPU time per request, which is not counted. The load average of
        the machine was {run["load_before"]:.1f} at the start.
    """)
    plot = "![Requests per second and p95 over the callers](images/callers.png)"
    return "\n\n".join([text, lay_out(head, rows), spread(run), plot])


def spread(run: dict[str, Any]) -> str:
    """Show how evenly each stack uses its processes."""
    both = run["side_by_side"]
    callers = sorted({cell["callers"] for cell in both["cells"]})
    rows = []
    for stack, count in (("baseline", both["processes"]), ("facet", both["workers"])):
        those = [[cell for cell in both["cells"] if (cell["stack"], cell["callers"]) == (stack, n)] for n in callers]
        shares = [f"{100 * median(cell['busiest'] for cell in each):.0f} %" for each in those]
        rows.append([f"{stack}, {count}", f"{100 / count:.0f} %", *shares])
    head = ["share of the busiest process", "if all were equal", *(f"callers: {count}" for count in callers)]
    text = paragraph("""
        The busiest process uses this share of the CPU time of all detector processes. The baseline opens a channel for
        each request, and gRPC lets channels that exist at the same time share a connection, which leads to one process.
    """)
    return f"{text}\n\n{lay_out(head, rows)}"


def contents(run: dict[str, Any]) -> str:
    """Describe the images, and show how long one caller waits for each."""
    both = run["side_by_side"]
    rows = []
    for name, faces in both["faces"].items():
        size = name.partition(",")[0]
        waited = [rank(latencies(cells(run, stack, size, 1), name), 50) for stack in ("baseline", "facet")]
        rows.append([name, f"{both['bytes'][name] / 1000:.0f}", str(faces), *waited])
    head = ["image", "kB", "faces, both", "baseline, p50 ms, one caller", "facet"]
    text = paragraph(f"""
        Both find the same faces, within {SAME_PIXELS} pixels, in every response; otherwise the run fails.
    """)
    return f"{text}\n\n{lay_out(head, rows)}"


def resources(run: dict[str, Any]) -> str:
    """Show memory and start time."""
    both = run["side_by_side"]
    starts = {
        f"facet, {both['workers']}": Figure.of(both["cold_start"]["facet"]),
        f"baseline, {both['processes']}": Figure.of(both["cold_start"]["baseline"]),
    }
    rows = [[name, f"{megabytes:.0f}", str(starts.get(name, ""))] for name, megabytes in both["memory"].items()]
    head = [
        "stack and workers",
        "memory of all processes (PSS), MB",
        "from the command to the first correct response, s",
    ]
    text = paragraph("""
        Each stack runs alone while its memory is read, after about three images of each kind per process and when every
        process has done some work.
    """)
    return f"{text}\n\n{lay_out(head, rows)}"


def overhead(run: dict[str, Any]) -> str:
    """Show what the path costs in addition to the detector."""
    found = run["overhead"]
    rows = []
    for name, samples in found["one_caller"].items():
        waited, split = latencies(samples), tiers(samples)
        used = [f"{split[tier]:.1f}" if tier in split else "" for tier in ("envoy", "web", "inference")]
        ranks = [rank(waited, each, 1) for each in (50, 99)]
        rows.append([name, *ranks, str(Figure.of(each_cpu(samples))), *used])
    head = ["one caller of", "p50, ms", "p99, ms", "CPU, ms", "of which Envoy", "web", "inference"]
    text = paragraph(f"""
        The cost of the path, with the image `{found["image"]}` as the request body unless the row says otherwise. The
        detector alone decodes and detects in a loop, without a network. The gRPC client is part of the measured
        latency.
    """)
    return "\n\n".join([text, lay_out(head, rows), hops(run), busy(run), seventy(run)])


def hops(run: dict[str, Any]) -> str:
    """Show what each hop and each form adds."""
    one = run["overhead"]["one_caller"]
    rows = []
    for name, (having, lacking) in HOPS.items():
        added = [minus(each(one[having]), each(one[lacking])) for each in (each_p50, each_cpu)]
        rows.append([name, *map(str, added)])
    text = paragraph("""
        What each part adds: the median, over the rounds, of the difference between two of these rows. The gateway's row
        compares an HTTP client with a gRPC client. The base64 text and the form are built beforehand, so their cost to
        a client is not included.
    """)
    return f"{text}\n\n{lay_out(['what is added', 'p50, ms', 'CPU, ms'], rows)}"


def busy(run: dict[str, Any]) -> str:
    """Show the throughput with many callers, and its cost."""
    rows = []
    for name, samples in run["overhead"]["busy"].items():
        callers = f"{samples[0]['callers_cpu']:.1f}"
        rows.append([name, str(Figure.of(each_rate(samples))), str(Figure.of(each_cpu(samples))), callers])
    text = f"With {CALLERS} callers. The detector alone runs in as many processes as there are workers."
    return f"{text}\n\n{lay_out(['', 'images/s', 'CPU, ms', 'callers, ms'], rows)}"


def seventy(run: dict[str, Any]) -> str:
    """Show how long requests wait at 70 % of the capacity."""
    found = run["overhead"]
    waits = {when: [Figure.of(at_seventy(run, when, percent)) for percent in (50, 99)] for when in found["loaded"]}
    parts = [part for rounds in found["loaded"].values() for part in rounds]
    answers = sum(len(part["latencies"]) for part in parts)
    wrong = sum(count for part in parts for count in part["wrong"].values())
    middle, worst = found["ideal"]
    said = "; ".join(f"at {when}, p50 is {ours} ms and p99 {tail} ms" for when, (ours, tail) in waits.items())
    return paragraph(f"""
        At 70 % of that rate, {found["rate"]:.0f} requests/s, sent without waiting for responses: {said} ({answers}
        requests, {wrong or "no"} refusals; a refusal counts as an infinite wait). At random times, some requests arrive
        together by chance: with a perfect queue in front of {run["side_by_side"]["workers"]} servers with a constant
        service time, p99 would be {worst / middle:.1f} times p50.
    """)


def scale(run: dict[str, Any]) -> str:
    """Show throughput and balance by the number of workers."""
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
        Throughput by the number of workers. Here the detector is a stand-in that sleeps for {1000 * seconds:.0f} ms, so
        that these CPUs suffice for all workers; everything else is real. The ideal is {1 / seconds:.0f} requests/s per
        worker, as if only the sleep took time. [scaling.md](scaling.md) extrapolates from here.
    """)
    return f"{text}\n\n{lay_out(head, rows)}\n\n![Requests per second over the sleeping workers](images/scale.png)"
