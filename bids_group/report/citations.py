"""Sentences with citations, written as plain text, Markdown, LaTeX and BibTeX.

Markdown has pandoc's citations (``[@key]``), LaTeX ``\\cite{key}``, plain text author and year. Names come from users:
what has a meaning in a language is escaped there.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BIBLIOGRAPHY = Path(__file__).parent / "templates" / "references.bib"
OWN_KEY, OWN_VERSION = "bidsgroup", "VERSION"  # of this software, and what its version is put in place of
MOST_AUTHORS_CITED = 2  # of more: et al.
_ENTRY = re.compile(r"@\w+\{(?P<key>\w+),\n.*?\n\}", re.DOTALL)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)
_LATEX_CHARACTERS = {
    **{character: f"\\{character}" for character in "{}$&#_%"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", '"': "''"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", "−": "$-$", "∞": r"$\infty$"},
    **{"×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$"},
    **{"α": r"$\alpha$"},
    **{superscript: rf"\textsuperscript{{{digit}}}" for digit, superscript in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
_LATEX = str.maketrans(_LATEX_CHARACTERS)
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in r"\`*_{}[]<>#|@$~^&"})
_ACCENTS = {"{\\'e}": "é", '{\\"e}': "ë", r"$\tilde{\varepsilon}$": "ε̃", "--": "–"}


@dataclass(frozen=True)
class Sentence:
    """A sentence without its full stop, and the keys of what it cites."""

    text: str
    citations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paragraph:
    """A paragraph with its heading."""

    title: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Reference:
    """An entry of the bibliography: its key, itself as BibTeX, and its fields."""

    key: str
    bibtex: str
    fields: dict[str, str]


@cache
def read_bibliography() -> dict[str, Reference]:
    """Read all references that can be cited, by their keys, sorted."""
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    entries = [(match["key"], match[0]) for match in _ENTRY.finditer(text)]
    return {key: Reference(key, bibtex, dict(_FIELD.findall(bibtex))) for key, bibtex in sorted(entries)}


def list_cited(paragraphs: Iterable[Paragraph]) -> tuple[str, ...]:
    """Return the keys of everything that is cited, sorted."""
    return tuple(
        sorted({key for paragraph in paragraphs for sentence in paragraph.sentences for key in sentence.citations})
    )


def write_plain(paragraph: Paragraph) -> str:
    """Write the sentences of a paragraph with author and year."""
    return " ".join(_cite_plainly(sentence) for sentence in paragraph.sentences)


def _cite_plainly(sentence: Sentence) -> str:
    if not sentence.citations:
        return f"{sentence.text}."
    label = ", ".join(cite_author_year(key) for key in sentence.citations)
    if sentence.text.endswith(")"):  # one bracket for both
        return f"{sentence.text[:-1]}; {label})."
    return f"{sentence.text} ({label})."


def write_markdown(paragraphs: Sequence[Paragraph], title: str) -> str:
    """Write Markdown with pandoc's citations, which find their entries in the file that `write_bibtex` gives.

    Parameters
    ----------
    paragraphs : sequence of Paragraph
    title : str
    """
    lines = [f"# {title.translate(_MARKDOWN)}", ""]
    for paragraph in paragraphs:
        said = " ".join(
            one.text.translate(_MARKDOWN)
            + (f" [{'; '.join(f'@{key}' for key in one.citations)}]." if one.citations else ".")
            for one in paragraph.sentences
        )
        lines += [f"**{paragraph.title.translate(_MARKDOWN)}.** {said}", ""]
    return "\n".join([*lines, "# References", ""])


def write_latex(paragraphs: Sequence[Paragraph], title: str) -> str:
    """Write a section of a LaTeX document in UTF-8, whose citations find their entries in what `write_bibtex` gives.

    Parameters
    ----------
    paragraphs : sequence of Paragraph
    title : str
    """
    lines = [rf"\section*{{{_escape_latex(title)}}}", ""]
    for paragraph in paragraphs:
        said = " ".join(
            _escape_latex(one.text) + (rf"~\cite{{{','.join(one.citations)}}}." if one.citations else ".")
            for one in paragraph.sentences
        )
        lines += [rf"\paragraph{{{_escape_latex(paragraph.title)}.}} {said}", ""]
    return "\n".join(lines)


def write_bibtex(keys: Iterable[str], version: str) -> str:
    """Write the entries of a bibliography.

    Parameters
    ----------
    keys : iterable of str
    version : str
        Of this software, for its own entry.
    """
    entries = (read_bibliography()[key] for key in keys)
    return (
        "\n\n".join(one.bibtex.replace(OWN_VERSION, version) if one.key == OWN_KEY else one.bibtex for one in entries)
        + "\n"
    )


def write_reference(key: str, version: str) -> str:
    """Write an entry of the bibliography in words.

    Parameters
    ----------
    key : str
    version : str
        Of this software, for its own entry.
    """
    fields = read_bibliography()[key].fields
    year = f" ({fields['year']})" if "year" in fields else ""
    said = f"{_list_authors(fields)}{year}. {_read_latex(fields['title'])}"
    for name in ("journal", "booktitle", "publisher", "howpublished", "note"):
        if name in fields:
            said += f". {_read_latex(fields[name])}"
    if "volume" in fields:
        said += f" {fields['volume']}" + (f"({_read_latex(fields['number'])})" if "number" in fields else "")
    if "pages" in fields:
        said += f"{':' if 'volume' in fields else ', '}{_read_latex(fields['pages'])}"
    said += f". doi:{fields['doi']}" if "doi" in fields else "."
    said = said.replace("?.", "?")
    return said.replace(OWN_VERSION, version) if key == OWN_KEY else said


def cite_author_year(key: str) -> str:
    """Write a citation by author and year, such as ``Nichols & Holmes 2002``."""
    fields = read_bibliography()[key].fields
    names = [name for name, _ in _split_authors(fields)]
    is_long = len(names) > MOST_AUTHORS_CITED or names[-1] == "others"
    authors = f"{names[0]} et al." if is_long else " & ".join(names)
    return f"{authors} {fields['year']}" if "year" in fields else authors


def _escape_latex(text: str) -> str:
    return text.translate(_LATEX)


def _split_authors(fields: dict[str, str]) -> list[tuple[str, str]]:
    """Return the family name and the given names of each author, or editor where there is no author."""
    people = (fields["author"] if "author" in fields else fields["editor"]).split(" and ")
    pairs = (person.partition(", ") for person in people)
    return [(_read_latex(family), _read_latex(given)) for family, _, given in pairs]


def _list_authors(fields: dict[str, str]) -> str:
    """List authors with their initials."""
    names = []
    for family, given in _split_authors(fields):
        initials = "".join(part[0] for part in re.split(r"[ -]", given) if part)
        names.append("et al." if family == "others" else f"{family} {initials}".strip())
    return ", ".join(names).removesuffix(".")


def _read_latex(text: str) -> str:
    """Return the text of a field of a bibliography without its markup."""
    for markup, character in _ACCENTS.items():
        text = text.replace(markup, character)
    return text.replace("{", "").replace("}", "").replace("`", "'")
