"""What only a browser can tell: what runs, what fits, what is reachable, what stays fluid."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_sample import write_page

from caft.records import COMPLEXITIES, AnswerScore, Prediction, Question
from caft.report.run.html import render_report
from caft.report.sweep import JobResult, Sweep
from caft.report.sweep.page import render_sweep
from caft.report.sweep.summary import analyse_sweep
from caft.report.tables import ReportTables
from caft.report.wording import write_number

PHONE = {"viewport": {"width": 390, "height": 844}}
MANY = 12_000
INNER_SCROLLERS = """() => [...document.querySelectorAll("main *")].filter(e =>
  ["auto", "scroll"].includes(getComputedStyle(e).overflowY)
  && (e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1)
).map(e => e.outerHTML.slice(0, 99))"""
TALLEST_IN_ONE_PIECE = """() => {
  const stays = e => getComputedStyle(e).breakAfter === "avoid";
  function firstKept(e) {
    for (let first = e; ;) {
      const before = first.previousElementSibling;
      if (before ? stays(before) : first.parentNode.tagName !== "MAIN") {
        first = before || first.parentNode;
      } else { return first; }
    }
  }
  return Math.max(...[...document.querySelectorAll("main *")]
    .filter(e => e.getClientRects().length && getComputedStyle(e).breakInside === "avoid")
    .map(e => e.getBoundingClientRect().bottom - firstKept(e).getBoundingClientRect().top));
}"""


@pytest.fixture(scope="module")
def sweep_page(make_sweep: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(make_sweep(tmp_path_factory.mktemp("sweep")))


def without_policy(html: str) -> str:
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)


# Escaping must hold by itself, and so must the policy: each is tried without the other.
@pytest.mark.parametrize("guard", [str, without_policy], ids=["policy", "no policy"])
def test_hostile_strings_run_nothing(
    hostile_page: str, open_page: Callable[..., Any], guard: Callable[[str], str]
) -> None:
    page = open_page(guard(hostile_page))
    assert page.title().startswith("</script></title>")
    assert page.locator("img, iframe, svg[onload], script").count() == 2
    assert page.locator("#question-shown").inner_text() == "1 to 50 of 300 questions"
    # Rows that scripts make are text as well, and so is what is opened only later.
    page.locator("#question-table .opener").first.click()
    assert "<img src=x" in page.locator("#question-table .more .options").inner_text()
    assert page.locator("#question-table img, #question-table script").count() == 0
    assert page.title().startswith("</script></title>")


@pytest.mark.parametrize("guard", [str, without_policy], ids=["policy", "no policy"])
def test_a_hostile_sweep_runs_nothing(
    make_job: Callable[..., JobResult],
    hostile: str,
    open_page: Callable[..., Any],
    guard: Callable[[str], str],
) -> None:
    jobs = [
        replace(make_job(k, method="complexity_aware", split=split, cuts=(0.1 * k, 2.0)),
                overrides=(f"method={hostile}", f"split={split}{hostile}"), folder=f"{k}{hostile}")
        for k, split in enumerate(("entropy", "random"))
    ]  # fmt: skip
    for job in jobs:
        job.summary["method"]["name"] = hostile  # type: ignore[index]
    jobs.append(
        JobResult(number=2, folder=hostile, state=hostile, error=hostile, overrides=(hostile,))
    )
    found = analyse_sweep(Sweep(name=hostile, jobs=jobs, question=hostile), "2026-11-24T10:00")
    page = open_page(guard(render_sweep(found)))
    assert page.title().startswith("</script></title>")
    assert page.locator("img, iframe, svg[onload], script").count() == 1
    assert page.locator("#jobs tbody tr").count() == 3
    assert page.locator("[onmouseover], [onerror], [onload]").count() == 0


def test_the_policy_stops_a_script_that_escaping_let_through(
    page: str, open_page: Callable[..., Any]
) -> None:
    broken = page.replace("</main>", "<script>document.title='pwned'</script></main>")
    assert open_page(broken).title() == "A run"
    assert open_page(without_policy(broken)).title() == "pwned"


def test_nothing_is_fetched(page: str, sweep_page: str, open_page: Callable[..., Any]) -> None:
    for html in (page, sweep_page):
        opened = open_page(html)
        assert [url.partition(":")[0] for url in opened.asked_for] == ["file"]


@pytest.mark.parametrize(
    "dials",
    [{}, {"color_scheme": "dark"}, PHONE],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing_serious(
    page: str, sweep_page: str, open_page: Callable[..., Any], dials: Mapping[str, Any]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    for html in (page, sweep_page):
        opened = open_page(html, **dials)
        opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = axe.Axe().run(opened).response
        assert len(found["passes"]) > 20
        assert serious(found["violations"]) == []


def serious(violations: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_a_phone_scrolls_in_one_direction_only(
    page: str, sweep_page: str, hostile_page: str, open_page: Callable[..., Any]
) -> None:
    for html in (page, sweep_page, hostile_page):
        opened = open_page(html, **PHONE)
        opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert opened.evaluate("document.documentElement.scrollWidth") == 390
        # No table, text or code scrolls inside the page.
        assert opened.evaluate(INNER_SCROLLERS) == []


def test_long_answers_widen_neither_the_page_nor_the_table(
    finished_run: Any, open_page: Callable[..., Any]
) -> None:
    tables = finished_run.tables
    replies = {
        key: [replace(each, parsed="without_space" * 20) for each in given]
        for key, given in tables.predictions.items()
    }
    page = render_report(finished_run.summary, replace(tables, predictions=replies), "", "Long")
    opened = open_page(page, viewport={"width": 1280, "height": 900})
    assert "without_space" in opened.locator("#question-table").inner_text()
    for wide in ("html", "#questions .scroll"):
        assert opened.locator(wide).evaluate("e => e.scrollWidth <= e.clientWidth"), wide


# Pixels of A4 within the margins of the style sheet.
PAPER = {"viewport": {"width": 688, "height": 1020}}


def test_no_printed_page_stays_half_empty(
    page: str, sweep_page: str, open_page: Callable[..., Any]
) -> None:
    for html in (page, sweep_page):
        opened = open_page(html, **PAPER)
        opened.emulate_media(media="print")
        # What cannot be broken, with the headings that stay with it, would leave that much empty.
        assert 100 < opened.evaluate(TALLEST_IN_ONE_PIECE) < 0.5 * PAPER["viewport"]["height"]
        height = opened.evaluate("document.documentElement.scrollHeight")
        pages = len(re.findall(rb"/Type\s*/Page\b", opened.pdf(prefer_css_page_size=True)))
        assert pages <= height / PAPER["viewport"]["height"] + 1.5


def test_tables_sort_by_keyboard_with_what_is_missing_last(
    sweep_page: str, open_page: Callable[..., Any]
) -> None:
    opened = open_page(sweep_page)
    button = opened.locator("#jobs thead button", has_text="accuracy")
    cells = opened.locator("#jobs tbody td[data-name=accuracy]")
    button.focus()
    for _ in range(2):
        opened.keyboard.press("Enter")
        shares = [cell.split("%")[0] for cell in cells.all_inner_texts()]
        assert shares.pop() == ""
        numbers = [float(share) for share in shares]
        falling = button.evaluate("b => b.parentNode.getAttribute('aria-sort')") == "descending"
        assert numbers == sorted(numbers, reverse=falling)
    assert falling


def test_a_mark_shows_its_value_under_the_pointer(page: str, open_page: Callable[..., Any]) -> None:
    opened = open_page(page)
    opened.locator(".histogram .mark").nth(8).hover()
    assert re.fullmatch(
        r"[\d.]+ to [\d.]+: \d+ correct, \d+ incorrect \(.+\)",
        opened.locator(".value").inner_text(),
    )
    opened.locator(".curves .mark").nth(40).hover(force=True)  # neighbours overlap
    assert re.fullmatch(
        r"stage 1, epoch [\d.]+: \d\.\d{4} nats per token", opened.locator(".value").inner_text()
    )


def test_a_number_in_its_circle_hides_no_value(
    sweep_page: str, open_page: Callable[..., Any]
) -> None:
    opened = open_page(sweep_page)
    opened.locator(".pareto path.mark").first.hover()
    assert re.fullmatch(r"\S.*: \d.+%.*tokens", opened.locator(".value").inner_text())


def test_figures_follow_light_dark_and_paper(page: str, open_page: Callable[..., Any]) -> None:
    def colours(opened: Any) -> list[str]:
        marks = [".histogram .mark", ".histogram text", ".accuracy path.mark"]
        return [
            opened.locator(mark).first.evaluate("node => getComputedStyle(node).fill")
            for mark in marks
        ]

    light, dark = open_page(page), open_page(page, color_scheme="dark")
    assert colours(light) == ["rgb(0, 114, 178)", "rgb(86, 96, 106)", "rgb(107, 116, 125)"]
    assert colours(dark) == ["rgb(86, 180, 233)", "rgb(163, 173, 182)", "rgb(154, 164, 173)"]
    dark.emulate_media(media="print")
    assert colours(dark) == ["rgb(0, 114, 178)", "rgb(68, 75, 82)", "rgb(107, 116, 125)"]


def many_questions() -> ReportTables:
    keys = [f"q{k:05}" for k in range(MANY)]
    return ReportTables(
        questions={
            key: Question(
                id=key, text=f"Question {k}: which of these {k % 97} is it? " + "Some words. " * 20,
                options=("one", "two", "three", "four"), gold_index=k % 4, subject="law")
            for k, key in enumerate(keys)
        },
        split_of=dict.fromkeys(keys, "test"),
        complexity_of={key: COMPLEXITIES[k * 3 // MANY] for k, key in enumerate(keys)},
        scores=[
            AnswerScore(question_id=key, predicted="A", valid=True, correct=k % 4 == 0,
                        estimates={"answer_entropy": k / MANY})
            for k, key in enumerate(keys)
        ],
    )  # fmt: skip


def reply(row: AnswerScore, *, correct: bool) -> Prediction:
    return Prediction(question_id=row.question_id, text="[[B]]", parsed="B", correct=correct,
                      generated_tokens=3)  # fmt: skip


@pytest.fixture(scope="module")
def large_page(finished_run: Any) -> str:
    tables = many_questions()
    asked = zip(finished_run.tables.predictions, (2, 3, 4, 5, 6, 7), strict=True)
    replies = {
        key: [reply(row, correct=k % divisor == 0) for k, row in enumerate(tables.scores)]
        for key, divisor in asked
    }
    return render_report(finished_run.summary, replace(tables, predictions=replies), "", "Large")


def test_twelve_thousand_questions_are_all_there_and_few_in_the_document(
    large_page: str, open_page: Callable[..., Any]
) -> None:
    assert len(large_page.encode()) < 3_000_000
    opened = open_page(large_page)
    shown, rows = opened.locator("#question-shown"), opened.locator("#question-table tbody tr")
    assert shown.inner_text() == "1 to 50 of 12000 questions"
    assert rows.count() == 50

    opened.get_by_label("Find words").fill("question 11986:")
    assert shown.inner_text() == "1 of 12000 questions"
    assert "Question 11986:" in rows.inner_text()
    opened.get_by_label("Find words").fill("")
    opened.locator("select[name=complexity]").select_option("hard")
    assert shown.inner_text() == "1 to 50 of 4000 of 12000 questions"
    opened.locator("select[name=outcome]").select_option("wrong, then right")
    count = int(re.search(r"of (\d+) of", shown.inner_text())[1])  # type: ignore[index]
    base, tuned = 2, 7
    assert count == sum(k % base != 0 and k % tuned == 0 for k in range(8000, MANY))
    opened.locator("select[name=outcome]").select_option("")
    opened.get_by_label("Verdict").select_option("right")
    opened.get_by_label("Reply").select_option("tuned, rationale")
    count = int(re.search(r"of (\d+) of", shown.inner_text())[1])  # type: ignore[index]
    assert count == sum(k % 6 == 0 for k in range(8000, MANY))


def test_questions_turn_and_sort_as_a_whole(large_page: str, open_page: Callable[..., Any]) -> None:
    opened = open_page(large_page)
    estimates = opened.locator("#question-table td[data-name=nats]")
    assert estimates.first.inner_text() == "0.9999"
    previous, following = (opened.get_by_role("button", name=f"{word} questions")
                           for word in ("Previous", "Next"))  # fmt: skip
    assert previous.is_disabled()
    following.click()
    assert opened.locator("#question-shown").inner_text().startswith("51 to 100 of")
    opened.get_by_role("button", name="nats", exact=True).click()
    assert opened.locator("#question-shown").inner_text().startswith("1 to 50 of")
    assert estimates.first.inner_text() == "0"


def test_scripts_write_estimates_as_the_page_without_them_does(
    finished_run: Any, open_page: Callable[..., Any]
) -> None:
    estimates = [123_456.7, 12_345.0, 999.96, 999.94, 12.3456, 0.00021, 0.000047, 1.5e-12, 0.0]
    tables, few = many_questions(), slice(len(estimates))
    scores = [
        replace(row, estimates={"answer_entropy": value})
        for row, value in zip(tables.scores[few], estimates, strict=True)
    ]
    summary = finished_run.summary
    page = render_report(summary, replace(tables, scores=scores), "", "Numbers")
    opened = open_page(page)
    cells = opened.locator("#question-table td[data-name=nats]")
    assert cells.all_inner_texts() == [*map(write_number, estimates)]
    assert all(f">{write_number(value)}</td>" in page for value in estimates)
