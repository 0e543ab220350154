"""Voting blind over HTTP: what a page tells before the vote and after it, and what the log keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from random import Random
from typing import Any

import pytest
from flask.testing import FlaskClient

from rolebook.core.chat import TurnRequest
from rolebook.core.comparison import Ballot, CellKey, Comparison
from rolebook.core.comparison_spec import parse_spec
from rolebook.core.preference import Outcome, preference
from rolebook.core.session import Session, new_id
from rolebook.core.voting import votes_of
from rolebook.report.presentation import hue
from rolebook.web.app import create_app
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_error

LINK = re.compile(r"/comparisons/[0-9a-z]{18}/vote/[0-9a-z]{18}")
NAMES = ("Teacher", "Plain assistant")


def compare(rolebook: Rolebook, upstream: FakeUpstream, **spec: Any) -> Comparison:
    """A comparison of two personas that answer differently, run to its end."""
    upstream.model_rule("plain", "ok?text=Air **scatters** blue light.")
    spec.setdefault(
        "variants", ["teacher", {"persona": "plain", "model": "plain", "name": NAMES[1]}]
    )
    spec.setdefault("inputs", ["Why is the sky blue?", "Why is grass green?", "What is rain?"])
    comparison = rolebook.compare.create(rolebook.compare.plan(parse_spec(spec)))
    assert rolebook.compare.start(comparison).wait(20)
    return comparison


@pytest.fixture
def comparison(rolebook: Rolebook, upstream: FakeUpstream) -> Comparison:
    return compare(rolebook, upstream)


def begin(client: FlaskClient, comparison: Comparison) -> str:
    """Lay the first two answers before somebody; returns the ballot's address."""
    response = client.post(f"/comparisons/{comparison.id}/vote")
    assert 303 == response.status_code
    assert LINK.fullmatch(response.location)
    return response.location


def outcomes(rolebook: Rolebook, comparison: Comparison) -> list[str | None]:
    ballots = rolebook.comparisons.ballots(comparison.id)
    return [str(b.outcome) if b.outcome else "skip" if b.is_skipped else None for b in ballots]


def test_a_ballot_shows_both_answers_and_nothing_of_who_gave_them(
    client: FlaskClient, comparison: Comparison
) -> None:
    page = client.get(begin(client, comparison)).text
    assert "Air <strong>scatters</strong> blue light." in page
    assert "Echo: W" in page
    for variant in comparison.variants:
        for tell_tale in (variant.name, variant.persona_id, variant.revision, variant.model):
            assert not tell_tale or not re.search(rf"\b{re.escape(tell_tale)}\b", page)
        assert f'{hue(variant.persona_id)}"' not in page
    assert "hue-" not in page


def test_a_ballot_looks_the_same_whichever_variant_is_on_the_left(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    pages: dict[int, str] = {}
    for _ in range(40):
        address = begin(client, comparison)
        ballot = rolebook.comparisons.get_ballot(address.rpartition("/")[2])
        page = client.get(address).text
        said = comparison.inputs[ballot.left.input].text
        for private, word in {
            address: "ADDRESS",
            f"Echo: {said}": "ANSWER",
            "Air <strong>scatters</strong> blue light.": "ANSWER",
            said: "INPUT",
        }.items():
            page = page.replace(private, word)
        pages[ballot.left.variant] = page
        if len(pages) == 2:
            break
    assert pages[0] == pages[1]


def test_looking_again_shows_the_same_two_answers_and_makes_no_other_ballot(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    address = begin(client, comparison)
    first = client.get(address).text
    assert first == client.get(address).text
    assert client.get(f"/comparisons/{comparison.id}/vote").status_code == 200
    assert [None] == outcomes(rolebook, comparison)


@pytest.mark.parametrize(
    ("vote", "said"),
    [
        ("left", "You chose A."),
        ("right", "You chose B."),
        ("tie", "You called it a tie."),
        ("both_bad", "You called both bad."),
    ],
)
def test_names_are_told_after_the_vote(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook, vote: str, said: str
) -> None:
    response = client.post(begin(client, comparison), data={"vote": vote})
    assert [vote, None] == outcomes(rolebook, comparison)
    left, right = (
        comparison.variants[key.variant].name
        for ballot in rolebook.comparisons.ballots(comparison.id)[:1]
        for key in (ballot.left, ballot.right)
    )
    page = client.get(response.location).text
    assert f"Last: A was {left}, B was {right}." in page
    assert said in page
    assert page.count(left) == page.count(right) == 1
    assert "1 vote" in page


def test_skipping_tells_nothing(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    response = client.post(begin(client, comparison), data={"vote": "skip"})
    page = client.get(response.location).text
    assert "Skipped." in page
    assert not any(name in page for name in NAMES)
    assert ["skip", None] == outcomes(rolebook, comparison)


def test_a_vote_that_is_withdrawn_leaves_two_answers_that_nobody_is_blind_for(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    address = begin(client, comparison)
    following = client.post(address, data={"vote": "left"}).location
    assert 'value="withdraw"' in client.get(following).text
    present = re.split("[/?]", following)[4]
    back = client.post(address, data={"vote": "withdraw", "present": present}).location
    assert f"/comparisons/{comparison.id}/vote/{present}?withdrawn=1" == back
    page = client.get(back).text
    assert "Your vote is withdrawn." in page
    assert "they do not come again in this round" in page
    assert "A is better" in page
    assert ["skip", None] == outcomes(rolebook, comparison)
    while LINK.match(back):
        back = client.post(back, data={"vote": "tie"}).location
    assert ["skip", "tie", "tie"] == outcomes(rolebook, comparison)


@pytest.mark.parametrize("vote", ["skip", "withdraw"])
def test_two_answers_that_count_for_nothing_are_not_laid_open_again(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook, vote: str
) -> None:
    address = begin(client, comparison)
    client.post(address, data={"vote": "left" if vote == "withdraw" else "skip"})
    client.post(address, data={"vote": "withdraw"})
    assert 'value="withdraw"' not in client.get(address).text
    assert address == client.post(address, data={"vote": "withdraw"}).location
    assert "skip" == outcomes(rolebook, comparison)[0]
    assert_error(client.post(address, json={"vote": "right"}), 409, "conflict")


def test_a_vote_withdrawn_on_its_own_page_leads_to_the_next_two(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    address = begin(client, comparison)
    client.post(address, data={"vote": "left"})
    back = client.post(address, data={"vote": "withdraw"}).location
    assert LINK.match(back)
    assert not back.startswith(address)
    assert "Your vote is withdrawn." in client.get(back).text


def test_sending_a_vote_twice_counts_once(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    address = begin(client, comparison)
    for _ in range(3):
        assert 303 == client.post(address, data={"vote": "right"}).status_code
    assert 1 == outcomes(rolebook, comparison).count("right")
    assert 1 == len(votes_of(comparison, rolebook.comparisons.ballots(comparison.id)))


def test_another_vote_on_the_same_ballot_is_a_conflict_that_says_so(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    address = begin(client, comparison)
    client.post(address, data={"vote": "left"})
    response = client.post(address, data={"vote": "right"})
    assert 409 == response.status_code
    assert "You have voted on these two already." in response.text
    assert "You chose A." in response.text
    assert "left" == outcomes(rolebook, comparison)[0]
    assert_error(client.post(address, json={"vote": "right"}), 409, "conflict")


def test_two_tabs_have_ballots_of_their_own(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    one, other = begin(client, comparison), begin(client, comparison)
    first, second = rolebook.comparisons.ballots(comparison.id)
    assert first.left.input != second.left.input
    client.post(one, data={"vote": "left"})
    client.post(other, data={"vote": "right"})
    assert ["left", "right"] == outcomes(rolebook, comparison)[:2]


MEANWHILE = "These two were voted on or skipped meanwhile, in another tab for example."


@pytest.mark.parametrize("first", [["left"], ["left", "withdraw"], ["skip"]])
def test_a_pair_in_two_tabs_counts_once_and_the_later_tab_goes_on(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream, first: list[str]
) -> None:
    comparison = compare(rolebook, upstream, inputs=["Why is the sky blue?"])
    one, other = begin(client, comparison), begin(client, comparison)
    for vote in first:
        client.post(one, data={"vote": vote})
    counted = outcomes(rolebook, comparison)
    for vote in ("left", "right", "skip"):
        late = client.post(other, data={"vote": vote})
        assert 409 == late.status_code
        assert f"{MEANWHILE} What you have just chosen does not count." in unescape(late.text)
        assert "every pair of answers has been before you" in late.text
        assert MEANWHILE in assert_error(client.post(other, json={"vote": vote}), 409, "conflict")
    assert counted == outcomes(rolebook, comparison)
    page = client.get(other).text
    assert "No vote counts here: these two were voted on or skipped meanwhile" in page
    assert 'value="left"' not in page


def test_whoever_is_late_for_a_pair_gets_the_next_one(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    for _ in comparison.inputs:
        begin(client, comparison)
    # The three pairs lie before somebody, and come once more to whoever asks.
    address = begin(client, comparison)
    late = rolebook.comparisons.get_ballot(address.rpartition("/")[2])
    first = next(b for b in rolebook.comparisons.ballots(comparison.id) if b.pair == late.pair)
    client.post(f"/comparisons/{comparison.id}/vote/{first.id}", data={"vote": "tie"})
    page = client.post(address, data={"vote": "tie"}).text
    assert MEANWHILE in page
    following = LINK.findall(page[page.index('id="ballot"') :])[0]
    assert 303 == client.post(following, data={"vote": "tie"}).status_code
    assert 2 == outcomes(rolebook, comparison).count("tie")


def test_each_round_counts_a_pair_once(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, upstream, inputs=["Why is the sky blue?"])
    path = f"/api/v1/comparisons/{comparison.id}/ballots"
    for rounds in (1, 2, 3):
        drawn = [client.post(path, json={"rounds": rounds}).json["ballot"] for _ in range(3)]  # type: ignore[index]
        votes = [client.post(f"{path}/{b['id']}/vote", json={"vote": "left"}) for b in drawn]
        assert [200, 409, 409] == [vote.status_code for vote in votes]
    assert {"ballot": None} == client.post(path, json={"rounds": 3}).json
    assert 3 == outcomes(rolebook, comparison).count("left")


def test_many_votes_on_one_input_do_not_say_who_is_best(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, upstream, inputs=["Why is the sky blue?"], repeats=3)
    path = f"/comparisons/{comparison.id}/vote"
    for _ in range(9):
        address = begin(client, comparison)
        ballot = rolebook.comparisons.get_ballot(address.rpartition("/")[2])
        client.post(address, data={"vote": "left" if ballot.left.variant else "right"})
    said = "9 votes; to tell of other inputs, it takes votes on at least 7 more of them"
    assert said in client.get(path).text
    counted = client.get(f"/api/v1/comparisons/{comparison.id}/votes").get_json()
    assert (7, False) == (counted["inputs_needed"], counted["is_clear"])
    (verdict,) = counted["preference"]["verdicts"]
    assert (1, 7, False) == (verdict["inputs"], verdict["inputs_needed"], verdict["is_clear"])
    shares = [verdict["share"], *counted["preference"]["strength"].values()]
    assert [True] * 3 == [share["is_small"] for share in shares]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("broken", "12 votes; about 78 more until it is clear who is best"),
        ("plain", "12 votes; about 78 more to tell of one more variant"),
    ],
)
def test_a_variant_without_votes_leaves_what_is_said_of_the_others(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream, model: str, expected: str
) -> None:
    upstream.model_rule("broken", "400")
    third = {"persona": "plain", "model": model, "name": "Third"}
    comparison = compare(
        *(rolebook, upstream),
        variants=["teacher", {"persona": "plain", "model": "plain", "name": "Second"}, third],
        inputs=[f"Question {number}" for number in range(12)],
    )
    for number in range(12):
        left, right = CellKey(0, number, 0), CellKey(1, number, 0)
        ballot = Ballot(new_id(), comparison.id, left, right)
        rolebook.comparisons.create_ballot(ballot)
        rolebook.comparisons.cast_ballot(ballot.id, Outcome.LEFT if number < 8 else Outcome.RIGHT)
    assert expected in client.get(f"/comparisons/{comparison.id}/vote").text


def test_two_processes_count_a_pair_once(
    client: FlaskClient, rolebook: Rolebook, make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, upstream, inputs=["Why is the sky blue?"])
    other = create_app(make_rolebook({"OPENAI_BASE_URL": upstream.base_url}))
    voters = [app.test_client() for app in (client.application, other) for _ in range(4)]
    tabs = [(voter, begin(voter, comparison)) for voter in voters]
    with ThreadPoolExecutor(len(tabs)) as pool:
        found = pool.map(lambda tab: tab[0].post(tab[1], data={"vote": "left"}).status_code, tabs)
    assert [303, *[409] * 7] == sorted(found)
    assert 1 == len(votes_of(comparison, rolebook.comparisons.ballots(comparison.id)))


def test_when_nothing_is_left_it_says_so_and_leads_to_the_results(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook
) -> None:
    address = begin(client, comparison)
    for vote in ("left", "skip", "tie"):
        address = client.post(address, data={"vote": vote}).location
    assert address.startswith(f"/comparisons/{comparison.id}/vote?last=")
    page = client.get(address).text
    assert "every pair of answers has been before you" in page
    assert f'href="/comparisons/{comparison.id}"' in page
    assert "Last: A was" in page
    # Votes on three inputs tell of no others, however many rounds there are.
    assert f'href="/comparisons/new?like={comparison.id}">Plan another with more inputs</a>' in page
    assert 3 == len(outcomes(rolebook, comparison))
    again = client.post(f"/comparisons/{comparison.id}/vote?rounds=2")
    assert LINK.match(again.location)
    assert again.location.endswith("?rounds=2")
    assert "rounds=2" in client.post(again.location, data={"vote": "tie"}).location


def test_where_there_are_inputs_enough_nobody_is_sent_for_more(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, upstream, inputs=[f"Number {n}" for n in range(9)])
    address = begin(client, comparison)
    for _ in range(9):
        address = client.post(address, data={"vote": "left"}).location
    page = client.get(address).text
    assert "every pair of answers has been before you" in page
    assert "with more inputs" not in page


def test_answers_that_are_the_same_are_not_voted_on(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("same", "ok?text=Yes.")
    variants = [{"persona": persona, "model": "same"} for persona in ("teacher", "plain")]
    comparison = compare(rolebook, upstream, variants=variants)
    page = client.get(f"/comparisons/{comparison.id}/vote").text
    assert "the answers are word for word the same" in page
    response = client.post(f"/comparisons/{comparison.id}/vote")
    assert f"/comparisons/{comparison.id}/vote" == response.location
    assert [] == outcomes(rolebook, comparison)


def test_answer_that_is_no_text_is_shown_as_what_it_is(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    variants = [{"persona": "plain", "model": model} for model in ("tool-calls", "refusal")]
    comparison = compare(rolebook, upstream, variants=variants, inputs=["Why?"], repeats=2)
    shown = [
        client.get(f"/comparisons/{comparison.id}").text,
        client.get(begin(client, comparison)).text,
        *(
            client.get(f"/comparisons/{comparison.id}/export?format={format}").text
            for format in ("md", "html")
        ),
    ]
    for page in map(unescape, shown):
        assert 'get_weather({"city": "Paris"})' in page
        assert "It asks for a tool, and Rolebook has none:" in page
        assert "I'm sorry, I can't help with that." in page
        assert "It answered nothing." not in page
    # Calls are alike whatever their ids.
    alike = compare(rolebook, upstream, variants=[variants[0], variants[0]], inputs=["Why?"])
    page = client.get(f"/comparisons/{alike.id}/vote").text
    assert "the answers are word for word the same" in page


def test_voting_goes_on_while_the_run_does_wherever_that_is(
    client: FlaskClient, rolebook: Rolebook, make_rolebook: MakeRolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("slow", "ok?text=Short.,ok?text=Slow.,hang")
    variants = [
        {"persona": "teacher", "model": "slow"},
        {"persona": "plain", "model": "slow"},
    ]
    spec = {"variants": variants, "inputs": ["One?", "Two?"], "concurrency": 1}
    comparison = rolebook.compare.create(rolebook.compare.plan(parse_spec(spec)))
    run = rolebook.compare.start(comparison)
    upstream.wait_for(lambda: rolebook.comparisons.tally(comparison).complete == 2)
    address = client.post(begin(client, comparison), data={"vote": "left"}).location
    other = make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})
    for shown in (client, create_app(other).test_client()):
        page = shown.get(address).text
        assert "More answers are on their way: 2 of 4 are there." in page
    run.stop()
    assert run.wait(10)


def test_a_whole_conversation_lies_side_by_side(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    comparison = compare(rolebook, upstream, inputs=[{"turns": ["Why?", "And then?"]}])
    page = client.get(begin(client, comparison)).text
    assert page.index("Why?") < page.index("Echo: Why?") < page.index("Echo: And then?")
    assert 2 == page.count('aria-label="Answer A"') == page.count('aria-label="Answer B"')
    assert "You, turn 2" in page


def test_what_was_said_before_is_folded_above(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    session = rolebook.chat.start_session(Session(new_id(), "teacher", ""))
    for text in ("What is light?", "Why is the sky blue?"):
        list(rolebook.chat.stream_turn(TurnRequest(session.id, text)))
    comparison = compare(rolebook, upstream, inputs=[{"session": session.id}])
    assert 2 == len(comparison.inputs)
    pages = [client.get(begin(client, comparison)).text for _ in range(2)]
    first, second = sorted(pages, key=lambda page: "What was said before" in page)
    assert "What was said before: 1 turn" in second
    assert second.index("Echo: What is light?") < second.index("Why is the sky blue?")
    assert "What was said before" not in first


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/comparisons/none/vote", 404),
        ("/comparisons/{id}/vote/none", 404),
    ],
)
def test_what_is_not_there_is_not_found(
    client: FlaskClient, comparison: Comparison, path: str, status: int
) -> None:
    assert status == client.get(path.format(id=comparison.id)).status_code


def test_a_ballot_of_another_comparison_is_not_found(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    ballot_id = begin(client, comparison).rpartition("/")[2]
    other = compare(rolebook, upstream, inputs=["Another?"])
    response = client.post(f"/comparisons/{other.id}/vote/{ballot_id}", data={"vote": "left"})
    assert 404 == response.status_code
    assert [None] == outcomes(rolebook, comparison)


@pytest.mark.parametrize("fields", [{}, {"vote": ""}, {"vote": "middle"}])
def test_what_is_no_vote_is_refused(
    client: FlaskClient, comparison: Comparison, rolebook: Rolebook, fields: Mapping[str, str]
) -> None:
    address = begin(client, comparison)
    assert_error(client.post(address, json=fields), 400, "invalid_request")
    assert [None] == outcomes(rolebook, comparison)


def test_two_hundred_votes_over_http_give_the_interval_that_the_statistics_give(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    source = Random(7)
    inputs = [f"Question {number}?" for number in range(50)]
    comparison = compare(rolebook, upstream, inputs=inputs, concurrency=8)
    address = client.post(f"/comparisons/{comparison.id}/vote?rounds=4").location
    for _ in range(200):
        ballot = rolebook.comparisons.get_ballot(re.split("[/?]", address)[4])
        is_first_left = ballot.left.variant == 0
        prefers_first = source.random() < 0.65
        vote = "left" if is_first_left is prefers_first else "right"
        address = client.post(address, data={"vote": vote}).location
    assert address.startswith(f"/comparisons/{comparison.id}/vote?last=")
    votes = votes_of(comparison, rolebook.comparisons.ballots(comparison.id))
    (verdict,) = preference(votes).verdicts
    assert (200, "Teacher", True) == (len(votes), verdict.better, verdict.is_clear)
    share = verdict.share
    assert share.low is not None
    assert share.high is not None
    said = f"{100 * share.value:.0f} % [{100 * share.low:.0f}–{100 * share.high:.0f}]"
    page = client.get(f"/comparisons/{comparison.id}/evidence").text
    assert said in unescape(re.sub("<[^>]+>", "", page))
