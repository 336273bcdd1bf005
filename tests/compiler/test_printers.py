"""What printers write for one small net with a loop, a branch, fused groups, a state and an update.

Run as a script, this file prints every format: the tests start it so to compare two processes.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import networkx as nx
import pytest

from graphnet.compiler import build as b
from graphnet.compiler.c import c_target
from graphnet.compiler.ir import Constant, Graph, Node, Type, Where, leaf, make, session
from graphnet.compiler.lower import lower
from graphnet.compiler.ops.control import cond, scan
from graphnet.compiler.passes import Context, PassRun
from graphnet.compiler.passes.fuse import fuse
from graphnet.compiler.printers import dot, explain, export, html, listing, memory, schedule, summary
from graphnet.compiler.printers.buffers import homes_of
from graphnet.compiler.printers.numbering import number
from graphnet.compiler.printers.text import within
from graphnet.compiler.schedule import Fused, Kernel, Plan, flat

Golden = Callable[[str, str], None]
F = "float32"


def at(line: int, scope: str) -> Where:
    return Where("/somewhere/net.py", line, scope)


def recurrent(x: Node, h: Node) -> tuple[Node, Node]:
    """tanh(x_t @ w + h @ u) over the first axis: the last value and all of them."""
    where = at(4, "net/rnn_1")
    w, u = (leaf(f"net/rnn_1/{n}", "param", Type((k, 5), F), where) for n, k in (("w", 4), ("u", 5)))
    with b.at(where):
        carry = leaf("carry0", "carry", h.out, where, 1)
        row = leaf("x0", "x", Type(x.shape[1:], F), where, 1)
        time = leaf("time", "time", Type((), "int32"), where, 1)
        consts = [leaf(f"const{i}", "const", n.out, where, 1) for i, n in enumerate((w, u))]
        new = b.unary("tanh", b.add(b.matmul(row, consts[0]), b.matmul(carry, consts[1])))
        inputs = [carry, row, time, *consts]
        loop = scan([h], [x], [w, u], inputs, ([new], [new], []), x.shape[0], False, where)
        return b.item(loop, 0), b.item(loop, 1)


def doubled_or_negative(y: Node) -> Node:
    """2 y where the sum of y is positive, else -y."""
    with b.at(at(7, "net")):
        inside = leaf("const0", "const", y.out, at(7, "net"), 1)
        then = Graph((inside,), (("out0", b.mul(inside, 2.0)),), name="then")
        orelse = Graph((inside,), (("out0", b.neg(inside)),), name="else")
        return b.item(cond(b.gt(b.sum_(y, (0, 1)), 0.0), then, orelse, [y], at(7, "net")), 0)


def traced() -> Graph:
    """The forward graph with a loss and an update, as a trace leaves it."""
    x = leaf("x", "input", Type((3, 2, 4), F), at(1, ""))
    h = leaf("net/rnn_1/h", "state", Type((2, 5), F), at(4, "net/rnn_1"))
    last, rows = recurrent(x, h)
    v = leaf("net/dense_1/v", "param", Type((5, 2), F), at(5, "net/dense_1"))
    bias = leaf("net/dense_1/b", "param", Type((2,), F), at(5, "net/dense_1"))
    with b.at(at(5, "net/dense_1")):
        y = b.add(b.matmul(last, v), bias)
    with b.at(at(6, "net")):
        offsets = Constant(struct.pack("<2f", 0.5, -1.5), (2,), F)
        y = b.add(b.unary("relu", y), make("constant", (), {"value": offsets}, Type((2,), F), at(6, "net")))
    y = doubled_or_negative(y)
    target = leaf("target", "target", Type((2, 2), F), at(1, ""))
    rate = leaf("optimizer/lr", "hyper", Type((), F))
    with b.at(at(9, "")):
        error = b.sub(y, target)
        loss = b.mul(b.sum_(b.mul(error, error), (0, 1)), 0.25)
    with b.at(at(5, "optimizer/net/dense_1")):
        new = b.sub(bias, b.mul(rate, b.sum_(error, (0,))))
    outputs = (("output", y), ("rows", rows), ("loss", loss))
    return Graph((x,), outputs, ((h, last), (bias, new)), "net:training")


def planned() -> Plan:
    return lower(fuse(traced(), Context()))


def context() -> Context:
    found = Context(disabled=frozenset({"merge_loops"}))
    found.trail = [PassRun("simplify", 0.25, 40, 31), PassRun("fuse", 0.5, 1031, 1031)]
    found.decline("hoist_loops", planned().graph.output("loss"), "it is no loop")
    return found


def parameters() -> dict[str, Type]:
    return {str(n.attrs["name"]): n.out for n in traced().leaves() if n.attrs["role"] == "param"}


FORMATS: dict[str, Callable[[], str]] = {
    "traced.txt": lambda: listing.graph_listing(traced()),
    "collapsed.txt": lambda: listing.graph_listing(traced(), collapse=1),
    "plan.txt": lambda: listing.plan_listing(planned()),
    "schedule.txt": lambda: schedule.listing(planned()),
    "memory.txt": lambda: memory.table(planned()),
    "timeline.txt": lambda: memory.timeline(planned()),
    "summary.txt": lambda: summary.summary(traced(), parameters()),
    "explain.txt": lambda: explain.explain(context(), planned()),
    "graph.dot": lambda: dot.dot(planned()),
    "graph.json": lambda: export.to_json(planned()),
    "graph.graphml": lambda: export.to_graphml(planned().graph),
    "page.html": lambda: html.html(planned(), "net", summary.summary(traced(), parameters())),
}


@pytest.fixture(autouse=True)
def own_nodes() -> Iterator[None]:
    """Nodes of other tests leave no lines behind."""
    with session():
        yield


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_as_recorded(golden: Golden, name: str) -> None:
    """Every format of the small net is byte for byte what its golden file holds."""
    golden(f"printers/{name}", FORMATS[name]())


def test_formats_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Hash seed and working folder leave no mark on any format."""
    texts = []
    for seed in ("1", "22"):
        folder = tmp_path / seed
        folder.mkdir()
        run = subprocess.run(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=folder,
            capture_output=True,
            check=True,
        )
        texts.append(run.stdout.decode())
    assert texts[0] == texts[1] == "".join(make_text() for make_text in FORMATS.values())


@pytest.mark.parametrize("name", FORMATS)
def test_format_tells_no_folder_of_this_machine(name: str) -> None:
    """Files are named by the end of their path alone."""
    assert "somewhere" not in FORMATS[name]()


def test_times_are_printed_only_on_request() -> None:
    """Milliseconds differ from run to run, so a reader has to ask for them."""
    assert "ms" not in explain.explain(context(), planned()).split()
    assert "250.00 ms" in explain.explain(context(), planned(), times=True)


def test_every_step_of_the_plan_is_found_at_its_node() -> None:
    """The buffers beside the nodes of a plan are those its steps write."""
    plan = planned()
    homes = {home.array for home in homes_of(plan).values()}
    steps = [s for s in flat(plan.steps) if isinstance(s, (Kernel, Fused)) and s.op != "copy"]
    assert steps
    assert all(array in homes for step in steps for array in step.outputs)


def test_outputs_are_found_where_the_plan_puts_them() -> None:
    """A named output's buffer in the listing is the plan's own answer."""
    plan = planned()
    homes, refs = homes_of(plan), number(plan.graph).refs
    for name, node in plan.graph.outputs:
        assert homes[refs[node]].array == plan.outputs[name]


def test_a_reduction_shows_the_expression_it_takes_and_what_takes_its_result() -> None:
    """The value that is stored nowhere has no buffer; that of a like node of the same line keeps its own."""
    x, y = (leaf(name, "input", Type((4, 5), F)) for name in "xy")
    with b.at(at(9, "net/norm_1")):
        merged, stored = b.unary("square", x), b.unary("square", y)
        norm, total = b.unary("sqrt", b.sum_(merged, (0, 1))), b.sum_(stored, (0,))
    plan = lower(Graph((x, y), (("norm", norm), ("total", total), ("stored", stored))), target=c_target(1, "avx2"))
    assert [line.strip() for line in schedule.listing(plan).splitlines() if "sum of" in line or "out0 =" in line] == [
        "sum of square(in0)",
        "out0 = sqrt(sum)",
    ]
    homes, refs = homes_of(plan), number(plan.graph).refs
    assert refs[merged] not in homes
    assert homes[refs[stored]].array == plan.outputs["stored"]
    assert homes[refs[norm]].array == plan.outputs["norm"]


def test_json_is_read_back_as_the_same_graph() -> None:
    """networkx reads the dump; it has all nodes, those of bodies too, and no cycle."""
    plan = planned()
    data = json.loads(export.to_json(plan))
    found = nx.node_link_graph(data, edges="edges")
    own = export.to_networkx(plan)
    assert nx.utils.graphs_equal(found, own)
    assert nx.is_directed_acyclic_graph(found)
    assert found.graph["memory"]["arena"] == plan.memory.arena


def test_graphml_is_read_back_with_all_nodes() -> None:
    """networkx reads the GraphML dump as the graph that was written."""
    graph = planned().graph
    found = nx.parse_graphml(export.to_graphml(graph), force_multigraph=True)
    own = export.to_networkx(graph)
    assert set(found) == set(own)
    assert found.number_of_edges() == own.number_of_edges()


def test_unused_leaf_is_listed() -> None:
    """A model input that nothing reads still has a line."""
    used, unused = (leaf(n, "input", Type((2,), F)) for n in ("used", "unused"))
    text = listing.graph_listing(Graph((used, unused), (("output", b.neg(used)),)))
    assert "   2 input unused name=>unused shape=>(2,) float32" in text


def test_plan_without_steps_is_printed() -> None:
    """A graph that only hands on its input has no temporaries and no steps, and prints all the same."""
    x = leaf("x", "input", Type((2,), F))
    plan = lower(Graph((x,), (("output", x),), name="same"))
    assert memory.timeline(plan) == "timeline: no temporaries\n"
    assert "1.000 x the lower bound" in memory.table(plan)
    assert "output output=>1" in listing.plan_listing(plan)
    assert schedule.listing(plan) == "schedule same: 0 steps, arena 0 B (lower bound 0 B)\n"
    assert "</html>" in html.html(plan, "same")


def test_timeline_keeps_to_its_width() -> None:
    """Positions are drawn together where there are more of them than columns."""
    picture = [line for line in memory.timeline(planned(), width=7).splitlines() if line.endswith("|")]
    assert picture
    assert {len(line.split("|")[1]) for line in picture} == {7}


HOSTILE = 'a<b>&"q"\\ \n\x00\u2028]]>--></pre><script>'


def hostile() -> Graph:
    """A graph whose names, scopes and files all hold what formats quote."""
    where = Where(f"/tmp/{HOSTILE}", 3, f"net/{HOSTILE}")
    x = leaf(HOSTILE, "param", Type((2,), F), where)
    with b.at(where):
        return Graph((x,), ((HOSTILE, b.neg(b.unary("exp", x))),), ((x, b.unary("tanh", x)),), name=HOSTILE)


class Tags(HTMLParser):
    """Collects the tags of a page and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "rect", "line"):
            assert self.open.pop() == tag


def test_html_escapes_names() -> None:
    """No name can add a tag or end one; the page needs nothing from elsewhere."""
    for plan in (lower(fuse(hostile(), Context())), planned()):
        tags = Tags()
        text = html.html(plan, HOSTILE, HOSTILE)
        tags.feed(text)
        assert tags.open == []
        assert "script" not in tags.seen
        assert "http" not in text
        assert "\x00" not in text


def test_dot_escapes_names() -> None:
    """Every line of the DOT text has its quotes closed, with names inside them."""
    for line in dot.dot(hostile()).splitlines():
        assert line.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 0


def test_json_and_graphml_escape_names() -> None:
    """Names come back from both, on one line and printable."""
    found = nx.node_link_graph(json.loads(export.to_json(hostile())), edges="edges")
    parsed = nx.parse_graphml(export.to_graphml(hostile()))
    name = found.nodes["1"]["name"]
    assert name == parsed.nodes["1"]["name"] == 'a<b>&"q"\\ \\n\\x00\\u2028]]>--></pre><script>'


def test_listings_keep_a_name_on_its_line() -> None:
    """Line ends in names do not break a listing's lines."""
    plan = lower(hostile())
    lines = listing.graph_listing(plan.graph).splitlines()
    assert len(lines) == 1 + len(within(plan.graph)) + 2
    for text in (schedule.listing(plan), memory.table(plan), memory.timeline(plan)):
        assert all(line.isprintable() for line in text.split("\n"))


if __name__ == "__main__":
    sys.stdout.buffer.write("".join(make_text() for make_text in FORMATS.values()).encode())
