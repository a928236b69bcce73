import httpx

from fitness_api.pages import assets


async def test_the_files_of_pages_are_served_for_ever(api: httpx.AsyncClient) -> None:
    for asset in assets.all_of_them().values():
        answer = await api.get(asset.url)
        assert answer.content == asset.body
        assert answer.headers["content-type"] == asset.media_type
        assert "immutable" in answer.headers["cache-control"]


async def test_no_other_file_is_served(api: httpx.AsyncClient) -> None:
    for name in ("shell.py", "__init__.py", "..%2Ferrors.py", "x.css"):
        assert (await api.get(f"/pages/{name}")).status_code == 404
