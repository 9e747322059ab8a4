"""The pages against each other and against the server: links, generated pages, and lists that must be true.

`test_embedding.py` runs the programs of README.md and embedding.md, `test_format.py` and
`test_server_format.py` hold format.md against files.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from harness.differences import DIFFERENCES
from harness.local import LocalClient, local, make_local
from lamina.server import commandpage, configurationpage
from lamina.server.directives import BY_NAME, PARAMETERS
from lamina.server.errors import CommandError
from lamina.server.inert import INERT
from lamina.server.registry import all_commands
from lamina.server.settings import Settings
from lamina.tools import toolspage

__all__ = ["local", "make_local"]

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]
SERVER_SOURCES = [path for path in sorted((ROOT / "server").rglob("*.py")) if path.name != "settings.py"]
DIFFERENCES_PAGE = ROOT / "docs" / "differences.md"

_CODE = re.compile(r"^(?:```.*?^```|    .*?)$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)\s]*)\)")
_DIRECTIVE = re.compile(r"[a-z]+(?:-[a-z0-9*]+)+")


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def section_of(page: Path, title: str) -> str:
    return text_of(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


# --- Links


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the titles of a page."""
    anchors: set[str] = set()
    for title in re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S), re.M
    ):
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        number = 0
        while f"{anchor}-{number}" * bool(number) in anchors or (not number and anchor in anchors):
            number += 1
        anchors.add(f"{anchor}-{number}" if number else anchor)
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_CODE.sub("", text_of(page))):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors_of(path), target


def test_every_page_is_in_the_readme() -> None:
    linked = {ROOT / target.partition("#")[0] for target in _LINK.findall(text_of(ROOT / "README.md"))}
    assert set(PAGES) - {ROOT / "README.md"} <= linked


@pytest.mark.parametrize("name", ["server", "differences"])
def test_contents_list_every_section(name: str) -> None:
    text = text_of(ROOT / "docs" / f"{name}.md")
    listed = re.findall(r"^\d+\. \[(.*)\]\(#", text, re.MULTILINE)
    assert listed == re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\*\*(.*?)\*\* ", text_of(ROOT / "docs" / "glossary.md"), re.MULTILINE)
    keys = [word.split(",")[0].lower().replace("_", " ") for word in words]
    assert len(keys) > 90
    assert keys == sorted(keys)


def test_files_that_testing_and_benchmarks_name_are_there() -> None:
    for page, folders in (("testing", ("tests",)), ("benchmarks", ("benchmarks",))):
        names = re.findall(r"[\w/*]+\.py\b", text_of(ROOT / "docs" / f"{page}.md"))
        assert len(names) > 5
        for name in names:
            found = [*ROOT.glob(name)] + [
                path for folder in folders for path in ROOT.glob(f"{folder}/**/{name}")
            ]
            assert found, name


# --- Generated pages


def test_generated_pages_are_up_to_date() -> None:
    assert text_of(ROOT / "docs" / "commands.md") == commandpage.page(), "run `make docs`"
    assert text_of(ROOT / "docs" / "configuration.md") == configurationpage.page(), "run `make docs`"
    assert text_of(ROOT / "docs" / "tools.md") == toolspage.page(), "run `make docs`"


def test_make_docs_writes_them() -> None:
    rule = text_of(ROOT / "Makefile").split("\ndocs:")[1].split("\n\n")[0]
    for module, page in (
        ("server.commandpage", "commands"),
        ("server.configurationpage", "configuration"),
        ("tools.toolspage", "tools"),
    ):
        assert f"-m lamina.{module} docs/{page}.md" in rule


# --- configuration.md


def rows() -> dict[str, list[str]]:
    """Return the rows of the tables of directives: cells by directive."""
    found = re.findall(r"^\| (`[\w-]+`.*) \|$", text_of(ROOT / "docs" / "configuration.md"), re.MULTILINE)
    cells = [row.split(" | ") for row in found]
    return {row[0].split("`")[1]: row for row in cells if len(row) == 5}


def test_every_directive_is_told_of_once() -> None:
    own = [parameter for parameter in PARAMETERS if parameter not in INERT]
    assert list(rows()) == [parameter.name for parameter in own]
    listed = re.findall(r"`([\w-]+)`", section_of(ROOT / "docs" / "configuration.md", "Without effect"))
    told = set(listed) | set(
        re.findall(r"`([\w-]+)`", section_of(ROOT / "docs" / "configuration.md", "Files"))
    )
    assert {name for parameter in INERT for name in parameter.names} <= told
    assert set(listed) - {"yes"} <= {name.decode() for name in BY_NAME}
    assert set(configurationpage.TOPICS) <= {parameter.name for parameter in own}


def is_used(attribute: str) -> bool:
    word = re.compile(rf"\bconfig\.{attribute}\b")
    if f'"{attribute}"' in text_of(ROOT / "server" / "limits.py"):
        return True
    return any(word.search(text_of(path)) for path in [*SERVER_SOURCES, ROOT / "tools" / "serve.py"])


def test_each_directive_that_is_not_inert_is_used() -> None:
    """A directive that nothing reads is a promise not kept."""
    own = [parameter for parameter in PARAMETERS if parameter not in INERT]
    assert not [parameter.name for parameter in own if not is_used(parameter.attribute)]
    assert "config.renamed_commands" in text_of(ROOT / "server" / "listening.py")


def test_what_can_be_set_at_run_time(local: LocalClient) -> None:
    """Each table says of each directive whether CONFIG SET takes it."""
    for name, cells in rows().items():
        parameter = BY_NAME[name.encode()]
        assert (cells[3] == "no") == (parameter.access != "live"), name
        assert cells[3] in ("yes", "no", "new connections")
        if cells[3] == "no":
            value = local("CONFIG", "GET", name)[1]
            assert isinstance(local("CONFIG", "SET", name, value), CommandError)


def test_defaults_are_those_of_config_get(local: LocalClient) -> None:
    for name, cells in rows().items():
        shown = cells[2].strip("`").replace('""', "")
        if name == "dir":
            continue
        before = local("CONFIG", "GET", name)[1].decode()
        if BY_NAME[name.encode()].access == "live":
            assert local("CONFIG", "SET", name, shown) == b"OK", name
            assert local("CONFIG", "GET", name)[1].decode() == before
        else:
            parameter = BY_NAME[name.encode()]
            assert parameter.parse(shown.encode().split(b" "), parameter.default) == parameter.default


def test_lamina_s_own_are_marked() -> None:
    marked = {name for name, cells in rows().items() if "**Lamina's own.**" in cells[4]}
    assert {"memory", "dbdirname", "compression"} <= marked
    for name in marked:
        assert getattr(Settings, name.replace("-", "_")).doc.endswith("Lamina's own.")


# --- differences.md


def test_directives_that_are_named_exist() -> None:
    others = {"redis-cli", "rename-command"}
    text = text_of(DIFFERENCES_PAGE).split("\n## INFO ")[0] + section_of(DIFFERENCES_PAGE, "Clients")
    for words in re.findall(r"`([^`]+)`", text):
        name = words.split(" ")[0]
        if _DIRECTIVE.fullmatch(name) and name not in others:
            assert any(fnmatch(known.decode(), name) for known in BY_NAME), name


def test_what_is_missing_is_missing_and_nothing_else() -> None:
    section = section_of(DIFFERENCES_PAGE, "What is missing")
    for group in commandpage.REDIS_COMMANDS:
        records = [record for record in all_commands() if record.group == group]
        absent = commandpage.missing(records, group)
        assert all(re.search(rf"\b{name}\b", section) for name in absent), (group, absent)


def test_subcommands_of_debug_are_those_named(local: LocalClient) -> None:
    text = " ".join(text_of(DIFFERENCES_PAGE).split())
    (debug,) = re.findall(r"DEBUG has ([A-Z, and-]+)\.", text)
    local.server.config.enable_debug_command = "yes"
    lines = [line.decode() for line in local("DEBUG", "HELP")[1:]]
    assert set(re.findall(r"[A-Z-]+", debug)) == {line.split(" ")[0] for line in lines if line[0] != " "}


def test_fields_of_info_are_there_or_not_as_is_said(local: LocalClient) -> None:
    section = section_of(DIFFERENCES_PAGE, "INFO and other commands about the server")
    local("SET", "k", "v", "EX", 100)
    fields = set(re.findall(r"^(\w+):", local("INFO", "everything").decode(), re.MULTILINE))
    (absent,) = re.findall(r"Not there: (.*?)\. With", " ".join(section.split()))
    patterns = re.findall(r"`([\w*]+)`", absent)
    assert len(patterns) > 10
    assert not [field for field in fields for pattern in patterns if fnmatch(field, pattern)]
    table = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    named = [name for cell in table for name in re.findall(r"`([\w*]+)`", cell)]
    assert len(named) > 15
    for name in named:
        assert any(fnmatch(field, name) for field in fields), name


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.why[:40])
def test_every_difference_of_the_comparison_is_told(difference: object) -> None:
    why = getattr(difference, "why").partition(": ")  # noqa: B009
    told = why[2] or why[0]
    assert told.lower() in " ".join(text_of(DIFFERENCES_PAGE).split()).lower()


def test_a_turn_that_fails_is_answered_as_the_page_says(local: LocalClient) -> None:
    assert local.server.misconfigured().message.startswith(b"MISCONF Errors writing to the AOF file: ")
    assert "-MISCONF Errors writing to the AOF file: " in text_of(DIFFERENCES_PAGE)
