"""The page in a real browser."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from agent.core.transcripts.session import Head
from agent.core.wire import session_path
from tests.conftest import require_tool
from tests.receiver.harness import READER, Client, Receiver, fresh_head, fresh_stream, head_of, line_of
from tests.receiver.test_files import put
from tests.receiver.test_generations import begin

pytestmark = pytest.mark.e2e
WAIT_S = 15

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""A browser that asks nobody but the receiver."""


class Page:
    """The viewer in a tab of its own. `waited` waits until the browser finds it so."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address

    def open(self, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(self.address + fragment)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def waited(self, true: Callable[[], object], why: str) -> None:
        WebDriverWait(self.driver, WAIT_S, 0.05).until(lambda _: true(), why)

    def shows(self, text: str) -> bool:
        return text in self.one("#entries").text

    def stored_token(self) -> object:
        return self.driver.execute_script("return sessionStorage.getItem('transcriptd.token')")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, chromedriver = require_tool("chromium"), require_tool("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The driver must not be asked for over the network, nor the proxy of the machine for loopback.
    environment = {**os.environ, "SE_OFFLINE": "true", "NO_PROXY": "127.0.0.1,localhost"}
    driver = webdriver.Chrome(options=options, service=Service(chromedriver, env=environment))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: webdriver.Chrome, receiver: Receiver) -> Iterator[Page]:
    page = Page(driver, f"http://127.0.0.1:{receiver.port}/")
    # Not on the page itself: it may be about to store the token of the test before.
    driver.get(page.address + "healthz")
    driver.execute_script("sessionStorage.clear()")
    driver.get_log("browser")  # type: ignore[no-untyped-call]
    yield page
    said = [entry["message"] for entry in driver.get_log("browser")]  # type: ignore[no-untyped-call]
    assert not [message for message in said if "401" not in message and "404" not in message]


def user(text: str, **more: object) -> bytes:
    return line_of(type="user", uuid="u", message={"role": "user", "content": text}, **more)


def test_a_session_is_listed_opened_and_grows(page: Page, client: Client) -> None:
    stream = fresh_stream()
    head = head_of(client.append(stream, fresh_head(), user("first words")))
    client.ask("PUT", session_path(stream.session_id, "/meta"), b'{"title":"A title","project":"/home/x/project"}')
    page.open(f"#token={READER}")
    page.waited(lambda: page.all("#sessions a"), "the list came")
    assert READER not in page.driver.current_url
    assert page.stored_token() == READER
    link = page.one(f'[data-session="{stream.session_id}"]')
    assert "A title" in link.text
    assert "/home/x/project" in link.text
    assert "1 entries" in link.text
    link.click()
    page.waited(lambda: page.shows("first words"), "the session opened")
    client.append(stream, head, line_of(type="assistant", message={"content": [{"type": "text", "text": "answer"}]}))
    page.waited(lambda: page.shows("answer"), "what was appended appeared")
    assert page.one("#title").text == "A title"


def test_the_page_asks_for_a_token(page: Page) -> None:
    page.open()
    page.waited(lambda: page.one("#door").is_displayed(), "the door is there")
    page.one("#token").send_keys("wrong\n")
    page.waited(lambda: "does not know" in page.one("#door-problem").text, "the wrong one is refused")
    assert page.stored_token() is None
    page.one("#token").clear()
    page.one("#token").send_keys(READER + "\n")
    page.waited(lambda: page.one("#house").is_displayed(), "the right one opens")
    page.one("#leave").click()
    page.waited(lambda: page.one("#door").is_displayed(), "forgotten")
    assert page.stored_token() is None


def test_markup_stays_text(page: Page, client: Client) -> None:
    stream = fresh_stream()
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    body = user(evil) + line_of(type=evil, x=evil) + evil.encode() + b"\n"
    body += line_of(
        type="assistant", message={"content": [{"type": "tool_use", "name": evil, "input": {"command": evil}}]}
    )
    client.append(stream, fresh_head(), body)
    client.ask("PUT", session_path(stream.session_id, "/meta"), line_of(title=evil, project=evil))
    page.open(f"#token={READER}&session={quote(stream.session_id)}")
    page.waited(lambda: page.shows("onerror"), "shown as text")
    for fold in page.all("#entries summary"):
        fold.click()
    page.waited(lambda: len(page.all("#entries pre")) == 3, "folds opened")
    assert page.all("#entries img, #entries script, #sessions img, #title img") == []
    assert "owned" not in page.driver.title.replace(evil, "")


def test_tools_are_folded_and_long_text_is_cut(page: Page, client: Client) -> None:
    stream = fresh_stream()
    tool = {"type": "tool_use", "name": "Bash", "input": {"command": "ls -la"}}
    result = {"type": "tool_result", "content": [{"type": "text", "text": "total 0"}]}
    body = (
        user("x" * 10_000 + "the end")
        + line_of(type="assistant", message={"content": [tool]})
        + line_of(type="user", message={"content": [result]})
        + line_of(type="system", subtype="compact_boundary")
        + line_of(type="brand-new", field=1)
        + b"torn {\n\n"
    )
    client.append(stream, fresh_head(), body)
    page.open(f"#token={READER}&session={quote(stream.session_id)}")
    page.waited(lambda: page.shows("Bash ls -la"), "the tool is there")
    assert page.shows("Result total 0")
    assert page.shows("compacted")
    assert page.shows('brand-new {"type":"brand-new","field":1}')
    assert page.shows("not JSON torn {")
    assert len(page.all("#entries > li")) == 7
    assert not page.shows("the end")
    page.driver.execute_script("arguments[0].click()", page.one(".cut"))
    assert page.shows("the end")


def test_a_long_session_opens_at_its_end(page: Page, client: Client) -> None:
    stream = fresh_stream()
    body = b"".join(user(f"number {number}.") for number in range(450))
    head = head_of(client.append(stream, fresh_head(), body))
    page.open(f"#token={READER}&session={quote(stream.session_id)}")
    page.waited(lambda: page.shows("number 449."), "the end is there")
    assert not page.shows("number 249.")
    bottom = "const s=document.querySelector('.session'); return s.scrollHeight-s.scrollTop-s.clientHeight"
    page.waited(lambda: page.driver.execute_script(bottom) < 2, "at the bottom")
    head = grow(client, stream, head, "one more")
    page.waited(lambda: page.shows("one more"), "it grew")
    page.waited(lambda: page.driver.execute_script(bottom) < 2, "it followed")
    page.driver.execute_script("document.querySelector('.session').scrollTop = 0")
    grow(client, stream, head, "and more")
    page.waited(lambda: page.one("#follow").is_displayed(), "a reader above is not moved")
    assert page.driver.execute_script("return document.querySelector('.session').scrollTop") < 5
    page.one("#earlier").click()
    page.waited(lambda: page.shows("number 50."), "earlier entries came")
    page.waited(lambda: "(50)" in page.one("#earlier").text, "and say how many are left")


def grow(client: Client, stream: Any, head: Head, text: str) -> Head:
    return head_of(client.append(stream, head, user(text)))


def test_subagents_are_streams_of_the_session(page: Page, client: Client) -> None:
    stream = fresh_stream()
    client.append(stream, fresh_head(), user("main words"))
    client.append(stream._replace(subpath="subagents/agent-x"), fresh_head(), user("other words"))
    page.open(f"#token={READER}&session={quote(stream.session_id)}")
    page.waited(lambda: len(page.all("#streams a")) == 2, "both streams are offered")
    page.all("#streams a")[1].click()
    page.waited(lambda: page.shows("other words"), "the other one is shown")
    assert not page.shows("main words")


def test_older_histories_can_be_read(page: Page, client: Client) -> None:
    stream, new = fresh_stream(), str(uuid.uuid4())
    head = head_of(client.append(stream, fresh_head(), user("in both") + user("only before")))
    page.open(f"#token={READER}&session={quote(stream.session_id)}")
    page.waited(lambda: page.shows("only before"), "the first history is shown")
    assert page.all("#generations a") == []
    begun = head_of(begin(client, stream, new, head.generation, 1))
    client.append(stream, begun, user("only since"))
    page.waited(lambda: page.shows("only since") and not page.shows("only before"), "the new one takes its place")
    page.waited(lambda: len(page.all("#generations a")) == 2, "both are offered")
    assert "current (2 entries, 1 shared)" in page.one("#generations").text
    page.all("#generations a")[1].click()
    page.waited(lambda: page.shows("only before"), "the older one is shown")
    assert page.shows("in both")
    assert not page.shows("only since")
    assert page.one("#generations a[aria-current]").text == "older 1 (2 entries)"
    client.append(stream, head, user("still written"))
    page.waited(lambda: page.shows("still written"), "it is followed too")


def test_side_files_are_offered_and_never_shown(page: Page, client: Client, tmp_path: Path) -> None:
    stream = fresh_stream()
    client.append(stream, fresh_head(), user("words"))
    evil = b"<script>document.title='owned'</script>"
    put(client, stream.session_id, "tool-results/<b>%.html", evil)
    page.open(f"#token={READER}&session={quote(stream.session_id)}")
    page.waited(lambda: page.one("#files").is_displayed(), "they are told")
    assert page.one("#files summary").text == "1 file"
    page.one("#files summary").click()
    assert page.one("#files li").text == f"tool-results/<b>%.html {len(evil)} B"
    assert page.all("#files b") == []
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False}
    )
    page.one("#files a").click()
    page.waited(lambda: [file for file in tmp_path.iterdir() if file.suffix == ".html"], "it was saved")
    (saved,) = tmp_path.iterdir()
    assert saved.read_bytes() == evil
    assert "owned" not in page.driver.title


def test_pages_are_strict(receiver: Receiver) -> None:
    folder = Path(__file__).parents[2] / "agent" / "receiver" / "pages"
    with receiver.client(None) as client:
        for path in ("/", *(f"/pages/{file.name}" for file in folder.iterdir())):
            answer = client.ask("GET", path)
            assert answer.status == 200, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
    markup = (folder / "index.html").read_text(encoding="utf-8")
    script = (folder / "viewer.js").read_text(encoding="utf-8")
    assert " style=" not in markup
    assert "onclick" not in markup
    assert not [word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(") if word in script]
