"""The pages for people: what they show of real records, and that nobody's words do more there than be read."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")

from models.history import v_orders
from models.history.blotter import Choice
from tests.kit import eventually
from tests.unit.page_site import EVIL, Site, desk_of_orders
from worker.brokers.fake import FakeBroker
from worker.page.metrics import METRICS
from worker.page.pages import PAGES

Desk = tuple[Site, FakeBroker, FakeBroker]
ALL = [*(link for link, _ in PAGES), "/orders/p-fell", "/orders/p-unknown", "/orders/p-held", "/orders/no-such"]
#: Elements that have no end.
VOID = {"meta", "link", "input", "br", "img", "hr"}
NAMED = {"input": "label", "select": "label"}


class Page(HTMLParser):
    """A page as a reader without eyes has it: which elements there are, and what stands in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.problems: list[str] = []
        self.feed(text)
        self.problems += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    risk = {"currency": "USD", "max_open_orders": 3, "max_quantity": 500}
    with desk_of_orders(tmp_path_factory.mktemp("desk"), risk=risk) as made:
        yield made


@pytest.fixture
def site(desk: Desk) -> Site:
    return desk[0]


def text(site: Site, path: str) -> str:
    return Page(site.page(path)).text


def ids(site: Site, query: str) -> list[str]:
    return re.findall(r'<th [^>]*class="who"><a class="id" href="/orders/([^"]+)"', site.page(f"/{query}"))


# -- THE BLOTTER ---
def test_the_blotter_has_the_newest_first_with_reason_attempts_and_fills(site: Site) -> None:
    page = site.page("/")
    everything = ["p-unknown", "p-held", "p-halted", "p-rests", "p-refused", "p-fell", "p-filled"]
    assert ids(site, "") == everything
    words = Page(page).text
    assert "alpaca: halted (strategy mad)" in words
    assert "tda: the order was lost, on purpose" in words
    assert "10 at 68 tda (fell back)" in words
    assert page.count("<details") == 5  # each that has attempts or fills


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?status=open", ["p-unknown", "p-held", "p-rests"]),
        ("?status=rejected,denied", ["p-halted", "p-refused"]),
        ("?broker=tda", ["p-unknown", "p-fell"]),
        ("?strategy=dip&broker=alpaca", ["p-filled"]),
        ("?symbol=ko&status=accepted", ["p-rests"]),
        ("?symbol=PEP", []),
        ("?q=p-f", ["p-fell", "p-filled"]),
        ("?q=alert(1)", ["p-refused", "p-fell"]),  # what a broker said, also of an attempt that another one followed
        ("?q=sells&status=denied", ["p-halted"]),
        ("?until=2020-01-01", []),
        ("?limit=2", ["p-unknown", "p-held"]),
    ],
)
def test_the_blotter_is_filtered_and_bounded(site: Site, query: str, found: list[str]) -> None:
    assert ids(site, query) == found


def test_orders_that_have_not_ended_are_looked_for_everywhere() -> None:
    assert not Choice(statuses=("accepted", "queued"), broker="tda", text="x").needs_a_window
    assert Choice(statuses=("accepted", "filled"), broker="tda").needs_a_window
    assert Choice(broker="tda").needs_a_window
    assert not Choice(statuses=("filled",)).needs_a_window


def test_older_orders_follow_without_a_gap(site: Site) -> None:
    seen, query = [], "?limit=3"
    while True:
        seen += ids(site, query)
        link = re.search(r'class="button" href="/(\?[^"]+)">Older', site.page(f"/{query}"))
        if link is None:
            break
        query = link[1].replace("&amp;", "&")
    assert seen == ids(site, "")


def test_the_csv_has_what_is_shown(site: Site) -> None:
    answer, body = site.ask("/orders.csv?broker=tda")
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert [row["client_order_id"] for row in rows] == ["p-unknown", "p-fell"]
    assert list(rows[0]) == [column.name for column in v_orders.c]
    assert "attachment" in answer.headers["content-disposition"]


@pytest.mark.parametrize(("query", "status"), [("?status=nice", 400), ("?before=x", 400), ("?limit=1001", 422)])
def test_what_cannot_be_asked_is_said_on_a_page(site: Site, query: str, status: int) -> None:
    assert query[1:].split("=")[0] in Page(site.page(f"/{query}", status)).text


# -- ONE ORDER ---
def test_an_order_shows_its_attempts_its_timeline_and_where_its_time_went(site: Site) -> None:
    words = text(site, "/orders/p-fell")
    for said in (
        "waited to be claimed",
        "waited for its turn at tda",
        "ms in all",
        "refused",
        "requeued",
        "Average price",
    ):
        assert said in words, said
    milliseconds = re.findall(r'data-label="Milliseconds" class="n">([0-9.]+)<', site.page("/orders/p-fell"))
    order = site.json("/api/v1/orders/p-fell")
    assert len(milliseconds) >= 4
    assert order["fills"]


def test_an_unknown_outcome_is_shown_with_its_evidence(site: Site) -> None:
    eventually(lambda: "orders cannot be read, on purpose" in text(site, "/attention"), 10)
    words = text(site, "/attention")
    for said in ("p-unknown", "Nothing is sent again until that is settled", "Came back", "error", "p-held"):
        assert said in words, said
    assert "1 outcome nobody knows" in text(site, "/")  # on every page


# -- THE OTHERS ---
def test_the_fleet_shows_workers_leaders_controls_and_what_was_turned_away(site: Site) -> None:
    page = Page(site.page("/fleet"))
    for said in (
        "alpaca",
        "ready",
        "halted",
        "strategy mad",
        "ann",
        "the queue does not answer",
        "refused",
        "Oldest queued",
    ):
        assert said in page.text, said
    assert {"chip good", "chip bad"} <= {attributes.get("class") for attributes in page.all("span")}


def test_limits_show_their_use(site: Site) -> None:
    page = Page(site.page("/risk"))
    assert "max open orders" in page.text
    assert [meter["value"] for meter in page.all("meter")] != []
    assert "halt" in page.text


def test_profit_and_positions_are_there(site: Site) -> None:
    words = text(site, "/pnl?by=broker&since=30d")
    assert "Realized" in words
    assert re.search(r"KO alpaca .*10", words)
    assert re.search(r"Read: alpaca [\d.]+ \w+ ago, tda [\d.]+ \w+ ago\.", words), words[-400:]
    assert "executions is" not in words


def test_a_banner_says_whose_money_it_is(site: Site) -> None:
    assert "PAPER paper accounts at alpaca, tda" in text(site, "/")


# -- WHOEVER WROTE IT ---
@pytest.mark.parametrize("path", [*ALL, "/?q=%3Cscript%3Ealert(2)%3C/script%3E&strategy=%22onfocus=alert(3)"])
def test_nothing_on_a_page_is_run_and_no_secret_is_shown(site: Site, path: str) -> None:
    answer, body = site.ask(path, Accept="text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    page = Page(body.decode())
    assert [script.get("src") for script in page.all("script")] == ["/static/page.js"]
    assert not page.all("style", "iframe", "object", "base")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not [attributes for _, attributes in page.elements if "style" in attributes]
    assert "abcdef123456" not in body.decode()
    assert "\u202e" not in body.decode()


def test_a_brokers_words_are_readable_as_they_are(site: Site) -> None:
    cleaned = EVIL.replace("\u202e", "\\u202e").replace("abcdef123456", "***")
    assert cleaned in text(site, "/orders/p-refused")


# -- WHO READS IT ---
@pytest.mark.parametrize("path", ALL)
def test_a_page_can_be_used_by_keyboard_and_by_ear(site: Site, path: str) -> None:
    page = Page(site.page(path, 404 if path.endswith("no-such") else 200))
    assert page.problems == []
    given = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(given) == len(set(given))
    assert page.all("html")[0]["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1, landmark
    assert len(page.all("h1")) == 1
    assert page.all("a")[0]["href"] == "#main"
    labels = {label["for"] for label in page.all("label")}
    assert {control["id"] for control in page.all("input", "select")} <= labels
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    referred = {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    referred |= {a["href"][1:] for a in page.all("a") if a.get("href", "").startswith("#")}
    assert referred <= set(given)
    assert len([a for a in page.all("a") if a.get("aria-current") == "page"]) == (path in dict(PAGES))


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((light(one), light(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_every_word_stands_out_from_what_is_behind_it(place: int) -> None:
    css = (Path(__file__).parents[2] / "worker/page/static/page.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[place]))
    tones = [name.removesuffix("-back") for name in colours if name.endswith("-back")]
    pairs = [(tone, f"{tone}-back") for tone in tones] + [(tone, "paper") for tone in tones]
    pairs += [(ink, paper) for ink in ("ink", "dim", "link") for paper in ("paper", "soft")]
    assert len(tones) == 6
    assert {
        pair: contrast(*(colours[name] for name in pair))
        for pair in pairs
        if contrast(*(colours[n] for n in pair)) < 4.5
    } == {}
    assert contrast("#ffffff", "#a8141d") >= 4.5


# -- LIVE ---
def test_a_page_is_told_of_what_was_committed_and_of_no_more(desk: Desk) -> None:
    import http.client

    site = desk[0]
    line = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    line.request("GET", "/changes")
    stream = line.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")

    def told() -> int:
        while not (found := stream.readline()).startswith(b"data: "):
            assert found
        return int(found[6:])

    first = told()
    site.client.cancel("p-rests")
    later = told()
    line.close()
    assert later > first
    eventually(lambda: "canceled" in text(site, "/orders/p-rests"), 10)


def test_what_the_pages_need_is_served_from_the_package(site: Site) -> None:
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer, body = site.ask(f"/static/{name}")
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, kind)
        assert body == (Path(__file__).parents[2] / "worker/page/static" / name).read_bytes()
    assert site.ask("/static/../pages.py")[0].status == 404


# -- WHAT THE DOCUMENTS SAY ---
def test_every_fault_of_the_documents_has_a_metric_and_an_alert_that_there_are() -> None:
    root = Path(__file__).parents[2]
    text, alerts = (root / "docs/page.md").read_text(), (root / "deploy/prometheus/alerts.yml").read_text()
    rows = re.findall(r"^\| .+ \| `(\w+)` \| `(\w+)` \| .*\|$", text, re.MULTILINE)
    known = {f"{name}{'_total' if named.kind == 'counter' else ''}" for name, named in METRICS.items()} | {"up"}
    assert len(rows) > 15
    assert {metric for metric, _ in rows} <= known
    assert {alert for _, alert in rows} == set(re.findall(r"alert: (\w+)", alerts))


def test_every_page_is_in_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs/page.md").read_text()
    assert [link for link, _ in PAGES if f"| `{link}` |" not in text] == []
