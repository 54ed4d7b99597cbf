"""Headless Chromium for the tests of pages; without it they are skipped, and say so."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: As root in a container there is no sandbox; nothing is to be fetched in the background.
_ARGUMENTS = [
    *(
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ),
    "--disable-sync",
]


def start():
    """A browser, as a context manager that gives the browser of playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[test]")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    return _Browser(playwright)


class _Browser:
    def __init__(self, playwright):
        self._playwright = playwright.sync_playwright()

    def __enter__(self):
        driver = self._playwright.__enter__()
        return driver.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)

    def __exit__(self, *error):
        return self._playwright.__exit__(*error)


class Page:
    """A page that is open, and what went wrong on it.

    Attributes
    ----------
    page
        Playwright's page.
    complaints : list of str
        Errors of the console and of scripts.
    requests : list of str
        Addresses that were asked for.
    """

    def __init__(self, browser, path, width=1280, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def check(self):
        """No complaint, no request but for files, nothing wider than the window."""
        assert self.complaints == []
        assert all(address.startswith(("file:", "data:")) for address in self.requests)
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    def axe(self):
        """What the rules of WCAG 2 A and AA that axe-core knows find wrong: rule and number of places."""
        core = pytest.importorskip("axe_playwright_python.base", reason="axe-core is missing: pip install .[test]")
        # As the driver's own script: the page's policy allows none but the page's.
        self.page.evaluate(core.AXE_SCRIPT)
        found = self.page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
        return {one["id"]: [node["html"][:200] for node in one["nodes"]] for one in found["violations"]}
