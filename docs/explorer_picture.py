"""Draw docs/explore.png: the explorer's page on the demo's network, as Chromium shows it.

    python docs/explorer_picture.py runs/demo docs/explore.png

needs a trained demo, its data set, and Chromium (`CHROMIUM` names another program).
"""

import os
import subprocess
import sys

from playwright.sync_api import expect, sync_playwright

VIEW = "image=val+3&layer=regions&pixel=100&other=190"


def main(run: str, output: str) -> None:
    """Serve the page, open it, and write its picture."""
    command = [sys.executable, "-m", "ranet_jax", "explore", run, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            address = program.stdout.readline().removeprefix("Open ").split(" ")[0]
            take(f"{address}#{VIEW}", output)
        finally:
            program.terminate()


def take(address: str, output: str) -> None:
    """Write the picture of a page on which a pixel is explored."""
    with sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM", "chromium")
        path = subprocess.run(["which", program], check=True, capture_output=True, text=True).stdout
        browser = playwright.chromium.launch(executable_path=path.strip(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(address)
        expect(page.locator("#places tbody tr").first).to_be_visible(timeout=120_000)
        expect(page.locator("#busy")).to_be_empty()
        page.screenshot(path=output, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
