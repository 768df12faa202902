"""Writes what a run found into docs/figures.md and docs/scaling.md."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from report import write_section
from whole_path.figures import (
    CALLERS,
    Figure,
    at_seventy,
    cells,
    each_cpu,
    each_rate,
    latencies,
    per_cpu_second,
    percentile,
    targets,
    tiers,
    times,
)
from whole_path.plots import plot_callers, plot_scale
from whole_path.scaling import needs

COMMAND = "make bench"


def write_pages(run: dict[str, Any], docs: Path) -> str:
    """Write the sections and the plots, and give the text of the report."""
    text = "\n\n".join(part(run) for part in (target_table, comparison, contents, resources, overhead, scale))
    write_section("path", COMMAND, text, docs / "figures.md")
    write_section("scaling", COMMAND, needs(run), docs / "scaling.md")
    images = docs / "images"
    images.mkdir(exist_ok=True)
    plot_callers(run, images / "callers.png")
    plot_scale(run, images / "scale.png")
    return text


def lay_out(head: list[str], rows: list[list[str]]) -> str:
    """Make a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def paragraph(text: str) -> str:
    """Break a text into lines."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def target_table(run: dict[str, Any]) -> str:
    """Say of each target whether it is met."""
    rows = []
    for target in targets(run):
        bound = "at most " if target.most else ""
        met = (
            "yes, and the aim"
            if target.reaches(target.aim)
            else "yes"
            if target.reaches(target.must)
            else "**falls short**"
        )
        must, aim = (f"{bound}{each:g}{target.unit}" for each in (target.must, target.aim))
        rows.append([target.what, must, aim, f"{target.got}{target.unit}", met])
    return lay_out(["target", "must", "aim", "got", "met"], rows)


def comparison(run: dict[str, Any]) -> str:
    """Lay both stacks side by side."""
    rows = []
    for size, callers in dict.fromkeys((cell["size"], cell["callers"]) for cell in run["side_by_side"]["cells"]):
        theirs, ours = (cells(run, stack, size, callers) for stack in ("baseline", "facet"))
        row = [size, str(callers)]
        for figure in (each_rate, per_cpu_second):
            row += [str(Figure.of(figure(theirs))), str(Figure.of(figure(ours)))]
            row.append(f"{times(figure(ours), figure(theirs)).middle:.1f}")
        for samples in (theirs, ours):
            waited = latencies(samples)
            row.append(" / ".join(f"{percentile(waited, each):.0f}" for each in (50, 95, 99)) + f" of {len(waited)}")
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
        of them, with their range; "times" compares round by round; percentiles are of all requests. The callers, who
        wait for each answer, run on the same CPUs; they take {generator} ms of CPU time for a request, which is not
        counted. The machine's load was {run["load_before"]:.1f} when it began.
    """)
    return f"{text}\n\n{lay_out(head, rows)}\n\n![Requests per second and p99 over the callers](images/callers.png)"


def contents(run: dict[str, Any]) -> str:
    """Say what was in the pictures, and how long one caller waits for each."""
    both = run["side_by_side"]
    rows = []
    for name, faces in both["faces"].items():
        size = name.partition(",")[0]
        waited = [
            f"{percentile(latencies(cells(run, stack, size, 1), name), 50):.0f}" for stack in ("baseline", "facet")
        ]
        rows.append([name, f"{both['bytes'][name] / 1000:.0f}", str(faces), *waited])
    head = ["picture", "kB", "faces, both", "baseline, p50 ms, one caller", "facet"]
    return f"Both find as many faces in every one of these answers; else the run ends.\n\n{lay_out(head, rows)}"


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
        Each runs alone when its memory is read, after some three pictures of each kind for each of its processes.
    """)
    return f"{text}\n\n{lay_out(head, rows)}"


def overhead(run: dict[str, Any]) -> str:
    """Say what the path costs beside the detector."""
    found = run["overhead"]
    rows = []
    for name, samples in found["one_caller"].items():
        waited, split = latencies(samples), tiers(samples)
        used = [f"{split[tier]:.1f}" if tier in split else "" for tier in ("envoy", "web", "inference")]
        ranks = [f"{percentile(waited, each):.1f}" for each in (50, 99)]
        rows.append([name, *ranks, str(Figure.of(each_cpu(samples))), *used])
    head = ["asked by one caller", "p50, ms", "p99, ms", "CPU, ms", "of it Envoy", "web", "inference"]
    waits = {times: [Figure.of(at_seventy(run, times, percent)) for percent in (50, 99)] for times in found["loaded"]}
    parts = [part for rounds in found["loaded"].values() for part in rounds]
    answers = sum(len(part["latencies"]) for part in parts)
    wrong = sum(count for part in parts for count in part["wrong"].values())
    ideal_middle, ideal_worst = found["ideal"]
    said = "; ".join(f"at {times} p50 is {middle} ms and p99 {worst} ms" for times, (middle, worst) in waits.items())
    busy = [
        [
            name,
            str(Figure.of(each_rate(samples))),
            str(Figure.of(each_cpu(samples))),
            f"{samples[0]['callers_cpu']:.1f}",
        ]
        for name, samples in found["busy"].items()
    ]
    text = paragraph(f"""
        What the path costs, with the picture `{found["picture"]}` as the request's body where nothing else is said. The
        detector alone decodes and detects in a loop, without a network; gRPC's caller is itself part of the latency.
    """)
    chance = paragraph(f"""
        At 70 % of that, {found["rate"]:.0f} requests/s that heed no answer: {said} ({answers} requests, and
        {wrong or "no"} refusals, which count as waiting for ever). At random times some requests come together by
        chance: in a perfect queue before {run["side_by_side"]["workers"]} servers that always take just as long, p99
        would then be {ideal_worst / ideal_middle:.1f} times p50.
    """)
    many = f"With {CALLERS} callers, and the detector alone in as many processes as there are workers:"
    head_of_many = ["", "pictures/s", "CPU, ms", "callers, ms"]
    return "\n\n".join([text, lay_out(head, rows), many, lay_out(head_of_many, busy), chance])


def scale(run: dict[str, Any]) -> str:
    """Say how throughput and spread go with the number of workers."""
    rows, seconds = [], run["scale"]["service_seconds"]
    for row in run["scale"]["rows"]:
        ideal = row["workers"] / seconds
        counts = [max(sample["workers"].values()) / min(sample["workers"].values()) for sample in row["samples"]]
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
