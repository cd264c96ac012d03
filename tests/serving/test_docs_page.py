"""`/docs` works without the internet and under a strict policy."""

import asyncio
import re


def test_the_page_and_all_it_loads_come_from_this_server(make_client):
    async def go():
        async with make_client() as client:
            page = await client.get("/docs")
            script = await client.get("/docs/start.js")
            names = re.findall(r'(?:src|href)="([^"]+)"', page.text) + re.findall(r'url: "([^"]+)"', script.text)
            return page, script, {name: await client.get(f"/{name}") for name in names}

    page, script, loaded = asyncio.run(go())
    assert page.status_code == script.status_code == 200 and "PhotoMaker" in page.text
    assert len(loaded) == 5 and all(answer.status_code == 200 for answer in loaded.values())
    assert "/v1/images/edits" in loaded["openapi.json"].json()["paths"]
    assert len(loaded["docs/assets/swagger-ui-bundle.js"].content) > 500_000
    assert "javascript" in loaded["docs/assets/swagger-ui-bundle.js"].headers["content-type"]
    # Names relative to the page, so that it also works behind a proxy with a prefix.
    assert not any(name.startswith(("/", "http", "..")) for name in loaded)


def test_the_page_holds_no_script_and_says_so_to_the_browser(make_client):
    async def go():
        async with make_client() as client:
            return await client.get("/docs"), await client.get("/redoc"), await client.get("/docs/assets/../start.js")

    page, redoc, _ = asyncio.run(go())
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page.text) == ["", ""]
    assert not re.search(r"\son\w+=|style=", page.text) and redoc.status_code == 404


def test_assets_lead_nowhere_else(make_client):
    async def go():
        async with make_client() as client:
            return [await client.get(f"/docs/assets/{name}") for name in ("../core.py", "%2e%2e/core.py", "")]

    assert [answer.status_code for answer in asyncio.run(go())] == [404, 404, 404]
