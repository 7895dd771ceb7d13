"""Commands, settings, specs, paths, links and words in the documents are true of the program as it is."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer

from learning_signal import run
from learning_signal.agents.model.specs import ENVIRONMENT_PREFIX, parse_assignments, parse_spec
from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.foreign.contract import check_environment
from learning_signal.tools.plan.budget import parse_budget
from learning_signal.tools.plan.sources import gather
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
}
TEXT = "\n".join(PAGES.values())
CODE = re.findall(r"```\w*\n(.*?)```|(?<!`)`([^`\n]+)`", TEXT, re.S)
LINES = [line.strip().removeprefix("$ ") for pair in CODE for line in "".join(pair).splitlines()]
COMMANDS = sorted({line.partition("  ")[0] for line in LINES if line.startswith("python run.py ")})
MODULES = sorted(set(re.findall(r"python -m (bench\.\w+)", TEXT)))
SESSIONS = set(re.findall(r"\b2026\d{4}-\d{6}-\w{3}\b", README))
"""The session of the README's pictures and commands."""
ROLES = ("critic", "generator", "validator", "coordinator")


def block(page: str, language: str, holding: str) -> str:
    """The one fenced block of a page that holds these words."""
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.S) if holding in text)
    return found


def settings_of(path: Path):
    given = gather({}, {}, path)
    return given, given.settings(dict.fromkeys(ROLES, "rules"), dict.fromkeys(ROLES, "default"))


# the size of the README -----------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 100 and not line.startswith("|") and "](" not in line] == []


def test_picture_output_and_explanation_are_of_one_session() -> None:
    (session,) = SESSIONS
    assert session in (ROOT / "docs" / "session.svg").read_text(encoding="utf-8")


# commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the documents' commands name: a log, a shaping, settings, an environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "runs").mkdir()
    recorded_ledger(tmp_path / "runs" / "ledger.db")
    (tmp_path / "talk.py").write_text(block("docs/environments.md", "python", "ParallelTask("))
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", TEXT, re.S)):
        (tmp_path / f"block{number}.toml").write_text(text)
    (tmp_path / "session.toml").write_text(block("docs/running.md", "toml", "screen_halvings"))
    (tmp_path / "shaping.toml").write_text(
        'beta = 1.0\n[[terms]]\npotential = "speed"\nweight = 1.0\nscope = "agent"\n'
    )
    return tmp_path


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the models that the documents name: they are there when a user types these commands."""
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, "a-key-of-no-server-at-all")


def test_there_are_commands() -> None:
    """Negative control of the patterns: they find what stands in the documents."""
    assert len(COMMANDS) >= 30 and len(MODULES) >= 5 and len(PAGES) >= 15


def parsed(words: list[str]):
    """(name, values) of a command, as the command line reads them; raises where it refuses."""
    command, name = typer.main.get_command(run.application()), "run.py"
    while words and words[0] in getattr(command, "commands", {}):
        name, command = words[0], command.commands[words[0]]
        words = words[1:]
    if hasattr(command, "commands") and words and not words[0].startswith("-"):
        raise ValueError(f"no command {words[0]}")
    return name, command.make_context(name, list(words)).params


READING = {"explain", "list", "show", "search", "verify", "plot", "forecasts", "tasks"}
"""Commands that are run as they stand."""


def refused(line: str) -> str | None:
    """Why the program would refuse a command of a document, None where it takes it. Nothing is trained or contacted."""
    line = line.removeprefix("python run.py ")
    ours = [(session, RECORDED_ID) for session in SESSIONS]  # the log here is of another session than the README's
    for word, example in (*ours, ("SESSION", "latest"), ("SPEC", "rules"), ("...", "env-steps=5M")):
        line = line.replace(word, example)
    words = shlex.split(line)
    try:
        name, values = parsed(words)
    except Exception as error:  # noqa: BLE001 - whatever it raises is its refusal
        return f"{type(error).__name__}: {error}"
    for text in parse_assignments(values.get("agent") or []).values() if name not in ("show", "ab") else ():
        parse_spec(text)
    if values.get("check"):
        parse_spec(values["check"])
    if name in ("resume", "session") and values.get("budget"):
        parse_budget(values["budget"])
    if values.get("begin"):  # the session and the policy are the reader's own: there is none of this user here
        return None if "/" in values["begin"] or values["begin"] == "latest" else "no such source"
    if name in ("session", "study"):
        return _failing([*words, "--dry-run"])
    if name == "train":
        given = {"task": values["task"], "algorithm": values["algorithm"]}
        gather(given, {}, values["config"]).settings({}, {})
        return None if values["shaping"] is None or Path(values["shaping"]).is_file() else "no such shaping"
    if values.get("task"):
        make_task(values["task"], 1)
    return _failing(words) if name in READING else None


def _failing(words: list[str]) -> str | None:
    code = run.run(words)
    return None if code == 0 else f"exit code {code}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_taken_with_its_values(command: str, here: Path) -> None:
    assert refused(command) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "sesion",
        "session --sed 1",
        "log shw",
        "session --task sprad",
        "study --arms supervised,twins",
        "session --agent critic=ollma/x",
        "explain 20990101-000000-abc/R1",
        "resume latest --budget step=5",
        "train --algorithm mapo",
    ],
)
def test_a_wrong_command_would_be_noticed(wrong: str, here: Path) -> None:
    """Negative control."""
    try:
        why = refused(f"python run.py {wrong}")
    except ValueError as error:
        why = str(error)
    assert why is not None


@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_exists(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:`|^)(?:CI=true )?make (\w+)", TEXT, re.M))
    assert {"session", "test", "lint"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


# printed output -------------------------------------------------------------------------------------------------

PRINTED = re.findall(r"<!-- output: (python run\.py [^\n]*) -->\n```\n(.*?)```", TEXT, re.S)


def holds(printed: str, shown: str) -> bool:
    """Whether ``shown`` is what was printed, where a line of ``…`` stands for any lines. Ends of lines do not count."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line.rstrip()) + r"\n" for line in shown.splitlines()
    )
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed.splitlines()) + "\n") is not None


@pytest.mark.parametrize(("command", "shown"), PRINTED, ids=[command for command, _ in PRINTED])
def test_what_a_document_says_is_printed(
    command: str, shown: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run.run(shlex.split(command.removeprefix("python run.py "))) == 0
    assert holds(capsys.readouterr().out, shown)


def test_other_output_would_be_noticed() -> None:
    """Negative control."""
    assert len(PRINTED) >= 2
    assert holds("a\nb  \nc\n", "a\n…\nc\n") and holds("a\nb\n", "…\nb\n")
    assert not holds("a\nb\nc\n", "a\nc\n") and not holds("a\nb\n", "…\na\n")


# settings, specs, code ------------------------------------------------------------------------------------------


def test_every_configuration_file_is_accepted(here: Path) -> None:
    files = sorted(here.glob("block*.toml"))
    assert len(files) >= 2
    for file in files:
        settings_of(file)


def test_a_configuration_file_means_what_it_says(here: Path) -> None:
    given, settings = settings_of(here / "session.toml")
    assert (settings.rounds, settings.branch_steps, settings.deliberation.candidates) == (4, 200_000, 8)
    assert settings.run.learner.algorithm == "ippo"
    assert (settings.gate.looks, settings.gate.screen_halvings) == (8, 2)
    assert given.agents == {"critic": "ollama/qwen3:8b"}


def test_a_wrong_configuration_file_would_be_noticed(tmp_path: Path) -> None:
    """Negative control."""
    (tmp_path / "wrong.toml").write_text("[gate]\nconfirm_sedes = 6\n")
    with pytest.raises(ValueError, match="confirm_sedes"):
        settings_of(tmp_path / "wrong.toml")


def test_old_keys_are_refused_as_the_changelog_says(tmp_path: Path) -> None:
    for text in ("horizon = 7000", '[gate]\nrule = "paired"', "[need]\nevery = 2"):
        (tmp_path / "old.toml").write_text(text)
        with pytest.raises(ValueError, match="unknown"):
            settings_of(tmp_path / "old.toml")


def test_every_example_of_a_spec_is_readable() -> None:
    specs = re.findall(r"^\| `[\w-]+` \| `([^`]+)` \|", PAGES["docs/backends.md"], re.M)
    assert len(specs) == 7
    assert [parse_spec(spec).text for spec in specs] == specs


def test_every_variable_is_one_that_is_read() -> None:
    for name in set(re.findall(r"\bLEARNING_SIGNAL_[A-Z_]+", TEXT)):
        source = "".join(path.read_text("utf-8") for path in sources())
        literal = name in source or name.startswith(ENVIRONMENT_PREFIX)
        assert literal or (name == "LEARNING_SIGNAL_SEED" and gather({}, {name: "5"}, None)), name


def test_the_environment_of_a_user_is_a_task(here: Path) -> None:
    assert check_environment("talk:task", episodes=2) == []
    spec = make_task("talk:task", 2).spec
    assert [len(group.agents) for group in spec.groups] == [1, 1] and spec.max_return == 25.0


def test_python_blocks_run(here: Path) -> None:
    """Those of docs/python-api.md have tests of their own."""
    names = {"observations": make_task("spread", 4).reset(episode_seeds(0, 0, 4))}
    pages = [page for page in PAGES if page not in ("docs/python-api.md", "docs/environments.md")]
    found = [text for page in pages for text in re.findall(r"```python\n(.*?)```", PAGES[page], re.S)]
    assert found
    for text in found:
        exec(text, dict(names))


@pytest.mark.parametrize("name", re.findall(r"^\| `\w+` \| `([^`]+)`", PAGES["docs/tasks.md"], re.M))
def test_every_task_that_is_named_exists(name: str) -> None:
    assert make_task(name, 1).spec.horizon > 0


# paths, links, messages -----------------------------------------------------------------------------------------


def sources() -> list[Path]:
    rooms = ("agents", "commands", "ledger", "marl", "tools", "viewer")
    return [*ROOT.glob("*.py"), *(path for room in rooms for path in (ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    rooms = "agents|bench|commands|docs|ledger|marl|prompts|tests|tools|viewer"
    named = re.findall(rf"`((?:{rooms})/[\w./-]*)`", PAGES[page])
    assert [path for path in named if not (ROOT / path).exists()] == []


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text("utf-8")), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([\w/.-]+\.md)\)", README))
    assert set(PAGES) - linked - {"README.md", "bench/README.md"} == set()


@cache
def strings() -> str:
    """Every string of the sources, formatted parts left out, one a line."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_message_of_the_troubleshooting_page_is_one_of_the_program() -> None:
    text, messages = strings(), re.findall(r"\*\*`([^`]+)`\*\*", PAGES["docs/troubleshooting.md"])
    assert len(messages) >= 15
    assert [message for message in messages if message not in text] == []
    assert "a message of nobody" not in text


# words ----------------------------------------------------------------------------------------------------------

GLOSSARY = re.findall(r"^\| ([^|]+) \| [^|]+ \| `(\w+)` \|$", PAGES["docs/glossary.md"], re.M)
RETIRED = {
    "desk": r"\bdesks?\b",
    "need, for the reason of a round": r"\bneed (?:of|for) a round\b|\ba round is needed\b",
    "rule, for what is judged": r"\bgate rule\b|(?<!\$\.)\bgate\.rule\b",
    "horizon, for the length of a branch": r"\bhorizon of (?:a|the) branch|--horizon\b",
    "budget, for the length of a summary": r"\btoken budgets?\b|\bbudget of (?:a|the) summary",
    "stacked training": r"\bstacked (?:training|branches)\b",
}
"""Retired word -> where it is used in its retired sense. CHANGELOG.md and the glossary's own table may name them."""


def test_every_word_of_the_glossary_is_used() -> None:
    names = set(re.findall(r"\w+", "\n".join(path.read_text("utf-8") for path in sources())))
    assert len(GLOSSARY) >= 30
    assert [name for _, name in GLOSSARY if name not in names] == []


def test_the_glossary_names_the_retired_words() -> None:
    table = PAGES["docs/glossary.md"].partition("## Retired words")[2]
    assert re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.M)[1:] == list(RETIRED)


def retired_words(text: str) -> list[str]:
    return [word for word, pattern in RETIRED.items() if re.search(pattern, text, re.I)]


def test_retired_words_are_gone() -> None:
    named = {page: text for page, text in PAGES.items() if page not in ("CHANGELOG.md", "docs/glossary.md")}
    assert {page: found for page, text in named.items() if (found := retired_words(text))} == {}
    assert retired_words(strings()) == []


def test_a_retired_word_would_be_found() -> None:
    """Negative control."""
    assert retired_words("the desk; the gate rule; --horizon 5") == [
        "desk",
        "rule, for what is judged",
        "horizon, for the length of a branch",
    ]


# the example ----------------------------------------------------------------------------------------------------


def test_the_worked_example_says_what_its_report_says() -> None:
    page = (ROOT / "docs" / "example.html").read_text(encoding="utf-8")
    report = " ".join(re.sub("<[^>]+>", " ", page).split())
    told = " ".join(block("README.md", "", "generator  c3").split())
    failure = re.search("“(.+?)”", told)
    assert failure is not None and failure[1] in report
    for number in ("16 of 16", "0.0143", "1.12", "0.121", "0.0938", "2.17", "1,584,000"):
        assert number in told and number in report, number
    for term in ("-0.05*pickup_distance", "-0.1*delivery_distance", "-0.03*return_distance"):
        assert term in report and term.removeprefix("-") in told
    assert "/home/" not in page and "/root" not in page
