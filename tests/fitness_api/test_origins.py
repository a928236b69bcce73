from starlette.requests import Request

from fitness_api.origins import MAX_USER_AGENT, origin_of


def request(user_agent: str, client: tuple[str, int] | None) -> Request:
    headers = [(b"user-agent", user_agent.encode())]
    return Request({"type": "http", "headers": headers, "client": client, "method": "GET", "path": "/"})


def test_it_tells_the_address_and_no_more_of_a_header_than_a_person_reads() -> None:
    origin = origin_of(request("x" * 60_000, ("192.0.2.1", 5)))
    assert (origin.address, origin.user_agent) == ("192.0.2.1", "x" * MAX_USER_AGENT)
    assert origin_of(request("", None)).address == ""
