#!/usr/bin/env python3
"""Opens report pages in headless Chromium and fails on anything that a reader would stumble over.

    scripts/check_report.py FILE_OR_FOLDER... [--screenshots FOLDER]

Each page (of a folder, each *.html in it) is opened wide and narrow, light and dark, and printed. A page fails on a
script error or console error, a request for anything outside the file, a page wider than its window, axis labels that
overlap or stick out of their drawing, a drawing without a description, and keys or controls that do nothing.

Exit codes: 0 all pages are fine; 1 one is not; 77 there is no Chromium (Debian: apt-get install chromium).
Needs only Python's standard library: it speaks the DevTools protocol over the browser's pipe (file descriptors 3, 4).
"""

import argparse
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

TIME_LIMIT = 120  # seconds for one answer of the browser
LOOKS = {"light": (1280, "light"), "dark": (1280, "dark"), "tablet": (768, "light"), "phone": (360, "light"),
         "phone-dark": (360, "dark")}

CHECK_LAYOUT = """(() => {
  const faults = [];
  const root = document.documentElement;
  // Not innerWidth: on a phone that grows with the page.
  if (root.scrollWidth > screen.width) {
    const widest = [...document.querySelectorAll('body *')].filter((node) => !node.closest('.scroll, .data, pre'))
      .sort((a, b) => b.getBoundingClientRect().right - a.getBoundingClientRect().right)[0];
    faults.push(`the page is ${root.scrollWidth} wide in a window of ${screen.width}, by ${widest.outerHTML.slice(0, 80)}`);
  }
  const drawings = [...document.querySelectorAll('svg[role=img]')];
  if (drawings.length === 0) faults.push('the page has no drawing');
  for (const svg of drawings) {
    const name = svg.getAttribute('aria-label') || '';
    if (name.length < 20) faults.push(`a drawing has no description: '${name}'`);
    const outer = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].filter((text) => text.textContent !== '')
      .map((text) => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([text, box], i) => {
      if (box.left < outer.left - 1 || box.right > outer.right + 1 || box.bottom > outer.bottom + 1)
        faults.push(`'${text}' sticks out of: ${name.slice(0, 60)}`);
      for (const [other, against] of texts.slice(i + 1)) {
        const across = Math.min(box.right, against.right) - Math.max(box.left, against.left);
        const down = Math.min(box.bottom, against.bottom) - Math.max(box.top, against.top);
        if (across > 0 && down > 2) faults.push(`'${text}' overlaps '${other}' in: ${name.slice(0, 60)}`);
      }
    });
    if ([...svg.querySelectorAll(':not(image)')].some((node) => [...node.attributes].some((one) => /NaN|undefined/.test(one.value)))) faults.push(`NaN among the coordinates of: ${name.slice(0, 60)}`);
  }
  return faults;
})()"""

# Focus, arrow keys and buttons, on every chart.
CHECK_USE = """(() => {
  const faults = [];
  const tip = document.getElementById('tooltip');
  const press = (node, key) => node.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  for (const svg of document.querySelectorAll('svg[role=img][tabindex]')) {
    const name = svg.getAttribute('aria-label').slice(0, 60);
    svg.focus();
    press(svg, 'ArrowRight');
    const first = tip.textContent;
    press(svg, 'End');
    const single = svg.querySelectorAll('circle.dot').length <= 2 && !svg.querySelector('image');  // its point and the cursor
    if (tip.hidden || first === '' || (tip.textContent === first && !single)) faults.push(`arrow keys do nothing in: ${name}`);
    press(svg, 'Escape');
    if (!tip.hidden) faults.push(`Escape does not close what is shown in: ${name}`);
  }
  for (const button of document.querySelectorAll('button')) {
    const before = document.body.innerHTML + document.documentElement.dataset.theme;
    const single = button.parentNode.classList.contains('segments') && button.getAttribute('aria-pressed') === 'true';
    button.click();
    if (!single && document.body.innerHTML + document.documentElement.dataset.theme === before)
      faults.push(`the button '${button.textContent}' does nothing`);
    if (!button.parentNode.classList.contains('segments')) button.click();
  }
  for (const select of document.querySelectorAll('select')) {
    const before = document.getElementById('main').innerHTML;
    // One of them may look like what is shown already: an expert that all tokens went to.
    const changes = [...Array(select.options.length).keys()].reverse().some((index) => {
      select.selectedIndex = index;
      select.dispatchEvent(new Event('change'));
      return document.getElementById('main').innerHTML !== before;
    });
    if (!changes) faults.push(`choosing does nothing: ${select.parentNode.textContent}`);
    select.selectedIndex = 0;
    select.dispatchEvent(new Event('change'));
  }
  return faults;
})()"""


class Browser:
    """A headless Chromium and one page in it."""

    def __init__(self, program, profile):
        to_browser, self.send_to = os.pipe()
        self.read_from, from_browser = os.pipe()

        def give_pipes():  # in the child: descriptors 3 and 4 are what --remote-debugging-pipe uses
            low, high = os.dup(to_browser), os.dup(from_browser)  # out of the way of 3 and 4
            os.dup2(low, 3)
            os.dup2(high, 4)

        # Chromium's sandbox needs namespaces that containers (and root) do not have; the page is our own file.
        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=give_pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def receive(self):
        deadline = time.monotonic() + TIME_LIMIT
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read_from], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise RuntimeError(f"the browser gave no answer within {TIME_LIMIT} s")
            chunk = os.read(self.read_from, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser ended")
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.send_to, data):]
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.receive())

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", "a script failed"))
        return result["result"].get("value")

    def open(self, url, width, theme):
        self.events = []
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, screenWidth=width, screenHeight=800, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")
        self.settle()

    def settle(self):
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def complaints(self, url):
        """What the page's console and network said since it was opened."""
        for event in self.events:
            name, data = event.get("method"), event.get("params", {})
            if name == "Runtime.exceptionThrown":
                details = data["exceptionDetails"]
                yield "script error: " + details.get("exception", {}).get("description", details["text"])
            elif name == "Runtime.consoleAPICalled" and data["type"] in ("error", "warning", "assert"):
                yield "console: " + " ".join(str(value.get("value", "")) for value in data["args"])
            elif name == "Log.entryAdded" and data["entry"]["level"] in ("error", "warning"):
                yield "browser: " + data["entry"]["text"]
            elif name == "Network.requestWillBeSent":
                wanted = data["request"]["url"]
                if wanted != url and not wanted.startswith("data:"):
                    yield "asks for something outside the file: " + wanted

    def screenshot(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        image = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(image["data"]))

    def close(self):
        self.process.kill()
        self.process.wait()


def check_page(browser, path, screenshots):
    url = path.resolve().as_uri()
    faults = []
    for look, (width, theme) in LOOKS.items():
        browser.open(url, width, theme)
        found = browser.evaluate(CHECK_LAYOUT)
        if screenshots:
            browser.screenshot(screenshots / f"{path.stem}-{look}.png")
        found += browser.evaluate(CHECK_USE)
        browser.settle()
        found += browser.evaluate(CHECK_LAYOUT)  # again after every control was used
        background = browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 128")
        if background != (theme == "dark"):
            found.append(f"the page does not follow the {theme} theme of the system")
        found += browser.complaints(url)
        faults += [f"{look}: {fault}" for fault in dict.fromkeys(found)]
    pages = base64.b64decode(browser.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
    if screenshots:
        (screenshots / f"{path.stem}.pdf").write_bytes(pages)
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("pages", nargs="+", type=pathlib.Path, help="HTML files, or folders of them")
    parser.add_argument("--screenshots", type=pathlib.Path, help="a folder for pictures of every look")
    arguments = parser.parse_args()
    pages = [page for given in arguments.pages for page in (sorted(given.glob("*.html")) if given.is_dir() else [given])]
    missing = [str(page) for page in pages if not page.is_file()]
    if missing or not pages:
        sys.exit("check_report: no such page: " + (", ".join(missing) or ", ".join(map(str, arguments.pages))))
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        print("check_report: skipped, there is no Chromium here (Debian: apt-get install chromium)")
        sys.exit(77)
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    failed = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            for page in pages:
                faults = check_page(browser, page, arguments.screenshots)
                print(f"check_report: {page}: " + ("fine" if not faults else f"{len(faults)} faults"))
                for fault in faults:
                    print("  " + fault)
                failed = failed or bool(faults)
        finally:
            browser.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
