# ruff: noqa: SLF001  argparse offers no other way to its parts
"""Write man pages and shell completion from the parser itself: `helptexts.py DESTINATION`.

agentd(1) and the completion come from argparse, agentd.toml(5) from the shipped configuration file,
which in turn comes from the schema. So none of them can say less than the program does.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.dont_write_bytecode = True

from agentd import __version__  # noqa: E402
from agentd.cli.main import COMMANDS, build_parser  # noqa: E402

EXIT = [(0, "success"), (1, "failure"), (2, "wrong usage"), (78, "the configuration is not valid")]
FILES = [
    ("/etc/agentd/agentd.toml", "settings; see agentd.toml(5)"),
    ("/etc/agentd/conf.d/*.toml", "more settings, in order of name; later ones win"),
    ("/etc/credstore/gemini-api-key", "the API key, for root only; see agentd-set-key(8)"),
    ("/var/lib/agentd", "the handle of the conversation and what is needed to restore it"),
    ("/run/agentd/control.sock", "where agentd status, mute, volume, … talk to the daemon"),
]


def subparser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command with its arguments in it."""
    parser = build_parser([name])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: argparse.ArgumentParser = action.choices[name]
            return found
    raise LookupError(name)


def arguments(name: str) -> Iterator[argparse.Action]:
    """Yield what a command takes, apart from hidden options and --help."""
    for action in subparser(name)._actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            yield action


def escape(text: str) -> str:
    r"""Return `text` for troff: `\`, `-` and leading dots are special there."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return r"\&" + text if text.startswith((".", "'")) else text


def synopsis(action: argparse.Action) -> str:
    """Return an argument as it is typed."""
    if action.option_strings:
        name = r", ".join(rf"\fB{escape(option)}\fR" for option in action.option_strings)
        if action.nargs == 0:
            return name
        return rf"{name} \fI{escape(metavar(action))}\fR"
    return rf"\fI{escape(metavar(action))}\fR"


def metavar(action: argparse.Action) -> str:
    """Return the placeholder of an argument's value."""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper()


def header(title: str, section: int, date: str) -> str:
    """Return the first line of a page."""
    return f'.TH {title} {section} {date} "agentd {__version__}" "agentd"'


def manual(date: str) -> str:
    """Return agentd(1)."""
    lines = [
        header("AGENTD", 1, date),
        ".SH NAME",
        r"agentd, live\-emulator \- voice assistant daemon over the Gemini Live API",
        ".SH SYNOPSIS",
        r"\fBagentd\fR \fICOMMAND\fR [\fIARGUMENTS\fR]",
        ".br",
        r"\fBagentd\fR \fICOMMAND\fR \fB\-\-help\fR",
        ".SH DESCRIPTION",
        "Listens to a microphone, carries speech to one lasting Live API session and plays the",
        "replies. As a service it is started by systemd; the commands below ask it what it is",
        r"doing and tell it what to do. \fBjournalctl \-x \-u agentd\fR explains what happened.",
        ".SH COMMANDS",
    ]
    for name, command in COMMANDS.items():
        actions = list(arguments(name))
        typed = " ".join(
            synopsis(action) if action.required or not action.option_strings else ""
            for action in actions
        ).strip()
        lines += [".TP", rf"\fB{escape(name)}\fR {typed}".rstrip(), sentence(command.help)]
        options = [action for action in actions if action.option_strings]
        if options:
            lines.append(".RS")
            for action in options:
                text = sentence(action.help or "") if action.help else r"\&"
                lines += [".TP", synopsis(action), text]
            lines.append(".RE")
    lines += [
        ".PP",
        r"\fBlive\-emulator\fR is \fBagentd emulator\fR under a name of its own.",
    ]
    lines.append(".SH EXIT STATUS")
    for status, meaning in EXIT:
        lines += [".TP", str(status), sentence(meaning)]
    lines.append(".SH FILES")
    for path, meaning in FILES:
        lines += [".TP", rf"\fI{escape(path)}\fR", sentence(meaning)]
    lines += [
        ".SH SEE ALSO",
        r"\fBagentd.toml\fR(5), \fBagentd\-set\-key\fR(8), \fBagentd\-firstboot\fR(8),",
        r"\fBsystemctl\fR(1), \fBjournalctl\fR(1)",
    ]
    return "\n".join(lines) + "\n"


def sentence(text: str) -> str:
    """Return a help text as a sentence."""
    text = " ".join(text.replace("%%", "%").split())
    text = text[:1].upper() + text[1:]
    return escape(text if text.endswith((".", "?", ")")) else text + ".")


KEY = re.compile(r"^# (?P<key>[a-z_]+) = (?P<value>.*)$")
TABLE = re.compile(r"^\[(?P<table>[a-z_.]+)\]$")


def settings(date: str, shipped: str) -> str:
    """Return agentd.toml(5), from the shipped file: comment lines, then the key they explain."""
    lines = [
        header("AGENTD.TOML", 5, date),
        ".SH NAME",
        r"agentd.toml \- settings of the agentd voice assistant",
        ".SH SYNOPSIS",
        r"\fI/etc/agentd/agentd.toml\fR",
        ".br",
        r"\fI/etc/agentd/conf.d/*.toml\fR",
        ".SH DESCRIPTION",
        "TOML. The main file is read first, then those of conf.d in order of name; a later file",
        r"wins key by key. \fBagentd config check\fR names every problem,",
        r"\fBsystemctl reload agentd\fR takes a changed file into use and refuses a wrong one.",
        "Keys and accounts are not settings; see",
        r"\fBagentd\-set\-key\fR(8).",
        "Values shown are the defaults, or examples where a key may be left out.",
    ]
    comment: list[str] = []
    for line in shipped.splitlines():
        if table := TABLE.match(line):
            lines.append(f'.SH "[{escape(table["table"])}]"')
            comment = []
        elif key := KEY.match(line):
            lines.append(".TP")
            lines.append(rf"\fB{escape(key['key'])}\fR = {escape(key['value'])}")
            lines.append(sentence(" ".join(comment)) if comment else r"\&")
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            comment = []
    lines += [".SH SEE ALSO", r"\fBagentd\fR(1), \fBagentd\-set\-key\fR(8)"]
    return "\n".join(lines) + "\n"


def completion() -> str:
    """Return a completion for bash: commands, then options and choices of each."""
    cases = []
    for name in COMMANDS:
        words = [option for action in arguments(name) for option in action.option_strings]
        words += [
            str(choice)
            for action in arguments(name)
            if not action.option_strings
            for choice in action.choices or ()
        ]
        files = [
            option
            for action in arguments(name)
            for option in action.option_strings
            if action.type is Path
        ]
        case = f"        {name}) words='{' '.join([*words, '--help'])}'"
        if files:
            case += f" files='{' '.join(files)}'"
        cases.append(case + " ;;")
    return (
        "# bash completion for agentd\n\n"
        "_agentd() {\n"
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
        "    local words= files=\n"
        "    COMPREPLY=()\n"
        '    if [ "$COMP_CWORD" = 1 ]; then\n'
        f"        words='{' '.join(COMMANDS)} --help --version'\n"
        "    else\n"
        "        case ${COMP_WORDS[1]} in\n"
        + "\n".join("    " + case for case in cases)
        + "\n        esac\n"
        "    fi\n"
        '    if [[ " $files " == *" $previous "* ]]; then\n'
        '        mapfile -t COMPREPLY < <(compgen -f -- "$current")\n'
        "    else\n"
        '        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")\n'
        "    fi\n"
        "}\n"
        "complete -F _agentd agentd\n"
    )


def main() -> None:
    """Write everything below the folder named on the command line."""
    destination, date = Path(sys.argv[1]), sys.argv[2]
    shipped = Path("config/agentd.toml").read_text(encoding="utf-8")
    texts = {
        "agentd.1": manual(date),
        "agentd.toml.5": settings(date, shipped),
        "agentd.bash": completion(),
    }
    destination.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (destination / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
