"""The history of a file in the browser: who changed what, what differs, labels, and the way back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from rolebook.core.source import etag_of
from rolebook.wiring import Rolebook
from tests.conftest import TEACHER
from tests.web.test_library import PAGE, area_of, save, text_of

TUTOR = TEACHER.replace("a patient teacher", "a kind tutor")
HISTORY = f"{PAGE}/history"


@pytest.fixture
def changed(client: FlaskClient) -> FlaskClient:
    """The teacher was found on disk, then saved with a reason."""
    client.get(HISTORY)
    save(client, TUTOR, etag_of(TEACHER), message="Kinder")
    return client


def changes_on(page: str) -> list[str]:
    """The ids of the changes that can be compared, the newest first."""
    return re.findall(r'name="old" value="([^"]+)"', page)


def test_the_history_tells_what_happened_by_whom_and_why(changed: FlaskClient) -> None:
    words = text_of(changed.get(HISTORY).text)
    assert re.search(r"saved as it is now Kinder .* in the browser · revision [0-9a-f]{8}", words)
    assert words.index("Kinder") < words.index("found on disk")


def test_what_is_as_it_is_now_is_not_compared_with_itself(changed: FlaskClient) -> None:
    assert 1 == changed.get(HISTORY).text.count("Differences to now")
    changed.post("/sessions", data={"persona": "plain", "input": "Hm?"})
    alone = changed.get("/library/personas/plain/history").text
    assert "as it is now" in alone
    assert "Differences to now" not in alone
    assert [] == changes_on(alone)


def test_a_revision_leads_to_its_sessions(changed: FlaskClient) -> None:
    changed.post("/sessions", data={"persona": "teacher", "input": "Why?"})
    changed.post("/sessions", data={"persona": "plain", "input": "Hm?"})
    page = changed.get(HISTORY).text
    found = re.search(r'href="(/sessions\?[^"]*revision=[^"]*)">1 session<', page)
    assert found
    listed = changed.get(found[1].replace("&amp;", "&")).text
    assert "Why?" in listed
    assert "Hm?" not in listed


def test_any_two_can_be_compared_as_text_and_as_what_they_make(changed: FlaskClient) -> None:
    new, old = changes_on(changed.get(HISTORY).text)
    page = changed.get(f"{HISTORY}/difference", query_string={"old": old, "new": new}).text
    assert 2 == len(re.findall(r"<del>patient teacher</del><ins>kind tutor</ins>", page))
    assert re.search(r'href="/comparisons/new\?variant=teacher%40|variant=teacher@', page)
    same = changed.get(f"{HISTORY}/difference", query_string={"old": new, "new": ""}).text
    assert "The two are the same" in same or "<del>" not in same


def test_a_label_leads_to_the_file(changed: FlaskClient) -> None:
    old = changes_on(changed.get(HISTORY).text)[-1]
    revision = re.findall(r"revision ([0-9a-f]{8})", text_of(changed.get(HISTORY).text))[-1]
    changed.post(f"{PAGE}/labels", data={"label": "production", "at": revision})
    assert HISTORY == changed.get(f"{PAGE}@production/history").location
    found = changed.get(f"{PAGE}@production")
    assert (303, f"{PAGE}?at={old}") == (found.status_code, found.location)
    assert "a patient teacher" in area_of(changed.get(found.location).text)
    assert 404 == changed.get(f"{PAGE}@staging").status_code
    assert 404 == changed.get("/library/templates/chat@production/history").status_code


def test_a_former_text_can_be_opened_without_saving(
    changed: FlaskClient, library_dir: Path
) -> None:
    _, old = changes_on(changed.get(HISTORY).text)
    page = changed.get(PAGE, query_string={"at": old}).text
    assert TEACHER == area_of(page)
    assert "This is a text of before." in text_of(page)
    assert TUTOR == (library_dir / "personas/teacher.yaml").read_text()


def test_restoring_saves_the_former_text_once_more(changed: FlaskClient, library_dir: Path) -> None:
    _, old = changes_on(changed.get(HISTORY).text)
    response = changed.post(f"{HISTORY}/{old}/restore", data={"etag": etag_of(TUTOR)})
    assert PAGE == response.location
    assert TEACHER == (library_dir / "personas/teacher.yaml").read_text()
    assert "restored as it is now" in text_of(changed.get(HISTORY).text)


def test_restoring_over_a_change_of_somebody_else_is_a_conflict(
    changed: FlaskClient, library_dir: Path
) -> None:
    _, old = changes_on(changed.get(HISTORY).text)
    (library_dir / "personas/teacher.yaml").write_text(TUTOR + "# theirs\n")
    response = changed.post(f"{HISTORY}/{old}/restore", data={"etag": etag_of(TUTOR)})
    assert response.status_code == 409
    assert "Nothing is lost" in text_of(response.text)


def test_a_former_text_that_is_broken_is_restored_when_somebody_insists(
    changed: FlaskClient, library_dir: Path
) -> None:
    path = library_dir / "personas/teacher.yaml"
    broken = TEACHER.replace("{{ subject }}", "{{ nothing }}")
    save(changed, broken, etag_of(TUTOR), insist="1")
    save(changed, TUTOR, etag_of(broken))
    former = re.findall(r"/history/([^/]+)/restore", changed.get(HISTORY).text)[0]
    refused = changed.post(f"{HISTORY}/{former}/restore", data={"etag": etag_of(TUTOR)})
    assert (422, TUTOR) == (refused.status_code, path.read_text())
    assert "Restore all the same" in text_of(refused.text)
    again = refused.text.partition('role="alert"')[2].partition("</form>")[0]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', again))
    assert {"etag": etag_of(TUTOR), "insist": "1"} == fields
    address = re.findall(r'action="([^"]+)"', again)[0]
    assert PAGE == changed.post(address, data=fields).location
    assert broken == path.read_text()


def test_a_file_that_is_gone_still_has_its_history(changed: FlaskClient, library_dir: Path) -> None:
    changed.post(f"{PAGE}/delete")
    page = changed.get(HISTORY).text
    assert "The file is gone." in text_of(page)
    old = changes_on(page)[-1]
    changed.post(f"{HISTORY}/{old}/restore", data={"etag": ""})
    assert TEACHER == (library_dir / "personas/teacher.yaml").read_text()


def test_a_label_is_set_moved_and_removed(changed: FlaskClient, rolebook: Rolebook) -> None:
    new, old = re.findall(r'name="at" value="([0-9a-f]{32})"', changed.get(HISTORY).text)
    for at in (old, new):
        changed.post(f"{PAGE}/labels", data={"label": "production", "at": at})
        (label,) = rolebook.edits.labels("teacher")
        assert ("production", at) == (label.name, label.revision)
    assert "production" in text_of(changed.get(HISTORY).text)
    changed.post(f"{PAGE}/labels", data={"label": "production", "remove": "1"})
    assert () == tuple(rolebook.edits.labels("teacher"))


def test_a_label_that_cannot_be_is_refused_with_the_reason(changed: FlaskClient) -> None:
    refused = changed.post(f"{PAGE}/labels", data={"label": "Not This", "at": ""})
    assert refused.status_code == 400
    assert "makes no label" in text_of(refused.text)


def test_a_file_that_never_was_has_no_history(client: FlaskClient) -> None:
    assert client.get("/library/personas/none/history").status_code == 404


def test_a_template_has_a_history_without_labels(client: FlaskClient) -> None:
    page = client.get("/library/templates/chat/history").text
    assert "found on disk" in text_of(page)
    assert "Set the label" not in page


def test_the_commits_of_a_file_stand_beside_its_history(
    client: FlaskClient, library_dir: Path
) -> None:
    assert "Git knows nothing" in text_of(client.get(f"{HISTORY}/commits").text)
    git = ["git", "-C", str(library_dir), "-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    for command in (["init", "-q"], ["add", "personas"], ["commit", "-qm", "A teacher"]):
        subprocess.run([*git, *command], check=True)
    (library_dir / "personas/teacher.yaml").write_text(TUTOR)
    page = client.get(f"{HISTORY}/commits").text
    assert re.search(r"A teacher .* · Ann · [0-9a-f]{8}", text_of(page))
    found = re.search(r'href="(/library/personas/teacher\?commit=[0-9a-f]+)"', page)
    assert found
    assert TEACHER == area_of(client.get(found[1]).text)
